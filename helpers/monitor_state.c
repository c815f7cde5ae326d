/* state.json: what is true of the container, for everyone who asks after us.
 *
 * Always a whole new file, renamed over the old one, so that a kill at any moment leaves one or the other.
 * The end is also synced where the container is to survive a power loss.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

#define START_TIME_FIELD 22 /* of /proc/PID/stat, in clock ticks since boot; proc(5) */

/* Reads PATH as far as BUFFER holds it, with a final NUL; false if it cannot be read. */
static bool read_file(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t count;

	if (fd < 0)
		return false;
	count = read(fd, buffer, size - 1);
	close(fd);
	buffer[count > 0 ? count : 0] = 0;
	return count > 0;
}

/* A decimal field of /proc/PID/stat from the third on, or 0 if there is no such process. */
uint64_t state_stat_field(pid_t pid, int number)
{
	char path[64], buffer[1024];
	struct text text;
	uint64_t value = 0;
	const char *at;
	int field;

	text_init(&text, path, sizeof path - 1);
	text_add(&text, "/proc/");
	text_number(&text, pid);
	text_add(&text, "/stat");
	*text.at = 0;
	if (!read_file(path, buffer, sizeof buffer))
		return 0;
	at = strrchr(buffer, ')'); /* the name before it, field 2, may hold anything */
	for (field = 2; at && field < number; field++)
		at = strchr(at + 1, ' ');
	if (at)
		for (at++; *at >= '0' && *at <= '9'; at++)
			value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

/* The start time of a process, or 0 if there is none. */
uint64_t state_start_time(pid_t pid)
{
	return state_stat_field(pid, START_TIME_FIELD);
}

/* The time now, as in RFC 3339 with nanoseconds, in UTC. */
void state_stamp(char *to, size_t size)
{
	struct timespec now;
	struct text text;

	clock_gettime(CLOCK_REALTIME, &now);
	text_init(&text, to, size - 1);
	text_time(&text, now.tv_sec, now.tv_nsec);
	*text.at = 0;
}

static void take_old(const char *json, const char *key, char *to, size_t size)
{
	const char *at = strstr(json, key), *end;

	if (!at)
		return;
	at += strlen(key);
	end = strchr(at, '"');
	if (!end || (size_t)(end - at) >= size)
		return;
	memcpy(to, at, (size_t)(end - at));
	to[end - at] = 0;
}

static void add_string(struct text *text, const char *key, const char *value)
{
	text_add(text, key);
	text_add(text, "\"");
	text_json(text, value, strlen(value));
	text_add(text, "\"");
}

static void add_number(struct text *text, const char *key, int64_t value)
{
	text_add(text, key);
	text_number(text, value);
}

static bool is_final(const struct record *r)
{
	return !strcmp(r->status, "exited") || !strcmp(r->status, "created");
}

/* The record as JSON; its length. */
size_t state_format(const struct monitor *m, char *buffer, size_t size)
{
	const struct record *r = &m->record;
	char shown[sizeof r->error];
	struct text text;

	/* An escaped byte takes six: keep within FINAL_SIZE whatever the launcher said. */
	memcpy(shown, r->error, sizeof shown);
	shown[(FINAL_SIZE - 512) / 6] = 0;
	text_init(&text, buffer, size);
	add_string(&text, "{\"status\":", r->status);
	add_number(&text, ",\"pid\":", r->pid);
	add_number(&text, ",\"pidStart\":", r->pid ? (int64_t)r->pid_start : 0);
	add_number(&text, ",\"monitorPid\":", is_final(r) ? 0 : getpid());
	add_string(&text, ",\"startedAt\":", r->started);
	add_string(&text, ",\"finishedAt\":", r->finished);
	add_number(&text, ",\"exitCode\":", r->exit_code);
	add_string(&text, ",\"error\":", shown);
	text_add(&text, r->oom_killed ? ",\"oomKilled\":true" : ",\"oomKilled\":false");
	add_string(&text, ",\"cgroup\":", is_final(r) ? "" : m->cgroup);
	add_number(&text, ",\"restartCount\":", r->restart_count);
	add_string(&text, ",\"restart\":", args_policy(m->config.restart));
	add_string(&text, ",\"bootId\":", m->config.boot_id);
	text_add(&text, r->manual_stop ? ",\"manualStop\":true}" : ",\"manualStop\":false}");
	return (size_t)(text.at - buffer);
}

static bool write_new(const char *path, const char *data, size_t length, bool sync)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, data, length) == (ssize_t)length && (!sync || fsync(fd) == 0);
	close(fd);
	return done;
}

static void sync_directory(const char *path)
{
	char directory[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd;

	if (!slash || (size_t)(slash - path) >= sizeof directory)
		return;
	memcpy(directory, path, (size_t)(slash - path));
	directory[slash - path] = 0;
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static bool beside(const struct monitor *m, const char *suffix, char to[PATH_MAX])
{
	struct text text;

	text_init(&text, to, PATH_MAX);
	text_add(&text, m->config.state);
	text_bytes(&text, suffix, strlen(suffix) + 1);
	return !text.full;
}

/* Room for the last record is taken while there is some, so that the end is recorded on a full disk too. */
static void reserve(const struct monitor *m)
{
	char spare[PATH_MAX], blank[FINAL_SIZE];

	memset(blank, ' ', sizeof blank);
	if (beside(m, ".spare", spare) && !write_new(spare, blank, sizeof blank, false))
		unlink(spare);
}

/* Writes JSON over the reserved blanks, which stay behind it as white space, and gives that file the name. */
static bool use_reserve(const struct monitor *m, const char *json, size_t length, bool sync)
{
	char spare[PATH_MAX];
	int fd;
	bool done;

	if (!beside(m, ".spare", spare))
		return false;
	fd = open(spare, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return false;
	done = write(fd, json, length) == (ssize_t)length && (!sync || fsync(fd) == 0);
	close(fd);
	return done && rename(spare, m->config.state) == 0;
}

/* Replaces the state file; FINAL is the end, which is synced if the container is durable.  On a full disk
 * the end goes into reserved room; before it the old state stays, and its reader finds by our pid and lock
 * who runs. */
void state_write(struct monitor *m, bool final)
{
	char json[STATE_SIZE], temporary[PATH_MAX], spare[PATH_MAX];
	bool sync = final && m->config.durable;
	size_t length;

	if (!m->config.state)
		return;
	length = state_format(m, json, sizeof json);
	if (!beside(m, ".tmp", temporary) || !beside(m, ".spare", spare))
		return;
	if (!write_new(temporary, json, length, sync) || rename(temporary, m->config.state) < 0) {
		unlink(temporary);
		if (!final || !use_reserve(m, json, length, sync))
			return;
	}
	if (final)
		unlink(spare);
	if (sync)
		sync_directory(m->config.state);
}

/* Takes over when the container last started and ended: that is kept until it does so again. */
void state_load(struct monitor *m)
{
	char json[STATE_SIZE];

	if (!m->config.state)
		return;
	reserve(m);
	if (!read_file(m->config.state, json, sizeof json))
		return;
	take_old(json, "\"startedAt\":\"", m->record.started, sizeof m->record.started);
	take_old(json, "\"finishedAt\":\"", m->record.finished, sizeof m->record.finished);
}
