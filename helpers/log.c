/* Writing the json-file log; see log.h for its rules. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int open_file(struct log *log, int flags)
{
	struct stat status;

	/* O_NONBLOCK: a FIFO that someone put here must not hold the container up. */
	log->fd = open(log->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | flags, 0640);
	if (log->fd < 0)
		return errno;
	log->size = fstat(log->fd, &status) == 0 ? status.st_size : 0;
	return 0;
}

/* Opens the log at PATH, which the caller keeps; 0 or an errno, and then lines are lost until it can be
 * opened. */
int log_open(struct log *log, const char *path, int64_t max_size, int64_t max_file)
{
	log->path = path;
	log->max_size = max_size > 0 ? max_size : 0;
	log->max_file = max_file > 0 ? max_file : 1;
	return open_file(log, 0);
}

/* PATH.NUMBER, or PATH itself for 0; false if it is too long. */
static bool rotated_name(char *to, size_t size, const char *path, int64_t number)
{
	struct text text;

	text_init(&text, to, size);
	text_add(&text, path);
	if (number > 0) {
		text_add(&text, ".");
		text_number(&text, number);
	}
	text_bytes(&text, "", 1);
	return !text.full;
}

/* PATH becomes PATH.1, that PATH.2, and so on; max_file counts PATH too. */
static void rotate(struct log *log)
{
	char from[PATH_MAX], to[PATH_MAX];
	int64_t i;

	for (i = log->max_file - 1; i > 0; i--)
		if (rotated_name(from, sizeof from, log->path, i - 1) && rotated_name(to, sizeof to, log->path, i))
			rename(from, to);
	close(log->fd);
	log->fd = -1;
	open_file(log, log->max_file == 1 ? O_TRUNC : 0);
}

/* Appends all of DATA or nothing; 0 or an errno. */
static int append(struct log *log, const char *data, size_t length)
{
	size_t done = 0;
	ssize_t count;
	int error = 0;

	if (log->fd < 0 && (error = open_file(log, 0)) != 0)
		return error;
	while (done < length) {
		count = write(log->fd, data + done, length - done);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0) {
			error = count < 0 ? errno : EIO;
			/* Take a half-written line back: a reader must never see one. */
			if (done > 0 && ftruncate(log->fd, log->size) < 0)
				log->size += (int64_t)done;
			return error;
		}
		done += (size_t)count;
	}
	log->size += (int64_t)length;
	return 0;
}

/* Says in the log how many lines are missing before it; 0 or an errno. */
static int report_lost(struct log *log)
{
	char line[256];
	struct text text;
	int error;

	text_init(&text, line, sizeof line);
	text_add(&text, "{\"log\":\"[rootless: ");
	text_number(&text, (int64_t)log->lost);
	text_add(&text, " log lines were lost, errno ");
	text_number(&text, log->lost_errno);
	text_add(&text, "]\\n\",\"stream\":\"stderr\",\"time\":\"");
	text_add(&text, log->now);
	text_add(&text, "\"}\n");
	error = append(log, line, (size_t)(text.at - line));
	if (!error)
		log->lost = 0;
	return error;
}

/* Writes what was added; what cannot be written is dropped and counted. */
void log_flush(struct log *log)
{
	int error = 0;

	if (!log->path || !log->used)
		return;
	if (log->lost)
		error = report_lost(log);
	if (!error)
		error = append(log, log->buffer, log->used);
	if (error) {
		log->lost += log->buffered;
		log->lost_errno = error;
	}
	log->used = 0;
	log->buffered = 0;
}

static bool put_entry(struct log *log, unsigned stream, const char *data, size_t length)
{
	struct text text;
	size_t size;

	text_init(&text, log->buffer + log->used, sizeof log->buffer - log->used);
	text_add(&text, "{\"log\":\"");
	text_json(&text, data, length);
	text_add(&text, stream ? "\",\"stream\":\"stderr\",\"time\":\"" : "\",\"stream\":\"stdout\",\"time\":\"");
	text_add(&text, log->now);
	text_add(&text, "\"}\n");
	if (text.full)
		return false;
	size = (size_t)(text.at - log->buffer) - log->used;
	if (log->max_size && log->size + (int64_t)log->used > 0 &&
	    log->size + (int64_t)(log->used + size) > log->max_size) {
		if (log->used)
			return false; /* flush first, then decide again with an empty buffer */
		if (log->fd >= 0)
			rotate(log);
	}
	log->used += size;
	log->buffered++;
	return true;
}

static void add_entry(struct log *log, unsigned stream, const char *data, size_t length)
{
	if (put_entry(log, stream, data, length))
		return;
	log_flush(log);
	put_entry(log, stream, data, length);
}

/* Where to cut DATA, which holds LOG_LINE bytes of one line, so that no character is cut in two. */
static size_t cut(const char *data)
{
	size_t back;

	for (back = 1; back <= 3; back++) {
		unsigned char c = (unsigned char)data[LOG_LINE - back];

		if (c < 0x80)
			break;
		if (c >= 0xc0) {
			size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
			return need > back ? LOG_LINE - back : LOG_LINE;
		}
	}
	return LOG_LINE;
}

/* Adds to the unfinished line of STREAM, and lets go of it when it is full. */
static void add_partial(struct log *log, unsigned stream, const char *data, size_t length)
{
	struct log_line *line = &log->line[stream];
	size_t count, end;

	while (length > 0) {
		count = LOG_LINE - line->length;
		if (count > length)
			count = length;
		memcpy(line->data + line->length, data, count);
		line->length += count;
		data += count;
		length -= count;
		if (line->length < LOG_LINE || (length == 0 && line->data[LOG_LINE - 1] == '\n'))
			break;
		end = cut(line->data);
		add_entry(log, stream, line->data, end);
		line->length -= end;
		memmove(line->data, line->data + end, line->length);
	}
}

/* Logs what was read from STREAM (0 stdout, 1 stderr); a line that is not finished waits for its rest. */
void log_add(struct log *log, unsigned stream, const char *data, size_t length)
{
	struct log_line *line = &log->line[stream];
	const char *newline;
	struct timespec now;
	struct text text;
	size_t count;

	if (!log->path)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	text_init(&text, log->now, sizeof log->now);
	text_time(&text, now.tv_sec, now.tv_nsec);
	text_bytes(&text, "", 1);
	while (length > 0) {
		newline = memchr(data, '\n', length);
		count = newline ? (size_t)(newline - data) + 1 : length;
		if (newline && line->length == 0 && count <= LOG_LINE) {
			add_entry(log, stream, data, count);
		} else {
			add_partial(log, stream, data, count);
			if (newline)
				log_end_line(log, stream);
		}
		data += count;
		length -= count;
	}
}

/* Logs what is left of the last line of STREAM. */
void log_end_line(struct log *log, unsigned stream)
{
	struct log_line *line = &log->line[stream];

	if (log->path && line->length > 0)
		add_entry(log, stream, line->data, line->length);
	line->length = 0;
}
