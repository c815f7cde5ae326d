/* A program of the host beside the container that connects its network namespace: pasta, slirp4netns.
 *
 * net_program forks it, a child of our parent, while the launcher still is the realm's root and in the host's
 * network namespace, where the program has to stay.  It waits.  net_ready is played by the container's first
 * process before it changes its IDs: it hands its network namespace over and waits until the program says that the
 * interface is there.  Such programs want namespaces by path, and drop what they would need to open one below
 * /proc/PID: so the namespace gets a name in a mount namespace that the program alone has.
 *
 * The supervisor learns the program's pid (message N), kills it when the container has ended, and takes it along
 * when it dies itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

#include "launch.h"

#define CONTROL_FD 3
#define READY_FD 4
#define MAX_PROGRAM_ARGS 1100
#define READY_SECONDS 20
#define ANSWER_MAX 4096

/* Give the namespace FD a name at PATH, a file that is made, in a mount namespace of our own. */
static int name_namespace(int fd, const char *path)
{
	char from[32];
	int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (file < 0)
		return -1;
	close(file);
	fd_path(fd, from);
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -1;
	return mount(from, path, NULL, MS_BIND, NULL);
}

int op_net_path(struct player *p, const struct op *op)
{
	if (name_namespace((int)op->a[0].i, op->a[1].s.data) < 0)
		return fail(p, errno, "cannot name the network namespace", op->a[1].s.data);
	return 0;
}

/* The descriptor that comes with the next byte; -1 where there comes none. */
static int receive_namespace(void)
{
	char byte;
	int fd = -1;
	struct iovec io = {&byte, 1};
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	message.msg_control = control.buffer;
	message.msg_controllen = sizeof(control.buffer);
	ssize_t n;
	do
		n = recvmsg(CONTROL_FD, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	struct cmsghdr *c = n == 1 ? CMSG_FIRSTHDR(&message) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static _Noreturn void tell_and_leave(void)
{
	char message[1 + sizeof(int)] = "E";
	memcpy(message + 1, &errno, sizeof(int));
	if (write(READY_FD, message, sizeof(message)) < 0)
		_exit(126);
	_exit(127);
}

/* Descriptors: 0 null, 1 and 2 LOG, CONTROL_FD, READY_FD, and no others. */
static int program_files(int control, int ready, const char *log)
{
	control = fcntl(control, F_DUPFD_CLOEXEC, READY_FD + 1);
	ready = fcntl(ready, F_DUPFD_CLOEXEC, READY_FD + 1);
	if (control < 0 || ready < 0 || dup2(control, CONTROL_FD) < 0 || dup2(ready, READY_FD) < 0)
		return -1;
	close_above(READY_FD);
	if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0 || fcntl(READY_FD, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	cleanup_fd int lines = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	return null < 0 || lines < 0 || dup2(null, 0) < 0 || dup2(lines, 1) < 0 || dup2(lines, 2) < 0 ? -1 : 0;
}

/* Arguments: directory, which becomes the current one, name of the namespace in it, log in it, ready, argv. */
static _Noreturn void be_program(const struct op *op, int control, int ready)
{
	static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8";
	static char *const environment[] = {path, locale, NULL};
	static char *argv[MAX_PROGRAM_ARGS + 1];
	const char *cursor = op->a[4].l.cursor;
	for (uint32_t i = 0; i < op->a[4].l.count; i++)
		argv[i] = (char *)list_next(&cursor, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	setsid();
	umask(022);
	if (chdir(op->a[0].s.data) < 0 || program_files(control, ready, op->a[2].s.data) < 0)
		tell_and_leave();
	int namespace = receive_namespace();
	if (namespace < 0)
		_exit(0); /* there will be no container */
	if (name_namespace(namespace, op->a[1].s.data) < 0 || dup2(READY_FD, (int)op->a[3].i) < 0)
		tell_and_leave();
	execve(argv[0], argv, environment);
	tell_and_leave();
}

int op_net_program(struct player *p, const struct op *op)
{
	const char *cursor = op->a[4].l.cursor;
	int control[2], ready[2];
	if (p->program_control >= 0)
		return fail_text(p, EINVAL, "cannot start a second network program");
	if (op->a[4].l.count < 1 || op->a[4].l.count > MAX_PROGRAM_ARGS || (op->a[3].i != 1 && op->a[3].i != 3))
		return fail_text(p, EINVAL, "cannot start a network program: its arguments make no sense");
	if (pipe2(ready, O_CLOEXEC) < 0)
		return fail(p, errno, "cannot make a pipe", "");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0) {
		int error = errno;
		close(ready[0]);
		close(ready[1]);
		return fail(p, error, "cannot make a socket", "");
	}
	pid_t pid = fork_beside();
	if (pid == 0) {
		close(control[0]);
		be_program(op, control[1], ready[1]);
	}
	int error = errno;
	close(control[1]);
	close(ready[1]);
	p->program_control = control[0];
	p->program_ready = ready[0];
	p->program_name = list_next(&cursor, NULL);
	snprintf(p->program_log, sizeof(p->program_log), "%s/%s", op->a[0].s.data, op->a[2].s.data);
	if (pid < 0)
		return fail(p, error, "cannot start", p->program_name);
	uint32_t id = (uint32_t)pid;
	return send_message(p, 'N', &id, sizeof(id), -1) < 0 ? fail(p, errno, "cannot reach the supervisor", "") : 0;
}

static int hand_over(int control)
{
	cleanup_fd int namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	return namespace < 0 ? -1 : send_with_fd(control, 'n', NULL, 0, namespace);
}

/* The last line of what the program said, or "it did not say why". */
static const char *last_words(const char *log)
{
	static char text[400];
	cleanup_fd int fd = open(log, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	off_t from = size > (off_t)sizeof(text) - 1 ? size - ((off_t)sizeof(text) - 1) : 0;
	ssize_t n = size > 0 ? pread(fd, text, sizeof(text) - 1, from) : 0;
	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
		n--;
	text[n < 0 ? 0 : n] = '\0';
	const char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	return *line ? line : "it did not say why";
}

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What comes first from FD until the deadline; the number of bytes, 0 at its end, -1 with errno. */
static ssize_t first_from(int fd, char *data, size_t size)
{
	int64_t deadline = now_ms() + READY_SECONDS * 1000;
	for (;;) {
		struct pollfd one = {fd, POLLIN, 0};
		int64_t left = deadline - now_ms();
		int n = poll(&one, 1, left > 0 ? (int)left : 0);
		if (n > 0)
			return read(fd, data, size);
		if (n == 0)
			errno = ETIMEDOUT;
		if (n == 0 || errno != EINTR)
			return -1;
	}
}

int op_net_ready(struct player *p, const struct op *op)
{
	char message[64];
	int error = EIO;
	(void)op;
	if (p->program_control < 0)
		return fail_text(p, EINVAL, "there is no network program to wait for");
	int handed = hand_over(p->program_control);
	ssize_t n = first_from(p->program_ready, message, sizeof(message));
	if (n < 0)
		return fail(p, errno, "cannot wait for", p->program_name);
	if (n > 0 && message[0] == 'E') {
		if ((size_t)n >= 1 + sizeof(error))
			memcpy(&error, message + 1, sizeof(error));
		return fail(p, error, "cannot start", p->program_name);
	}
	if (n == 0 || handed < 0)
		return fail_text(p, EIO, "%s failed: %s", p->program_name, last_words(p->program_log));
	close_fd(&p->program_control);
	close_fd(&p->program_ready);
	p->program_control = p->program_ready = -1;
	return 0;
}

/* Say TEXT on a connection to PATH and put what comes back into ANSWER. */
static int converse(const char *path, const struct text *text, char *answer, size_t size)
{
	struct timeval patience = {READY_SECONDS, 0};
	cleanup_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t used = 0;
	ssize_t n;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    connect_path(fd, path) < 0 || send(fd, text->data, text->size, MSG_NOSIGNAL) != (ssize_t)text->size ||
	    shutdown(fd, SHUT_WR) < 0)
		return -1;
	while (used < size - 1 && (n = recv(fd, answer + used, size - 1 - used, 0)) != 0) {
		if (n < 0 && errno != EINTR)
			return -1;
		used += n > 0 ? (size_t)n : 0;
	}
	answer[used] = '\0';
	return 0;
}

int op_net_request(struct player *p, const struct op *op)
{
	char answer[ANSWER_MAX];
	if (converse(op->a[0].s.data, &op->a[1].s, answer, sizeof(answer)) < 0)
		return fail(p, errno, op->a[2].s.data, "");
	if (strstr(answer, "\"return\""))
		return 0;
	answer[strcspn(answer, "\n")] = '\0';
	return fail_text(p, EADDRINUSE, "%s: %.300s", op->a[2].s.data, *answer ? answer : "no answer");
}
