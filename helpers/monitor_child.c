/* The launcher and the container's first process: starting, signalling, reaping. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"
#include "tape.h"

#define OP(number, name, signature) OP_##name = number,
enum { TAPE_OPS(OP) };
#undef OP

#define STATUS_SIZE 1200

/* Tells the monitor through the launcher's status socket that there is no launcher: operation code 0. */
static void report_exec_failure(int fd, int error)
{
	unsigned char message[13] = {'E'};

	message[9] = (unsigned char)error;
	if (send(fd, message, sizeof message, MSG_NOSIGNAL) < 0)
		return;
}

/* Executes PATH with FDS at their indices, those below zero closed; returns the child's pid or -1.
 * Every descriptor given is FIRST_FREE_FD or above, so none is overwritten before it is used. */
pid_t child_spawn(const char *path, char *const argv[], const int fds[FIRST_FREE_FD])
{
	char *environment[] = {NULL};
	sigset_t none;
	pid_t pid;
	int i;

	sigemptyset(&none);
	pid = vfork();
	if (pid != 0)
		return pid;
	for (i = 0; i < FIRST_FREE_FD; i++)
		if (fds[i] >= 0 && dup2(fds[i], i) < 0)
			_exit(125);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(path, argv, environment);
	if (fds[4] >= 0)
		report_exec_failure(4, errno);
	_exit(127);
}

static bool open_status(struct monitor *m, int *theirs)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return false;
	m->status_fd = ends[0];
	*theirs = ends[1];
	return true;
}

/* Opens the tapes that will be played later: the runtime directory may be wiped until then. */
void child_keep_tapes(struct monitor *m)
{
	const char *paths[KEPT_COUNT] = {m->config.tape, m->config.remove_tape, m->config.health_tape};
	unsigned i;

	for (i = 0; i < KEPT_COUNT; i++)
		m->kept[i] = paths[i] ? open(paths[i], O_RDONLY | O_CLOEXEC) : -1;
}

/* A tape as it is now, which may be another than at the start; else as it was then. */
int child_open_tape(const struct monitor *m, enum kept which)
{
	const char *paths[KEPT_COUNT] = {m->config.tape, m->config.remove_tape, m->config.health_tape};
	int fd = open(paths[which], O_RDONLY | O_CLOEXEC);

	return fd >= 0 || m->kept[which] < 0 ? fd : fcntl(m->kept[which], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
}

/* Starts a life of the container: a launcher that plays the tape. */
void child_launch(struct monitor *m)
{
	static char program[] = "launch", tape[] = "3", status[] = "4";
	char *argv[] = {program, tape, status, NULL};
	int fds[FIRST_FREE_FD] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
	const char *failure = NULL;
	int i, error = 0;

	m->phase = LAUNCHING;
	m->launcher = m->init = 0;
	m->launcher_ended = m->init_ended = m->failed = false;
	if ((fds[3] = child_open_tape(m, KEPT_TAPE)) < 0)
		failure = "cannot open the tape";
	else if (!streams_open(m, fds) || !open_status(m, &fds[4]))
		failure = "cannot open the container's streams";
	fds[5] = (int)m->config.user_ns_fd;
	fds[6] = (int)m->config.net_ns_fd;
	if (!failure && (m->launcher = child_spawn(m->config.launch, argv, fds)) < 0)
		failure = "cannot start the launcher";
	if (failure)
		error = errno;
	for (i = 0; i < 5; i++)
		fd_close(&fds[i]);
	if (failure)
		life_failed(m, 128, failure, error);
}

/* The exit code that Docker gives a container whose start failed in this way. */
static int failure_code(uint32_t operation, uint32_t error)
{
	if (operation != OP_exec)
		return 128;
	return error == ENOENT || error == ENOTDIR ? 127 : 126;
}

static void take_failure(struct monitor *m, const unsigned char *data, size_t length)
{
	size_t size = length < 13 ? 0 : length - 13;

	if (m->failed || length < 13)
		return;
	if (size >= sizeof m->record.error)
		size = sizeof m->record.error - 1;
	memcpy(m->record.error, data + 13, size);
	m->record.error[size] = 0;
	if (get32(data + 5) == 0)
		life_describe(m, "cannot execute the launcher", (int)get32(data + 9));
	m->failed = true;
	m->failure_code = failure_code(get32(data + 5), get32(data + 9));
}

static void remember_server(struct monitor *m, pid_t pid)
{
	unsigned i;

	for (i = 0; i < MAX_SERVERS; i++)
		if (!m->servers[i]) {
			m->servers[i] = pid;
			return;
		}
}

/* Tells the log, where its cause will be looked for, that a process beside the container has ended. */
static void tell_ended(struct monitor *m, const char *what, int status, const char *so)
{
	char line[200];
	struct text text;

	text_init(&text, line, sizeof line);
	text_add(&text, "rootless: ");
	text_add(&text, what);
	text_add(&text, " has ended (");
	text_add(&text, WIFSIGNALED(status) ? "signal " : "status ");
	text_number(&text, WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	text_add(&text, "): ");
	text_add(&text, so);
	log_end_line(&m->log, 1);
	log_note(&m->log, line, (size_t)(text.at - line));
}

/* Those of files, ownership and connections leave with status 0 when the container is gone, for which they are. */
static void beside_ended(struct monitor *m, pid_t pid, int status)
{
	bool told = status && m->phase == RUNNING;
	unsigned i;

	for (i = 0; i < MAX_SERVERS; i++) {
		if (pid != m->servers[i])
			continue;
		m->servers[i] = 0;
		if (told)
			tell_ended(m, "the server of this container's filesystem", status,
				   "its files give I/O errors until it is restarted\n");
	}
	if (pid == m->connects) {
		m->connects = 0;
		if (told)
			tell_ended(m, "the process that connects for this container (fast=connect)", status,
				   "connect fails with ENOSYS until it is restarted\n");
	}
	if (pid == m->owners) {
		m->owners = 0;
		if (told)
			tell_ended(m, "the supervisor of ownership", status,
				   "chown, mknod and the like fail with ENOSYS until it is restarted\n");
	}
	if (pid == m->network) {
		m->network = 0;
		if (m->phase == RUNNING)
			tell_ended(m, "the program of this container's network", status,
				   "it reaches nothing until it is restarted\n");
	}
}

/* What connected the container goes with it, at once: the ports that it publishes are to be free. */
static void end_network(struct monitor *m)
{
	if (!m->network)
		return;
	kill(m->network, SIGKILL);
	while (waitpid(m->network, NULL, 0) < 0 && errno == EINTR)
		;
	m->network = 0;
}

/* The container goes without a control group, which it did not insist on: the log says why. */
static void tell_without_group(struct monitor *m, const unsigned char *why, size_t length)
{
	char line[STATUS_SIZE + 80];
	struct text text;

	text_init(&text, line, sizeof line);
	text_add(&text, "rootless: the container has no control group: ");
	text_bytes(&text, (const char *)why, length);
	text_add(&text, "\n");
	log_note(&m->log, line, (size_t)(text.at - line));
}

static void take_status(struct monitor *m, const unsigned char *data, size_t length, int fd)
{
	if (fd >= 0 && data[0] == 'C')
		streams_adopt_pty(m, fd);
	else if (fd >= 0)
		close(fd);
	if (data[0] == 'P' && length == 5) {
		m->init = (pid_t)get32(data + 1);
		m->record.pid_start = state_start_time(m->init);
	} else if (data[0] == 'H' && length == 5) {
		remember_server(m, (pid_t)get32(data + 1));
	} else if (data[0] == 'O' && length == 5) {
		m->owners = (pid_t)get32(data + 1);
	} else if (data[0] == 'N' && length == 5) {
		m->network = (pid_t)get32(data + 1);
	} else if (data[0] == 'G') {
		cgroup_adopt(m, data + 1, length - 1);
	} else if (data[0] == 'W') {
		tell_without_group(m, data + 1, length - 1);
	} else if (data[0] == 'F' && length == 5) {
		m->connects = (pid_t)get32(data + 1);
	} else if (data[0] == 'S' && send(m->status_fd, "G", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		kill(m->launcher, SIGKILL);
	} else if (data[0] == 'E') {
		take_failure(m, data, length);
	}
}

/* Receives one message of the launcher; its length, 0 at the end, -1 if there is none now. */
static ssize_t receive_status(struct monitor *m, unsigned char *data, size_t size, int *fd)
{
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec part = {data, size};
	struct msghdr header = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.buffer, .msg_controllen = sizeof control.buffer};
	struct cmsghdr *message;
	ssize_t count = recvmsg(m->status_fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (count < 0)
		return errno == EAGAIN || errno == EINTR ? -1 : 0;
	message = CMSG_FIRSTHDR(&header);
	if (message && message->cmsg_type == SCM_RIGHTS && message->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(message), sizeof *fd);
	return count;
}

/* Takes what the launcher reports.  The end of its socket is the exec of the container's program, which
 * closes the last copy, or the death of all who had one. */
void child_status(struct monitor *m)
{
	unsigned char data[STATUS_SIZE];
	ssize_t count;
	int fd;

	if (m->status_fd < 0)
		return;
	while ((count = receive_status(m, data, sizeof data, &fd)) > 0)
		take_status(m, data, (size_t)count, fd);
	if (count < 0)
		return;
	fd_close(&m->status_fd);
	if (m->failed)
		life_failed(m, m->failure_code, NULL, 0);
	else if (!m->init)
		life_failed(m, 128, "launcher died", 0);
	else
		life_started(m);
}

/* Reaps whoever has ended; orphans of the container come to us, too. */
void child_reap(struct monitor *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == m->launcher) {
			m->launcher_ended = true;
			continue;
		}
		if (health_reaped(m, pid, status))
			continue;
		if (pid != m->init && m->status_fd >= 0)
			child_status(m); /* it may be the first process, whose pid has not been read yet */
		if (log_pack_ended(&m->log, pid, status))
			continue;
		beside_ended(m, pid, status);
		if (pid == m->init && !m->init_ended) {
			m->init_ended = true;
			m->init_status = status;
		}
	}
	if (m->init_ended)
		end_network(m);
}

/* Sends NUMBER to the container's first process; 0 or an errno.  Before the container runs a signal is kept
 * for it, but KILL, which ends the launch. */
int child_signal(struct monitor *m, int number)
{
	if (number < 0 || number > 64)
		return EINVAL;
	if (m->phase == LAUNCHING && number == SIGKILL) {
		if (m->init > 0 && !m->init_ended)
			kill(m->init, SIGKILL);
		else if (m->launcher > 0 && !m->launcher_ended)
			kill(m->launcher, SIGKILL);
		return 0;
	}
	if (m->phase == LAUNCHING) {
		if (number > 0)
			m->early_signals |= 1ULL << (number - 1);
		return 0;
	}
	if (m->phase == WAITING && m->no_restart)
		return 0; /* that it is not started again is what ends it */
	if (m->phase != RUNNING || m->init_ended)
		return ESRCH;
	if (kill(m->init, number) < 0) /* not reaped yet, so the pid is still its own */
		return errno;
	events_signalled(m, number);
	return 0;
}

/* Sends NUMBER, and KILL when TIMEOUT seconds have passed; a negative TIMEOUT waits forever. */
void child_stop(struct monitor *m, int number, int64_t timeout)
{
	int64_t deadline = now_ms() + timeout * 1000;

	m->stopping = true;
	child_signal(m, number);
	cgroup_thaw(m);
	if (timeout >= 0 && (!m->stop_deadline || deadline < m->stop_deadline))
		m->stop_deadline = deadline;
}
