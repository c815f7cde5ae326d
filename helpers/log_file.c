/* json-file: one JSON object per line of output, in a file that is rotated by size.
 *
 * Everything added in one round of the caller is written by one write(), of whole lines.  A file on a disk
 * that is full loses lines; a file that somebody replaced by a FIFO does not hold the container up.
 */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_AROUND 160 /* what an entry has beside its text and its attributes */

/* A line that somebody's death left unfinished is ended, so that the next one begins where it should. */
static void end_torn_line(const struct log *log)
{
	int fd = open(log->setup.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char last = '\n';

	if (fd < 0)
		return;
	if (pread(fd, &last, 1, log->file.size - 1) == 1 && last != '\n' && write(log->fd, "\n", 1) < 0)
		errno = 0; /* the reader leaves out one line more */
	close(fd);
}

static int open_log_file(struct log *log)
{
	struct stat status;

	/* O_NONBLOCK: a FIFO that someone put here must not hold the container up. */
	log->fd = open(log->setup.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
	if (log->fd < 0)
		return errno;
	log->file.size = fstat(log->fd, &status) == 0 && S_ISREG(status.st_mode) ? status.st_size : 0;
	if (log->file.size > 0)
		end_torn_line(log);
	return 0;
}

static int file_open(struct log *log)
{
	int error;

	log->setup.max_size = log->setup.max_size > 0 ? log->setup.max_size : 0;
	log->setup.max_file = log->setup.max_file > 0 ? log->setup.max_file : 1;
	log->memory_size = 6 * LOG_LINE + FILE_AROUND + log->setup.attrs.length; /* a byte becomes six at most */
	log->memory = mmap(NULL, log->memory_size + 2 * (FILE_AROUND + log->setup.attrs.length), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (log->memory == MAP_FAILED) {
		log->driver = NULL;
		return errno;
	}
	error = open_log_file(log);
	log_pack_start(log);
	return error;
}

/* PATH.NUMBER, or PATH itself for 0, with SUFFIX; false if it is too long. */
bool log_file_name(char *to, size_t size, const char *path, int64_t number, const char *suffix)
{
	struct text text;

	text_init(&text, to, size);
	text_add(&text, path);
	if (number > 0) {
		text_add(&text, ".");
		text_number(&text, number);
	}
	text_add(&text, suffix);
	text_bytes(&text, "", 1);
	return !text.full;
}

static void move(const char *path, int64_t number, const char *suffix)
{
	char from[PATH_MAX], to[PATH_MAX];

	if (log_file_name(from, sizeof from, path, number, suffix) &&
	    log_file_name(to, sizeof to, path, number + 1, suffix))
		rename(from, to);
}

static void drop(const char *path, int64_t number, const char *suffix)
{
	char name[PATH_MAX];

	if (log_file_name(name, sizeof name, path, number, suffix))
		unlink(name);
}

/* PATH becomes PATH.1, that PATH.2, and so on; max_file counts PATH too. */
static void rotate_files(struct log *log)
{
	const char *path = log->setup.path;
	int64_t i;

	if (log->setup.packer && log->setup.max_file > 1) {
		drop(path, log->setup.max_file - 1, "");
		drop(path, log->setup.max_file - 1, ".gz");
	}
	for (i = log->setup.max_file - 2; i >= 0; i--) {
		move(path, i, "");
		if (i > 0 && log->setup.packer)
			move(path, i, ".gz");
	}
	close(log->fd);
	log->fd = -1;
	if (log->setup.max_file == 1)
		unlink(path); /* whoever reads the old one goes on, and sees that there is a new one */
	open_log_file(log);
	log_pack_rotated(log);
}

/* Appends all of DATA or nothing; 0 or an errno. */
static int append_lines(struct log *log, const char *data, size_t length)
{
	size_t done = 0;
	ssize_t count;
	int error = 0;

	if (log->fd < 0 && (error = open_log_file(log)) != 0)
		return error;
	while (done < length) {
		count = write(log->fd, data + done, length - done);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0) {
			error = count < 0 ? errno : EIO;
			/* Take a half-written line back: a reader must never see one. */
			if (done > 0 && ftruncate(log->fd, log->file.size) < 0)
				log->file.size += (int64_t)done;
			return error;
		}
		done += (size_t)count;
	}
	log->file.size += (int64_t)length;
	return 0;
}

/* Says in the log how many lines are missing before it; 0 or an errno. */
static int report_lost(struct log *log)
{
	char line[LOG_LOST], buffer[2 * LOG_LOST];
	size_t length = log_lost_text(log, line);
	struct text text;
	int error;

	text_init(&text, buffer, sizeof buffer);
	text_add(&text, "{\"log\":\"");
	text_json(&text, line, length);
	text_add(&text, "\",\"stream\":\"stderr\",\"time\":\"");
	text_add(&text, log->now);
	text_add(&text, "\"}\n");
	error = append_lines(log, buffer, (size_t)(text.at - buffer));
	if (!error)
		log->lost = 0;
	return error;
}

/* Writes what was added; what cannot be written is dropped and counted. */
static void file_flush(struct log *log)
{
	int error = 0;

	if (!log->file.used)
		return;
	if (log->lost)
		error = report_lost(log);
	if (!error)
		error = append_lines(log, log->memory, log->file.used);
	if (error) {
		log->lost += log->file.buffered;
		log->lost_errno = error;
	}
	log->file.used = 0;
	log->file.buffered = 0;
}

/* What ends every entry of STREAM at this time. */
static const struct span *tail(struct log *log, unsigned stream)
{
	size_t room = FILE_AROUND + log->setup.attrs.length;
	struct span *span = &log->file.tail[stream];
	struct text text;

	if (span->length)
		return span;
	text_init(&text, log->memory + log->memory_size + stream * room, room);
	text_add(&text, stream ? "\",\"stream\":\"stderr\"," : "\",\"stream\":\"stdout\",");
	text_bytes(&text, log->setup.attrs.data, log->setup.attrs.length);
	text_add(&text, "\"time\":\"");
	text_add(&text, log->now);
	text_add(&text, "\"}\n");
	span->data = log->memory + log->memory_size + stream * room;
	span->length = (size_t)(text.at - span->data);
	return span;
}

static bool file_put(struct log *log, const struct log_entry *entry)
{
	static const char head[] = "{\"log\":\"";
	const struct span *end = tail(log, entry->stream);
	char *start, *at;
	size_t size;

	if (6 * entry->length + sizeof head + end->length > log->memory_size - log->file.used)
		file_flush(log);
	start = at = log->memory + log->file.used;
	memcpy(at, head, sizeof head - 1);
	at = text_json_unchecked(at + sizeof head - 1, entry->data, entry->length);
	memcpy(at, end->data, end->length);
	size = (size_t)(at - start) + end->length;
	if (log->setup.max_size && log->file.size + (int64_t)log->file.used > 0 &&
	    log->file.size + (int64_t)(log->file.used + size) > log->setup.max_size) {
		file_flush(log);
		if (log->fd >= 0 && log->file.size > 0 && log->file.size + (int64_t)size > log->setup.max_size)
			rotate_files(log);
		memmove(log->memory, start, size);
	}
	log->file.used += size;
	log->file.buffered++;
	return true;
}

const struct log_driver log_file_driver = {"json-file", file_open, file_put, file_flush};
