/* Cutting output into lines, and what all drivers share; see log.h for the rules. */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static const struct log_driver *const drivers[] = {&log_file_driver, &log_journal_driver, &log_syslog_driver};

int64_t log_milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void look_at_clock(struct log *log)
{
	struct timespec now;
	struct text text;

	clock_gettime(CLOCK_REALTIME, &now);
	log->now_seconds = now.tv_sec;
	log->now_nanoseconds = now.tv_nsec;
	text_init(&text, log->now, sizeof log->now);
	text_time(&text, now.tv_sec, now.tv_nsec);
	text_bytes(&text, "", 1);
	log->file.tail[0].length = log->file.tail[1].length = 0;
}

/* Opens the log that SETUP describes; 0 or an errno.  What cannot be opened yet loses lines until it can. */
int log_open(struct log *log, const struct log_setup *setup)
{
	size_t i;

	log->setup = *setup;
	log->fd = -1;
	log->driver = NULL;
	for (i = 0; i < sizeof drivers / sizeof *drivers; i++)
		if (!strcmp(drivers[i]->name, setup->driver ? setup->driver : drivers[0]->name))
			log->driver = drivers[i];
	look_at_clock(log);
	log->opened = log->now_seconds;
	return log->driver ? log->driver->open(log) : EINVAL;
}

/* Says how many lines are missing; the length of the text in BUFFER, which holds LOG_LOST bytes. */
size_t log_lost_text(const struct log *log, char *buffer)
{
	struct text text;

	text_init(&text, buffer, LOG_LOST);
	text_add(&text, "[rootless: ");
	text_number(&text, (int64_t)log->lost);
	text_add(&text, " log lines were lost, errno ");
	text_number(&text, log->lost_errno);
	text_add(&text, "]\n");
	return (size_t)(text.at - buffer);
}

/* Hands an entry to the driver or drops it; false if it is to be kept, as there is no room for it now. */
static bool emit(struct log *log, const struct log_entry *entry)
{
	if (log->driver->put(log, entry))
		return true;
	log->driver->flush(log);
	if (log->driver->put(log, entry))
		return true;
	if (!log->setup.buffer && !log->giving_up && log_socket_connected(log))
		return false; /* whoever reads the log is slow, and will have all of it */
	log->lost++;
	log->lost_errno = log_socket_connected(log) ? ENOBUFS : ENOTCONN;
	return true;
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

static bool ends_line(const struct log_line *line)
{
	return line->ended || line->data[line->length - 1] == '\n';
}

static bool is_due(const struct log_line *line)
{
	return line->length > 0 && (line->length == LOG_LINE || ends_line(line));
}

/* Lets go of what has been collected of a line, as far as it is due; false if some of that has to stay. */
static bool release(struct log *log, unsigned stream)
{
	struct log_line *line = &log->line[stream];

	while (is_due(line)) {
		bool last = ends_line(line);
		struct log_entry entry = {.stream = stream, .data = line->data, .more = !last};

		if (!line->part && !last)
			line->id = ++log->long_lines;
		entry.length = last ? line->length : cut(line->data);
		entry.part = last && !line->part ? 0 : line->part + 1;
		entry.id = line->id;
		if (!emit(log, &entry))
			return false;
		line->part = last ? 0 : entry.part;
		line->length -= entry.length;
		memmove(line->data, line->data + entry.length, line->length);
		if (last)
			line->ended = false;
	}
	return true;
}

/* Adds to the unfinished line of STREAM; how much there was room for. */
static size_t collect(struct log_line *line, const char *data, size_t length)
{
	size_t count = LOG_LINE - line->length;

	if (count > length)
		count = length;
	memcpy(line->data + line->length, data, count);
	line->length += count;
	return count;
}

/* Logs what was read from STREAM (0 stdout, 1 stderr); a line that is not finished waits for its rest.  How
 * much was taken: the rest has to be given again later. */
size_t log_add(struct log *log, unsigned stream, const char *data, size_t length)
{
	struct log_line *line = &log->line[stream];
	struct log_entry entry = {.stream = stream};
	const char *newline;
	size_t done = 0, count;

	if (!log->driver)
		return length;
	look_at_clock(log);
	if (!release(log, stream))
		return 0;
	while (done < length) {
		newline = memchr(data + done, '\n', length - done);
		count = newline ? (size_t)(newline + 1 - (data + done)) : length - done;
		if (newline && !line->length && !line->part && count <= LOG_LINE) {
			entry.data = data + done;
			entry.length = count;
			if (!emit(log, &entry))
				break;
			done += count;
			continue;
		}
		done += collect(line, data + done, count);
		if (!release(log, stream))
			break;
	}
	return done;
}

/* Logs a line of our own, or counts it as lost. */
void log_note(struct log *log, const char *text, size_t length)
{
	struct log_entry entry = {.stream = 1, .data = text, .length = length};

	if (!log->driver)
		return;
	look_at_clock(log);
	if (!emit(log, &entry))
		log->lost++;
	log_flush(log);
}

/* The last line of STREAM will not go on. */
void log_end_line(struct log *log, unsigned stream)
{
	struct log_line *line = &log->line[stream];

	line->ended = line->length > 0;
	line->part = line->length ? line->part : 0;
	if (log->driver)
		release(log, stream);
}

/* Writes what was added, as far as that is possible now. */
void log_flush(struct log *log)
{
	unsigned i;

	if (!log->driver)
		return;
	log->driver->flush(log);
	for (i = 0; i < 2; i++)
		if (log->line[i].ended)
			release(log, i);
}

/* Whether something is still to be written. */
bool log_waits(const struct log *log)
{
	return log->driver && !log->giving_up &&
	       (log->socket.head != log->socket.tail || log->socket.wrapped || is_due(&log->line[0]) ||
		is_due(&log->line[1]));
}

/* Nothing is waited for from now on: what cannot be written is lost. */
void log_give_up(struct log *log)
{
	log->giving_up = true;
	log_flush(log);
}
