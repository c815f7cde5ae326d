/* Events: one line of JSON for what has happened, at the end of a file that all processes of the user share.
 *
 * The same file and the same rules as store/events.py: a line is written by one write() that appends, so lines
 * never mix; one that a full disk has torn is closed with a newline by whoever writes next, and skipped by
 * readers; at its limit the file is renamed, under a lock that nobody waits for.  What cannot be written is
 * left out: an event never holds a container up.
 *
 * What the engine knows of the container is in a file beside its tape, which changes with a new name or a
 * network that is connected.  Its lines, by their first byte:
 *   A  members of the container's attributes: "image":"alpine","name":"web"
 *   U  another object's event at each start, but for its time and last brace: a volume mounted, a network connected
 *   D  the same at each end
 * The last one read is kept, should the runtime directory be wiped.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

#define LINES_SIZE (128 << 10)
#define HEAD_SIZE 2048

static char lines[LINES_SIZE]; /* its pages appear as they are used */
static size_t event_lines_length;

/* PATH with SUFFIX put in place of its last component, or behind it. */
static bool event_path(const char *path, bool instead, const char *suffix, char to[PATH_MAX])
{
	const char *slash = instead ? strrchr(path, '/') : NULL;
	struct text text;

	text_init(&text, to, PATH_MAX);
	text_bytes(&text, path, slash ? (size_t)(slash - path) + 1 : strlen(path));
	text_bytes(&text, suffix, strlen(suffix) + 1);
	return !text.full;
}

static int event_open(const char *path)
{
	int flags = O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	char directory[PATH_MAX];
	int fd = open(path, flags, 0600);

	if (fd < 0 && errno == ENOENT && event_path(path, true, "", directory) && mkdir(directory, 0700) == 0)
		fd = open(path, flags, 0600);
	return fd;
}

/* Gives the file and its predecessor their next names, unless somebody else does or has. */
static void event_rotate(const char *path, int64_t limit)
{
	char lock[PATH_MAX], first[PATH_MAX], second[PATH_MAX];
	struct stat now;
	int fd;

	if (!event_path(path, true, "lock", lock) || !event_path(path, false, ".1", first) ||
	    !event_path(path, false, ".2", second))
		return;
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && stat(path, &now) == 0 && now.st_size >= limit) {
		rename(first, second);
		rename(path, first);
	}
	close(fd);
}

/* Appends what PARTS say, of which the first is room for the newline that a torn line lacks. */
static void event_append(const struct config *config, struct iovec *parts, int count)
{
	int fd = event_open(config->events);
	struct stat now;
	char last = '\n';

	if (fd >= 0 && config->events_max_size && fstat(fd, &now) == 0 && now.st_size >= config->events_max_size) {
		close(fd);
		event_rotate(config->events, config->events_max_size);
		fd = event_open(config->events);
	}
	if (fd < 0)
		return;
	if (fstat(fd, &now) == 0 && S_ISREG(now.st_mode)) {
		if (now.st_size > 0 && pread(fd, &last, 1, now.st_size - 1) == 1 && last != '\n')
			parts[0].iov_len = 1;
		if (writev(fd, parts, count) < 0)
			errno = 0; /* a full disk: there is nobody to tell */
	}
	close(fd);
}

static size_t event_time(char *buffer, size_t size)
{
	struct timespec now;
	struct text text;

	clock_gettime(CLOCK_REALTIME, &now);
	text_init(&text, buffer, size);
	text_add(&text, ",\"time\":");
	text_number(&text, now.tv_sec);
	text_add(&text, ",\"timeNano\":");
	text_number(&text, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
	text_add(&text, "}\n");
	return (size_t)(text.at - buffer);
}

/* Reads the container's file anew; what cannot be read leaves what is known. */
static void event_lines_read(const struct config *config)
{
	int fd = config->event_lines ? open(config->event_lines, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	size_t length = 0;
	ssize_t count;

	if (fd < 0)
		return;
	while (length < sizeof lines && (count = read(fd, lines + length, sizeof lines - length)) > 0)
		length += (size_t)count;
	close(fd);
	while (length && lines[length - 1] != '\n')
		length--; /* a line that is not whole */
	event_lines_length = length;
}

/* The next line that begins with KIND from *AT on, without that byte and its newline; NULL if there is none. */
static const char *event_line(char kind, size_t *at, size_t *length)
{
	while (*at < event_lines_length) {
		const char *line = lines + *at;
		const char *end = memchr(line, '\n', event_lines_length - *at);

		*at = (size_t)(end - lines) + 1;
		*length = (size_t)(end - line);
		if (*length && line[0] == kind) {
			--*length;
			return line + 1;
		}
	}
	return NULL;
}

/* Writes an event of the container: ACTION, and EXTRA members of its attributes ("" for none), which stand behind
 * its labels and so before them for who reads. */
void events_emit(const struct monitor *m, const char *action, const char *extra)
{
	static char newline[] = "\n", comma[] = ",", tail[] = "}},\"scope\":\"local\"";
	char head[HEAD_SIZE], when[96];
	size_t length = 0, at = 0;
	const char *attributes;
	struct text text;

	if (!m->config.events)
		return;
	event_lines_read(&m->config);
	attributes = event_line('A', &at, &length);
	text_init(&text, head, sizeof head);
	text_add(&text, "{\"Type\":\"container\",\"Action\":\"");
	text_json(&text, action, strlen(action));
	text_add(&text, "\",\"Actor\":{\"ID\":\"");
	text_json(&text, m->config.id, strlen(m->config.id));
	text_add(&text, "\",\"Attributes\":{");
	if (text.full)
		return;
	event_append(&m->config,
		     (struct iovec[]){{newline, 0},
				      {head, (size_t)(text.at - head)},
				      {(char *)attributes, attributes ? length : 0},
				      {comma, *extra && attributes && length ? 1 : 0},
				      {(char *)extra, strlen(extra)},
				      {tail, sizeof tail - 1},
				      {when, event_time(when, sizeof when)}},
		     7);
}

/* Writes the events of other objects that come with a start (U) or an end (D) of the container. */
void events_emit_lines(const struct monitor *m, char kind)
{
	static char newline[] = "\n";
	char when[96];
	size_t at = 0, length;
	const char *line;

	if (!m->config.events)
		return;
	event_lines_read(&m->config);
	while ((line = event_line(kind, &at, &length)))
		event_append(
		    &m->config,
		    (struct iovec[]){{newline, 0}, {(char *)line, length}, {when, event_time(when, sizeof when)}}, 3);
}

/* A member whose value is a number in text, as all values of attributes are text. */
static void event_member(struct text *text, const char *name, int64_t value)
{
	text_add(text, text->at[-1] == '"' ? ",\"" : "\"");
	text_add(text, name);
	text_add(text, "\":\"");
	text_number(text, value);
	text_add(text, "\"");
}

static void event_begin(struct text *text, const struct monitor *m, char *buffer, size_t size)
{
	*buffer = 0;
	text_init(text, buffer + 1, size - 2);
	if (m->config.exec_id) {
		text_add(text, "\"execID\":\"");
		text_json(text, m->config.exec_id, strlen(m->config.exec_id));
		text_add(text, "\"");
	}
}

/* The container's program, or the session's, has ended and that is recorded. */
void events_died(const struct monitor *m)
{
	int64_t seconds = (m->ended_ms - m->started_ms) / 1000;
	char extra[256];
	struct text text;

	event_begin(&text, m, extra, sizeof extra);
	if (!m->config.exec_id)
		event_member(&text, "execDuration", seconds > 0 ? seconds : 0);
	event_member(&text, "exitCode", m->exit_code);
	*text.at = 0;
	events_emit(m, m->config.exec_id ? "exec_die" : "die", extra + 1);
	if (!m->config.exec_id)
		events_emit_lines(m, 'D');
}

void events_signalled(const struct monitor *m, int number)
{
	char extra[64];
	struct text text;

	if (number <= 0 || m->config.exec_id)
		return;
	event_begin(&text, m, extra, sizeof extra);
	event_member(&text, "signal", number);
	*text.at = 0;
	events_emit(m, "kill", extra + 1);
}

void events_resized(const struct monitor *m)
{
	char extra[256];
	struct text text;

	event_begin(&text, m, extra, sizeof extra);
	event_member(&text, "height", m->rows);
	event_member(&text, "width", m->columns);
	*text.at = 0;
	events_emit(m, "resize", extra + 1);
}
