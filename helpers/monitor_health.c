/* Health: a command is run in the container from time to time, and what it says is the container's health.
 *
 * A probe is a launcher that plays a tape of its own: it enters the container, whose /proc directory it gets on
 * descriptor 7, and goes on as a minder (launch_mind.c), whose child is the command.  The rules of when and how
 * often are Docker's.  Times are taken from the monotonic clock; the other one only labels the log.
 *
 * A probe is somebody else's program:
 *   - the first PROBE_OUTPUT bytes it writes are kept, the rest is read and thrown away, slower after a while;
 *   - at its end or its time-out all that it has started is killed, in small steps from the poll loop;
 *   - there is never more than one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

#define STEP_MS 10	      /* between two attempts to kill what a probe has started */
#define PATIENCE_MS 10000     /* after which the minder is killed too, whoever is left */
#define PARENT_FIELD 4	      /* of /proc/PID/stat */
#define SWEEPS 64	      /* of the minder's children in one step */
#define FAST_OUTPUT (1 << 20) /* bytes read at full speed */
#define PAUSED_MS 1000	      /* between two looks at a paused container */
#define ENTRY_SIZE (6 * sizeof((struct probe_result *)0)->output + 256)

static const char *const statuses[] = {"none", "starting", "healthy", "unhealthy"};

static int64_t interval(const struct monitor *m)
{
	const struct config *c = &m->config;

	if (m->health.status == HEALTH_STARTING && now_ms() - m->started_ms < c->health_start_period)
		return c->health_start_interval;
	return c->health_interval;
}

static bool write_entry(int fd, const struct probe_result *r, bool first)
{
	char buffer[ENTRY_SIZE];
	struct text text;

	text_init(&text, buffer, sizeof buffer);
	text_add(&text, first ? "" : ",");
	text_add(&text, "{\"Start\":\"");
	text_add(&text, r->start);
	text_add(&text, "\",\"End\":\"");
	text_add(&text, r->end);
	text_add(&text, "\",\"ExitCode\":");
	text_number(&text, r->exit_code);
	text_add(&text, ",\"Output\":\"");
	text_json(&text, r->output, r->length);
	text_add(&text, "\"}");
	return write(fd, buffer, (size_t)(text.at - buffer)) == text.at - buffer;
}

static bool write_all(const struct health *h, int fd)
{
	char head[128];
	struct text text;
	unsigned i;

	text_init(&text, head, sizeof head);
	text_add(&text, "{\"Status\":\"");
	text_add(&text, statuses[h->status]);
	text_add(&text, "\",\"FailingStreak\":");
	text_number(&text, h->streak);
	text_add(&text, ",\"Log\":[");
	if (write(fd, head, (size_t)(text.at - head)) != text.at - head)
		return false;
	for (i = 0; i < h->count; i++)
		if (!write_entry(fd, &h->log[(h->first + i) % PROBE_LOG], i == 0))
			return false;
	return write(fd, "]}", 2) == 2;
}

/* Replaces the file that shows the health; where there is no room the old one stays. */
static void show(const struct monitor *m)
{
	char temporary[PATH_MAX];
	struct text text;
	bool done;
	int fd;

	text_init(&text, temporary, sizeof temporary);
	text_add(&text, m->config.health_file);
	text_bytes(&text, ".tmp", 5);
	if (text.full)
		return;
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return;
	done = write_all(&m->health, fd);
	close(fd);
	if (!done || rename(temporary, m->config.health_file) < 0)
		unlink(temporary);
}

static void tell_waiting(struct monitor *m)
{
	unsigned i;

	for (i = 0; i < m->client_count; i++) {
		struct client *c = &m->clients[i];

		if (c->fd < 0 || c->deaf || !c->wants_health)
			continue;
		c->wants_health = false;
		c->owed |= OWE_HEALTH;
		clients_send(m, c);
	}
}

/* The container runs: it has its first probe after one interval. */
void health_begin(struct monitor *m)
{
	struct health *h = &m->health;

	if (!m->config.health_tape || !m->config.health_file)
		return;
	h->status = HEALTH_STARTING;
	h->streak = 0;
	h->wants_restart = false;
	show(m);
	h->due = now_ms() + interval(m);
}

/* Kills one process if it is still the minder's child: a child's number may have become another's. */
static void kill_child(pid_t pid, pid_t minder)
{
	int fd = -1;

#if defined(SYS_pidfd_open) && defined(SYS_pidfd_send_signal)
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
#endif
	if ((pid_t)state_stat_field(pid, PARENT_FIELD) == minder) {
		if (fd < 0) /* before Linux 5.3 */
			kill(pid, SIGKILL);
#if defined(SYS_pidfd_open) && defined(SYS_pidfd_send_signal)
		else
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
#endif
	}
	fd_close(&fd);
}

/* Kills the minder's children, as far as one read shows them; how many, or -1 if nobody shows them. */
static int kill_children(pid_t minder)
{
	char path[64], list[4096], *at = list, *end;
	struct text text;
	ssize_t count;
	int fd, killed = 0;
	long pid;

	text_init(&text, path, sizeof path - 1);
	text_add(&text, "/proc/");
	text_number(&text, minder);
	text_add(&text, "/task/");
	text_number(&text, minder);
	text_add(&text, "/children");
	*text.at = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	count = read(fd, list, sizeof list - 1);
	close(fd);
	list[count > 0 ? count : 0] = 0;
	while ((pid = strtol(at, &end, 10)) > 0 && *end == ' ') { /* one that is cut off comes next time */
		kill_child((pid_t)pid, minder);
		killed++;
		at = end + 1;
	}
	return killed;
}

/* One step of ending a probe.  What a killed child leaves becomes the minder's, so it is looked for again; the
 * minder itself ends when it has none, and before that only if it takes too long. */
static void end_step(struct monitor *m)
{
	struct health *h = &m->health;
	int64_t now = now_ms();
	int sweeps = 0, found;

	h->step = now + STEP_MS;
	if (h->minder <= 0) {
		if (h->launcher > 0)
			kill(h->launcher, SIGKILL);
		return;
	}
	do
		found = kill_children(h->minder);
	while (found > 0 && ++sweeps < SWEEPS);
	if (found < 0)
		kill(-h->minder, SIGKILL); /* its session's first group, itself included */
	if (found <= 0 || now >= h->give_up)
		kill(h->minder, SIGKILL);
}

static void begin_ending(struct monitor *m)
{
	struct health *h = &m->health;

	h->ending = true;
	h->give_up = now_ms() + PATIENCE_MS;
	state_stamp(h->now.end, sizeof h->now.end);
	end_step(m);
}

static void add_output(struct health *h, const char *data, size_t length)
{
	struct probe_result *r = &h->now;
	size_t room = r->length < PROBE_OUTPUT ? PROBE_OUTPUT - r->length : 0;

	if (length > room) {
		length = room;
		h->truncated = true;
	}
	memcpy(r->output + r->length, data, length);
	r->length += length;
}

/* Reads what the probe says, a bounded piece at a time. */
void health_read(struct monitor *m)
{
	struct health *h = &m->health;
	char data[4096];
	ssize_t count;
	int turn;

	for (turn = 0; turn < 16; turn++) {
		count = read(h->output_fd, data, sizeof data);
		if (count < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (count <= 0) {
			fd_close(&h->output_fd);
			return;
		}
		h->heard += count;
		add_output(h, data, (size_t)count);
	}
	if (h->heard > FAST_OUTPUT)
		h->quiet_until = now_ms() + STEP_MS;
}

/* The launcher's or the minder's messages.  Only the first process that is reported is the minder: from then
 * on the container could be talking. */
void health_status(struct monitor *m)
{
	struct health *h = &m->health;
	unsigned char data[1200];
	ssize_t count;

	while (h->status_fd >= 0 && (count = recv(h->status_fd, data, sizeof data, MSG_DONTWAIT)) != 0) {
		if (count < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (count < 0)
			break;
		if (data[0] == 'P' && count == 5 && !h->minder) {
			h->minder = (pid_t)get32(data + 1);
		} else if (data[0] == 'E' && count >= 13 && !h->ending) {
			h->now.length = 0;
			add_output(h, (const char *)data + 13, (size_t)count - 13);
			h->failed = true;
		} else if (data[0] == 'X' && count == 5 && !h->ending) {
			h->now.exit_code = h->failed ? -1 : (int)(get32(data + 1) & 0xff);
			h->told = true;
			begin_ending(m);
		}
	}
	fd_close(&h->status_fd);
}

/* Before the container's program: "... exceeded timeout (30s): what it had said". */
static void note_timeout(struct monitor *m)
{
	struct probe_result *r = &m->health.now;
	char said[PROBE_OUTPUT];
	size_t length = r->length;
	struct text text;

	memcpy(said, r->output, length);
	text_init(&text, r->output, sizeof r->output);
	text_add(&text, "Health check exceeded timeout (");
	text_add(&text, m->config.health_timeout_text ? m->config.health_timeout_text : "");
	text_add(&text, length ? "): " : ")");
	text_bytes(&text, said, length);
	r->length = (size_t)(text.at - r->output);
	r->exit_code = -1;
	m->health.told = true;
	fd_close(&m->health.output_fd); /* nobody listens any more */
}

static void drop_probe(struct health *h)
{
	fd_close(&h->status_fd);
	fd_close(&h->output_fd);
	h->launcher = h->minder = 0;
	h->running = h->ending = h->told = h->failed = h->truncated = false;
	h->heard = 0;
	h->quiet_until = 0;
}

static void act(struct monitor *m)
{
	switch (m->config.health_on_failure) {
	case HEALTH_KILL:
		child_signal(m, SIGKILL);
		break;
	case HEALTH_RESTART:
		m->health.wants_restart = true;
		child_stop(m, (int)m->config.stop_signal, m->config.stop_timeout);
		break;
	case HEALTH_STOP:
		m->no_restart = true;
		child_stop(m, (int)m->config.stop_signal, m->config.stop_timeout);
		break;
	default:
		break;
	}
}

/* What a result means.  A container that starts has time to: failures do not count until it is over, or it has
 * been healthy once. */
static void judge(struct monitor *m)
{
	struct health *h = &m->health;
	enum health_state before = h->status;

	if (h->now.exit_code == 0) {
		h->streak = 0;
		h->status = HEALTH_HEALTHY;
	} else if (before != HEALTH_STARTING || h->began - m->started_ms >= m->config.health_start_period) {
		h->streak++;
		if (h->streak >= m->config.health_retries)
			h->status = HEALTH_UNHEALTHY;
	}
	show(m);
	if (h->status == before)
		return;
	events_emit(m, h->status == HEALTH_HEALTHY ? "health_status: healthy" : "health_status: unhealthy", "");
	if (h->status == HEALTH_UNHEALTHY)
		act(m);
}

/* The probe is over: its result is one of the last PROBE_LOG. */
static void finish_probe(struct monitor *m)
{
	struct health *h = &m->health;
	struct probe_result *r = &h->now;

	if (h->output_fd >= 0)
		health_read(m);
	if (!h->ending)
		state_stamp(r->end, sizeof r->end);
	if (h->truncated) {
		memcpy(r->output + r->length, "...", 3);
		r->length += 3;
	}
	if (h->count == PROBE_LOG)
		h->first = (h->first + 1) % PROBE_LOG;
	else
		h->count++;
	h->log[(h->first + h->count - 1) % PROBE_LOG] = *r;
	h->passed = r->exit_code == 0;
	drop_probe(h);
	judge(m);
	h->due = now_ms() + interval(m);
	tell_waiting(m);
}

/* A child of ours has been reaped; true if it was a probe's. */
bool health_reaped(struct monitor *m, pid_t pid, int status)
{
	struct health *h = &m->health;

	if (!h->running)
		return false;
	if (h->status_fd >= 0)
		health_status(m); /* which says who is who, and how it ended */
	if (pid == h->launcher) {
		h->launcher = 0;
		if (h->minder)
			return true;
	} else if (pid != h->minder) {
		return false;
	}
	if (!h->told && h->failed)
		h->now.exit_code = -1;
	else if (!h->told)
		h->now.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	finish_probe(m);
	return true;
}

static int open_process(pid_t pid)
{
	char path[32];
	struct text text;

	text_init(&text, path, sizeof path - 1);
	text_add(&text, "/proc/");
	text_number(&text, pid);
	*text.at = 0;
	return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* Opens what a probe's launcher is given; the ends that are ours go into H. */
static bool open_ends(struct monitor *m, int fds[FIRST_FREE_FD])
{
	struct health *h = &m->health;
	int out[2], status[2];

	fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fds[3] = child_open_tape(m, KEPT_HEALTH);
	fds[7] = open_process(m->init);
	if (pipe2(out, O_CLOEXEC) == 0) {
		h->output_fd = out[0];
		fds[1] = out[1];
		fds[2] = fcntl(out[1], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
		fcntl(out[0], F_SETFL, O_NONBLOCK);
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, status) == 0) {
		h->status_fd = status[0];
		fds[4] = status[1];
	}
	return fds[0] >= 0 && fds[2] >= 0 && fds[3] >= 0 && fds[4] >= 0 && fds[7] >= 0;
}

static void begin_probe(struct monitor *m)
{
	static char program[] = "launch", tape[] = "3", status[] = "4", reason[] = "cannot start the health check: ";
	char *argv[] = {program, tape, status, NULL};
	int fds[FIRST_FREE_FD] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
	struct health *h = &m->health;
	const char *why = NULL;
	int i;

	h->now.length = 0;
	h->now.exit_code = -1;
	state_stamp(h->now.start, sizeof h->now.start);
	h->began = now_ms();
	h->running = true;
	h->due = 0;
	h->deadline = h->began + m->config.health_timeout;
	if (!open_ends(m, fds) || (h->launcher = child_spawn(m->config.launch, argv, fds)) < 0)
		why = strerror(errno);
	for (i = 0; i < FIRST_FREE_FD; i++)
		fd_close(&fds[i]);
	if (!why)
		return;
	add_output(h, reason, sizeof reason - 1);
	add_output(h, why, strlen(why));
	finish_probe(m);
}

/* A client asks for a probe now: 0, or an errno if there can be none. */
int health_probe_now(struct monitor *m)
{
	if (m->health.status == HEALTH_NONE)
		return EINVAL;
	if (m->phase != RUNNING || m->init_ended)
		return ESRCH;
	if (!m->health.running)
		m->health.due = now_ms();
	return 0;
}

/* The container has ended: so has what is left of a probe, but for one that shares the host's processes. */
void health_end(struct monitor *m)
{
	struct health *h = &m->health;

	h->due = 0;
	if (h->running) {
		h->give_up = 0;
		end_step(m);
		drop_probe(h);
	}
	tell_waiting(m);
}

void health_timers(struct monitor *m)
{
	struct health *h = &m->health;
	int64_t now = now_ms();

	if (m->phase != RUNNING || m->init_ended || h->status == HEALTH_NONE)
		return;
	if (!h->running && h->due && now >= h->due) {
		if (cgroup_frozen(m)) /* it could not answer */
			h->due = now + PAUSED_MS;
		else
			begin_probe(m);
	} else if (h->running && !h->ending && now >= h->deadline) {
		if (cgroup_frozen(m)) { /* it could not have gone on: as if it had not been */
			h->give_up = 0;
			end_step(m);
			drop_probe(h);
			h->due = now + interval(m);
			return;
		}
		note_timeout(m);
		begin_ending(m);
	} else if (h->ending && now >= h->step) {
		end_step(m);
	}
}

/* When health_timers has something to do, or output is to be read again; -1 if never. */
int64_t health_due(const struct monitor *m)
{
	const struct health *h = &m->health;
	int64_t due;

	if (m->phase != RUNNING || m->init_ended)
		return -1;
	if (!h->running)
		return h->due ? h->due : -1;
	due = h->ending ? h->step : h->deadline;
	if (h->output_fd >= 0 && h->quiet_until && h->quiet_until < due)
		due = h->quiet_until;
	return due;
}

/* The probe's output, unless it has said so much that it has to wait. */
int health_output(struct monitor *m)
{
	if (m->health.quiet_until && now_ms() < m->health.quiet_until)
		return -1;
	m->health.quiet_until = 0;
	return m->health.output_fd;
}
