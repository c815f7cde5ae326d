/* The log of what a container writes: lines are cut out of its output and handed to a driver.
 *
 * Lines of output are at most LOG_LINE bytes; longer ones become several entries, of which only the last
 * ends in "\n".  A driver either writes an entry, keeps it in the memory that it was given when the log was
 * opened, or has no room for it.  Then the caller keeps the output, and with it the container waits, unless
 * the log was told not to block: what there is no room for, or what cannot be written, is dropped,
 * counted and, once writing works again, reported in the log itself.  No call here waits for anybody.
 *
 *   log.c         lines, and what all drivers share
 *   log_file.c    json-file: objects in a file, rotated by size
 *   log_pack.c    and compressed by a child
 *   log_socket.c  what journald and syslog share: a queue and a socket that does not block
 *   log_journal.c, log_syslog.c  their formats
 *   log_setup.c   what a log is told about itself
 *   log_text.c    text in fixed buffers
 */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOG_LINE 16384
#define LOG_LOST 256	    /* any note about lost lines fits */
#define LOG_QUEUE (1 << 18) /* bytes that wait where the log may block */
#define LOG_QUEUE_MAX (1 << 30)
#define LOG_PROGRAM_FDS 10

/* A text that grows in a fixed buffer; what does not fit sets full and is left out. */
struct text {
	char *at, *end;
	bool full;
};

struct span {
	const char *data;
	size_t length;
};

/* What a log is told; it lives as long as the log.  Written by drivers/log/, read by log_setup.c. */
struct log_setup {
	const char *driver; /* json-file, journald or syslog; NULL is the first */
	const char *path;
	int64_t max_size, max_file; /* max_size 0 is no limit */
	int64_t buffer;		    /* bytes that wait at most where the log must not block; 0: it may */
	struct span attrs;	    /* json-file: text before the time; journald: ready fields */
	struct span address;	    /* a sockaddr */
	int64_t type;		    /* of the socket */
	const char *format, *host, *tag;
	int64_t facility, zone; /* zone: seconds east of Greenwich */
	const char *packer, *packer_program;
	/* Executes a program, as child_spawn() in monitor.h does; NULL: nothing is compressed. */
	pid_t (*spawn)(const char *path, char *const argv[], const int fds[LOG_PROGRAM_FDS]);
};

/* A line of output, or a part of a long one. */
struct log_entry {
	unsigned stream;
	const char *data; /* with its newline, if it has one */
	size_t length;
	unsigned part; /* which of a long line's, from 1; 0: the line is whole */
	bool more;     /* of the line follows */
	uint64_t id;   /* of the long line */
};

struct log_line {
	size_t length;
	unsigned part;
	uint64_t id;
	bool ended; /* nothing will follow what is there */
	char data[LOG_LINE];
};

struct log;

struct log_driver {
	const char *name;
	int (*open)(struct log *log);				     /* 0 or an errno */
	bool (*put)(struct log *log, const struct log_entry *entry); /* false: no room now */
	void (*flush)(struct log *log);				     /* write what can be written now */
};

typedef void log_format(struct log *log, struct text *text, const struct log_entry *entry);

struct log_file {
	int64_t size;
	size_t used;
	unsigned buffered;   /* lines in memory */
	struct span tail[2]; /* what ends an entry of each stream, at this time */
	pid_t packer;	     /* compresses; 0: nobody does */
	int64_t packing;     /* the number that its file has by now */
	bool pack_failed;
};

struct log_socket {
	size_t head, tail; /* of the queue */
	size_t sent;	   /* bytes of the first record that a stream has taken */
	size_t largest;	   /* a record can be */
	bool wrapped, connecting;
	int64_t retry_at;
};

struct log {
	const struct log_driver *driver; /* NULL: there is no log */
	struct log_setup setup;
	int fd;
	char *memory;
	size_t memory_size;
	bool giving_up; /* nothing is waited for any more */
	uint64_t lost;	/* lines dropped and not yet reported */
	int lost_errno;
	int64_t opened; /* seconds since 1970 */
	int64_t now_seconds;
	long now_nanoseconds;
	char now[40];
	uint64_t long_lines; /* begun so far */
	struct log_line line[2];
	struct log_file file;
	struct log_socket socket;
};

/* log.c */
int log_open(struct log *log, const struct log_setup *setup);
size_t log_add(struct log *log, unsigned stream, const char *data, size_t length);
void log_note(struct log *log, const char *text, size_t length);
void log_end_line(struct log *log, unsigned stream);
void log_flush(struct log *log);
bool log_waits(const struct log *log);
void log_give_up(struct log *log);
size_t log_lost_text(const struct log *log, char *buffer);

/* log_file.c */
extern const struct log_driver log_file_driver;
bool log_file_name(char *to, size_t size, const char *path, int64_t number, const char *suffix);

/* log_pack.c */
void log_pack_start(struct log *log);
void log_pack_rotated(struct log *log);
void log_pack_stop(struct log *log);
bool log_pack_ended(struct log *log, pid_t pid, int status);

/* log_socket.c */
short log_socket_events(const struct log *log);
void log_socket_ready(struct log *log, short events);
int64_t log_socket_due(const struct log *log);
int log_socket_open(struct log *log);
bool log_socket_put(struct log *log, const struct log_entry *entry, log_format *format);
void log_socket_flush(struct log *log);
bool log_socket_connected(const struct log *log);
int64_t log_milliseconds(void);

/* log_journal.c, log_syslog.c */
extern const struct log_driver log_journal_driver, log_syslog_driver;
int log_journal_send_file(int socket, const char *data, size_t length);

/* log_setup.c */
int log_setup_read(struct log_setup *setup, const char *path);
bool log_setup_parse(struct log_setup *setup, const char *data, size_t length);

/* log_text.c */
void text_init(struct text *text, char *buffer, size_t size);
void text_bytes(struct text *text, const char *data, size_t length);
void text_add(struct text *text, const char *string);
void text_number(struct text *text, int64_t number);
void text_padded(struct text *text, uint64_t number, int width);
void text_json(struct text *text, const char *data, size_t length);
char *text_json_unchecked(char *to, const char *data, size_t length);
void text_time(struct text *text, int64_t seconds, long nanoseconds);
void text_zoned_time(struct text *text, int64_t seconds, long microseconds, int64_t zone);
void text_stamp(struct text *text, int64_t seconds, int64_t zone);

#endif
