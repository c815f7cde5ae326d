/* The json-file log: one JSON object per line of output, rotated by size.
 *
 * Lines of output are at most LOG_LINE bytes; longer ones become several objects, of which only the last
 * ends in "\n".  Everything added in one round of the caller is written by one write().  What cannot be
 * written is dropped, counted and, once writing works again, reported in the log itself.
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE 16384
#define LOG_BUFFER (6 * LOG_LINE + 256) /* any one line fits: a byte becomes six at most */

/* A text that grows in a fixed buffer; what does not fit sets full and is left out. */
struct text {
	char *at, *end;
	bool full;
};

struct log_line {
	size_t length;
	char data[LOG_LINE];
};

struct log {
	const char *path; /* NULL: there is no log */
	int fd;
	int64_t size, max_size; /* of the file; max_size 0 is no limit */
	int64_t max_file;
	size_t used;
	unsigned buffered; /* lines in buffer */
	uint64_t lost;	   /* lines dropped and not yet reported */
	int lost_errno;
	char now[40];
	struct log_line line[2];
	char buffer[LOG_BUFFER];
};

int log_open(struct log *log, const char *path, int64_t max_size, int64_t max_file);
void log_add(struct log *log, unsigned stream, const char *data, size_t length);
void log_end_line(struct log *log, unsigned stream);
void log_flush(struct log *log);

/* log_text.c */
void text_init(struct text *text, char *buffer, size_t size);
void text_bytes(struct text *text, const char *data, size_t length);
void text_add(struct text *text, const char *string);
void text_number(struct text *text, int64_t number);
void text_json(struct text *text, const char *data, size_t length);
void text_time(struct text *text, int64_t seconds, long nanoseconds);

#endif
