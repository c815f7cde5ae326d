/* The container's network namespace, handed to the network service.
 *
 * net_attach is played by the process that becomes the container's first one: the clone operation makes it,
 * nothing after that forks it away, and exec keeps its pid.  So the pid that the service reads from its end of
 * the connection (SO_PEERCRED notes who connects, when it does) is the pid whose end is the container's end.
 * It is played before set_ids: until then the process has the caller's own IDs, to whom alone the runtime
 * directory is open, whatever the container's ID map is.  It only asks: while the service works, the root is
 * assembled.  net_attached hears the answer, before the pivot.  A service that ended meanwhile is asked again, by
 * then with other IDs, so that its socket is kept open by a descriptor; that lets in whoever may write to it.
 *
 * To the service: the payload with a descriptor of the namespace, then the end of the stream.  From it, up to
 * its end: "ok\n", or "ok COUNT NAMES\n" with COUNT listening sockets in SCM_RIGHTS messages (NAMES separated
 * by colons, as sd_listen_fds_with_names has them), or one line that says what is wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>

#include "launch.h"

#define PAYLOAD_MAX 65536
#define ANSWER_MAX 4096
#define ANSWER_SECONDS 20
#define RETRY_MS 2000 /* a service that is being started again; its listener waits meanwhile */
#define RETRY_PAUSE_MS 10
#define RESTARTS 3

struct answer {
	char text[ANSWER_MAX + 1];
	size_t size;
};

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* connect(2) to a socket whose path may be longer than an address: by a descriptor of its directory. */
int connect_path(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *slash = strrchr(path, '/');
	char directory[4096];
	cleanup_fd int parent = -1;
	if (strlen(path) < sizeof(address.sun_path)) {
		strcpy(address.sun_path, path);
	} else {
		size_t length = slash ? (size_t)(slash - path) : 0;
		if (length == 0 || length >= sizeof(directory) ||
		    strlen(slash) >= sizeof(address.sun_path) - 32) { /* 32: what fd_path makes */
			errno = ENAMETOOLONG;
			return -1;
		}
		memcpy(directory, path, length);
		directory[length] = '\0';
		parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (parent < 0)
			return -1;
		fd_path(parent, address.sun_path);
		strcat(address.sun_path, slash);
	}
	int result, error;
	do
		result = connect(fd, (struct sockaddr *)&address, sizeof(address));
	while (result < 0 && errno == EINTR);
	error = errno;
	if (parent >= 0)
		close(parent);
	parent = -1;
	errno = error;
	return result;
}

/* A connection to the service, or -1 with errno. */
static int reach(const char *path)
{
	struct timeval patience = {ANSWER_SECONDS, 0};
	int64_t deadline = now_ms() + RETRY_MS;
	for (;;) {
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			return -1;
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		if (connect_path(fd, path) == 0)
			return fd;
		int error = errno;
		close(fd);
		errno = error;
		if ((error != ECONNREFUSED && error != ENOENT && error != EAGAIN) || now_ms() >= deadline)
			return -1;
		poll(NULL, 0, RETRY_PAUSE_MS);
	}
}

/* Send the payload, the namespace with its first byte. */
static int ask(int fd, const struct text *payload, int namespace)
{
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	memset(&control, 0, sizeof(control));
	for (size_t done = 0; done < payload->size;) {
		struct iovec io = {(void *)(uintptr_t)(payload->data + done), payload->size - done};
		struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
		if (done == 0) {
			message.msg_control = control.buffer;
			message.msg_controllen = sizeof(control.buffer);
			struct cmsghdr *c = CMSG_FIRSTHDR(&message);
			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(sizeof(int));
			memcpy(CMSG_DATA(c), &namespace, sizeof(int));
		}
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return shutdown(fd, SHUT_WR);
}

static void drop_listeners(struct player *p)
{
	for (int i = 0; i < p->listen_count; i++)
		close(p->listen[i]);
	p->listen_count = 0;
}

/* Keep the descriptors that came with a message; those too many are closed. */
static void keep_descriptors(struct player *p, struct msghdr *message)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (p->listen_count < MAX_LISTEN)
				p->listen[p->listen_count++] = fd;
			else
				close(fd);
		}
	}
}

/* Receive a piece of the answer: as recv(2). */
static ssize_t receive(struct player *p, int fd, char *at, size_t room)
{
	static union {
		char buffer[CMSG_SPACE(sizeof(int) * MAX_LISTEN)];
		struct cmsghdr align;
	} control;
	struct iovec io = {at, room};
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	message.msg_control = control.buffer;
	message.msg_controllen = sizeof(control.buffer);
	ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (n >= 0)
		keep_descriptors(p, &message);
	return n;
}

/* Read the answer up to its end, 0; or -1 with errno.  Who hangs up on our question resets the connection,
 * which is told after what was said before. */
static int listen_to(struct player *p, int fd, struct answer *answer)
{
	int64_t deadline = now_ms() + ANSWER_SECONDS * 1000;
	answer->size = 0;
	for (;;) {
		int64_t left = deadline - now_ms();
		struct pollfd wait = {fd, POLLIN, 0};
		if (left <= 0 || poll(&wait, 1, (int)left) == 0) {
			errno = ETIMEDOUT;
			return -1;
		}
		char spare[64];
		size_t room = ANSWER_MAX - answer->size;
		ssize_t n = receive(p, fd, room ? answer->text + answer->size : spare, room ? room : sizeof(spare));
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			break;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return -1;
		if (n > 0 && room)
			answer->size += (size_t)n;
	}
	answer->text[answer->size] = '\0';
	return 0;
}

/* The first line, which is shown to the user: without what could move a terminal's cursor. */
static int refuse(struct player *p, struct answer *answer)
{
	size_t end = strcspn(answer->text, "\n");
	answer->text[end] = '\0';
	for (char *at = answer->text; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 127)
			*at = '?';
	if (end == 0)
		return fail_text(p, EPROTO, "the network service gave no reason");
	return fail_text(p, EIO, "%s", answer->text);
}

/* "ok COUNT NAMES": as many descriptors have come, and the names are names. */
static int take_listeners(struct player *p, const struct answer *answer)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/@:";
	char *end;
	long count = strtol(answer->text + 3, &end, 10);
	size_t length = *end == ' ' ? strspn(end + 1, allowed) : 0;
	const char *names = *end == ' ' ? end + 1 : "";
	const char *rest = *end == ' ' ? end + 1 + length : end;
	if (count != p->listen_count || length >= sizeof(p->listen_names) || strcmp(rest, "\n") != 0)
		return fail_text(p, EPROTO, "the network service handed over %d sockets and named others",
				 p->listen_count);
	snprintf(p->listen_names, sizeof(p->listen_names), "%.*s", (int)length, names);
	return 0;
}

static int judge(struct player *p, struct answer *answer)
{
	bool whole = strlen(answer->text) == answer->size;
	if (whole && strncmp(answer->text, "ok ", 3) == 0)
		return take_listeners(p, answer);
	if (whole && strcmp(answer->text, "ok\n") == 0 && p->listen_count == 0)
		return 0;
	return refuse(p, answer);
}

/* Ask by a connection to PATH, which is kept for the answer. */
static int question(struct player *p, const char *path)
{
	int fd = reach(path);
	if (fd < 0)
		return fail(p, errno, "cannot reach the network service at", p->attach.path);
	int asked = ask(fd, &p->attach.payload, p->attach.namespace);
	/* Whoever hangs up early may have said why before. */
	if (asked < 0 && errno != EPIPE && errno != ECONNRESET && errno != ENOTCONN) {
		int error = errno;
		close(fd);
		return fail(p, error, "cannot ask the network service at", p->attach.path);
	}
	p->attach.connection = fd;
	return 0;
}

int op_net_attach(struct player *p, const struct op *op)
{
	struct attach *a = &p->attach;
	if (a->connection >= 0)
		return fail_text(p, EALREADY, "cannot ask the network service: it has been asked");
	if (op->a[1].s.size == 0 || op->a[1].s.size > PAYLOAD_MAX)
		return fail_text(p, EINVAL, "cannot ask the network service: the question has %u bytes",
				 op->a[1].s.size);
	a->path = op->a[0].s.data;
	a->payload = op->a[1].s;
	a->namespace = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (a->namespace < 0)
		return fail(p, errno, "cannot open", "/proc/self/ns/net");
	if (question(p, a->path) < 0)
		return -1;
	a->door = open(a->path, O_PATH | O_CLOEXEC);
	return 0;
}

/* One answer: 0 attached, -1 not, 1 the service ended without one. */
static int hear(struct player *p)
{
	static struct answer answer;
	int heard = listen_to(p, p->attach.connection, &answer), error = errno;
	close_fd(&p->attach.connection);
	p->attach.connection = -1;
	if (heard < 0)
		return fail(p, error, "cannot hear the network service at", p->attach.path);
	return answer.size ? judge(p, &answer) : 1;
}

/* The service is there again at the same socket, which netguard holds: see reach(). */
static int ask_again(struct player *p)
{
	char door[32];
	fd_path(p->attach.door, door);
	drop_listeners(p);
	return question(p, p->attach.door >= 0 ? door : p->attach.path);
}

int op_net_attached(struct player *p, const struct op *op)
{
	(void)op;
	struct attach *a = &p->attach;
	if (a->connection < 0)
		return fail_text(p, ENOTCONN, "cannot hear the network service: it has not been asked");
	int result = hear(p);
	for (int tries = 1; result > 0 && tries < RESTARTS; tries++)
		result = ask_again(p) < 0 ? -1 : hear(p);
	int error = errno;
	close_fd(&a->namespace);
	close_fd(&a->door);
	a->namespace = a->door = -1;
	if (result == 0)
		return 0;
	drop_listeners(p);
	if (result > 0)
		return fail_text(p, EPIPE, "cannot hear the network service at %s: it ended without an answer",
				 a->path);
	errno = error;
	return -1;
}

/* Put the listening sockets where the program expects them, from descriptor 3 on; the first free one after
 * them, or -1 with errno.  The supervisor's socket, and each of them, may be in another's way. */
int place_listeners(struct player *p)
{
	int first = 3, after = first + p->listen_count;
	if (p->listen_count == 0)
		return after;
	if (p->status_fd >= 0 && p->status_fd < after) {
		p->status_fd = fcntl(p->status_fd, F_DUPFD_CLOEXEC, after);
		if (p->status_fd < 0)
			return -1;
	}
	for (int i = 0; i < p->listen_count; i++)
		if (p->listen[i] < after && (p->listen[i] = fcntl(p->listen[i], F_DUPFD_CLOEXEC, after)) < 0)
			return -1;
	for (int i = 0; i < p->listen_count; i++)
		if (dup2(p->listen[i], first + i) < 0)
			return -1;
	return after;
}

/* What sd_listen_fds(3) reads, as COUNT strings for the environment.  The pid is what the program will see of
 * itself: it is this process. */
int listen_environment(const struct player *p, char *out[3])
{
	static char fds[32], pid[32], names[sizeof(p->listen_names) + 32];
	if (p->listen_count == 0)
		return 0;
	snprintf(fds, sizeof(fds), "LISTEN_FDS=%d", p->listen_count);
	snprintf(pid, sizeof(pid), "LISTEN_PID=%d", (int)getpid());
	snprintf(names, sizeof(names), "LISTEN_FDNAMES=%s", p->listen_names);
	out[0] = fds;
	out[1] = pid;
	out[2] = names;
	return p->listen_names[0] ? 3 : 2;
}
