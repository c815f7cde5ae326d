/* A transient scope of the user's systemd, asked for over D-Bus.
 *
 * The message is ready on the tape; what is not known before is who goes in: the monitor, which is our parent, and
 * this process, or this process alone, which is named twice then.  One write carries the authentication, the greeting
 * and the call, so that a scope costs one round trip.  The answer only says that a job was queued.  It is done when
 * /proc says that we are in the scope, which is looked at whenever something arrives, and every few milliseconds.
 *
 * A manager that is being executed again, or a scope of the same name that is still going away, refuses for a
 * moment: what may be such a moment is tried again.  Nothing is waited for without end.  Where all of a scope were
 * killed while they were moved into it, the manager may never learn that it is empty, so what is left is stopped:
 * we hold the container's lock, and nothing of it can be alive.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "launch_cgroup.h"

#define ANSWER_MS 10000 /* for everything */
#define RETRY_MS 1500	/* of that, for a manager that cannot be reached */
#define PAUSE_MS 10
#define LEFT_MS 200 /* a scope of the same name that is still there then is one that the manager thinks alive */
#define CALL_MAX 8192
#define INPUT_MAX 65536

static const char hello[] = "\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"; /* we are who the socket says */

enum outcome { DONE, AGAIN, BUSY, REFUSED };

struct talk {
	int fd;
	const char *unit;
	uint32_t serial; /* of the call */
	bool alone;	 /* only this process goes in */
	bool stopping;	 /* the answer is enough */
	bool welcome, answered;
	size_t used;
	unsigned char input[INPUT_MAX];
	char why[700];
};

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether process PID is in UNIT, or below. */
static bool is_in(pid_t pid, const char *unit)
{
	char path[4096];
	size_t length = strlen(unit);
	if (cgroup_of(pid, path, sizeof(path)) < 0)
		return false;
	for (const char *at = path; (at = strchr(at, '/')); at++)
		if (strncmp(at + 1, unit, length) == 0 && (at[length + 1] == '/' || !at[length + 1]))
			return true;
	return false;
}

static bool all_in(const struct talk *t)
{
	return (t->alone || is_in(getppid(), t->unit)) && is_in(getpid(), t->unit);
}

static void set_why(struct talk *t, const char *what, const char *why)
{
	snprintf(t->why, sizeof(t->why), "%s%s%s", what, *why ? ": " : "", why);
	for (char *at = t->why; *at; at++) /* it is shown on a terminal */
		if ((unsigned char)*at < ' ' || *at == 127)
			*at = '?';
}

static bool send_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* What an error of the bus or of the manager means for us. */
static enum outcome judge_error(struct talk *t, const struct bus_message *m)
{
	static const char *const passing[] = {
	    "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
	    "org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
	    "org.freedesktop.systemd1.ShuttingDown"};
	set_why(t, m->text[0] ? m->text : m->name, m->text[0] ? m->name : "");
	if (strcmp(m->name, "org.freedesktop.systemd1.UnitExists") == 0)
		return BUSY;
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		if (strcmp(m->name, passing[i]) == 0)
			return AGAIN;
	return REFUSED;
}

static enum outcome judge(struct talk *t, const struct bus_message *m)
{
	if (m->type == 3)
		return judge_error(t, m);
	if (m->type == 2 && m->reply == t->serial)
		t->answered = true;
	if (m->type == 4 && strcmp(m->unit, t->unit) == 0 && m->end[0] && strcmp(m->end, "done") != 0) {
		set_why(t, "its job ended as", m->end);
		return REFUSED;
	}
	return DONE;
}

/* Take what has arrived apart: lines of the authentication up to OK, then messages. */
static enum outcome digest(struct talk *t)
{
	size_t at = 0;
	while (!t->welcome) {
		unsigned char *end = memchr(t->input + at, '\n', t->used - at);
		if (!end)
			break;
		char line[64];
		snprintf(line, sizeof(line), "%.*s", (int)(end - (t->input + at)), (char *)t->input + at);
		at = (size_t)(end + 1 - t->input);
		if (strncmp(line, "OK", 2) == 0)
			t->welcome = true;
		else if (strncmp(line, "DATA", 4) != 0) {
			set_why(t, "it lets us not in", "");
			return REFUSED;
		}
	}
	while (t->welcome && at < t->used) {
		struct bus_message m;
		long length = bus_parse(t->input + at, t->used - at, &m);
		if (length == 0)
			break;
		enum outcome outcome = length < 0 ? REFUSED : judge(t, &m);
		if (length < 0)
			set_why(t, "what it says is no D-Bus message", "");
		if (outcome != DONE)
			return outcome;
		at += (size_t)length;
	}
	memmove(t->input, t->input + at, t->used - at);
	t->used -= at;
	return DONE;
}

/* Wait for the answer, and until we are where we wanted to be. */
static enum outcome hear(struct talk *t, int64_t deadline)
{
	for (;;) {
		struct pollfd wait = {t->fd, POLLIN, 0};
		int64_t left = deadline - now_ms();
		if (t->answered && (t->stopping || all_in(t)))
			return DONE;
		if (left <= 0) {
			set_why(t, t->answered ? "its job does not end" : "it does not answer", "");
			return REFUSED;
		}
		poll(&wait, 1, t->answered && left > PAUSE_MS ? PAUSE_MS : (int)left);
		ssize_t n = recv(t->fd, t->input + t->used, sizeof(t->input) - t->used, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0) {
			set_why(t, "it hangs up", "");
			return t->used == sizeof(t->input) ? REFUSED : AGAIN;
		}
		t->used += (size_t)n;
		enum outcome outcome = digest(t);
		if (outcome != DONE)
			return outcome;
	}
}

/* Make the call that starts the scope, or the one that stops what is left of one. */
static enum outcome ask(struct talk *t, const char *address, const struct op *op, int64_t deadline, bool stop)
{
	char call[CALL_MAX];
	uint32_t pids[2] = {(uint32_t)(t->alone ? getpid() : getppid()), (uint32_t)getpid()};
	const struct text *greeting = &op->a[2].s, *message = &op->a[stop ? 6 : 3].s;
	struct timeval patience = {ANSWER_MS / 1000, 0};
	const char *path = strchr(address, ':');
	size_t size = sizeof(hello) - 1, at = (size_t)op->a[4].i;
	bool bus = strncmp(address, "bus:", 4) == 0;
	memcpy(call, hello, size);
	if (bus) {
		memcpy(call + size, greeting->data, greeting->size);
		size += greeting->size;
	}
	memcpy(call + size, message->data, message->size);
	if (!stop)
		memcpy(call + size + at, pids, sizeof(pids));
	memcpy(&t->serial, message->data + 8, sizeof(t->serial));
	size += message->size;
	t->welcome = t->answered = false;
	t->used = 0;
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	t->fd = fd;
	if (fd < 0 || !path)
		return REFUSED;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect_path(fd, path + 1) < 0 || !send_all(fd, call, size)) {
		set_why(t, error_text(errno), "");
		return AGAIN;
	}
	t->stopping = stop;
	return hear(t, deadline);
}

/* Try each address, and all again as long as what is in the way may pass. */
static int start_scope(struct player *p, const struct op *op, struct talk *t)
{
	int64_t start = now_ms(), deadline = start + ANSWER_MS;
	enum outcome outcome = REFUSED;
	const char *address = "";
	bool stopped = false;
	for (bool more = true; more; poll(NULL, 0, more ? PAUSE_MS : 0)) {
		const char *cursor = op->a[0].l.cursor;
		bool busy = false;
		for (uint32_t i = 0; i < op->a[0].l.count; i++) {
			address = list_next(&cursor, NULL);
			outcome = ask(t, address, op, deadline, false);
			busy |= outcome == BUSY;
			if (outcome == DONE)
				return 0;
			if (busy && !stopped && op->a[6].s.size && now_ms() > start + LEFT_MS) {
				stopped = true;
				ask(t, address, op, deadline, true);
			}
			if (outcome == REFUSED || busy)
				break;
		}
		more = outcome != REFUSED && now_ms() < (busy ? deadline : start + RETRY_MS);
	}
	const char *path = strchr(address, ':');
	return fail_text(p, EIO, "cannot have systemd place %s: %s (%s)", t->unit, t->why, path ? path + 1 : "no bus");
}

int op_cgroup_scope(struct player *p, const struct op *op)
{
	static struct talk talk;
	uint64_t at = (uint64_t)op->a[4].i, message = op->a[3].s.size;
	uint64_t stop = op->a[6].s.size, longest = stop > message ? stop : message;
	if (message < 16 || at % 4 || at > message - 8 || (stop && stop < 16) ||
	    longest + op->a[2].s.size + sizeof(hello) > CALL_MAX)
		return fail_text(p, EINVAL, "cannot ask for a scope: the message on the tape is malformed");
	talk.unit = op->a[1].s.data;
	talk.alone = op->a[5].i & 2;
	if (p->cgroup_forgone || all_in(&talk))
		return 0;
	return cgroup_forgo(p, start_scope(p, op, &talk), op->a[5].i & 1);
}
