/* fast=connect: a container's connections, made in the host's network namespace.
 *
 * connect_beside forks a process that stays there (the launcher enters the realm's user namespace only, and the
 * container's others by clone); trap_connect loads a filter that asks it about connect.  It reads the address, once,
 * takes the caller's socket (pidfd_getfd), and if that is an unused TCP socket and the rules let the address go this
 * way, connects a new one like it, which then takes the place of the caller's (ADDFD).  All else runs as it would
 * have, in the container's namespace, where the network service sees it and has the same policy.
 *
 * Nothing waits here, so that no caller keeps another waiting: the new socket is given to the caller as soon as it
 * is on its way.  The kernel then runs the call, which for a socket that is connecting means to wait for it, with
 * the caller's own time-out and signals; that it reads the address again means nothing, for a connecting socket
 * has its address.  A caller that does not wait is told EINPROGRESS.
 *
 * What differs from the container's own connections: the socket has the host's addresses (getsockname), is not seen by
 * the container's /proc/net/tcp, and copies of the descriptor made before connecting stay unconnected.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launch.h"
#include "launch_connect.h"
#include "launch_notify.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438 /* Linux 5.6 */
#endif
#define PIDFD_THREAD ((unsigned int)O_EXCL) /* Linux 6.9 */
#define SETFD 1u
#define ADDFD _IOW('!', 3, struct addfd) /* Linux 5.9 */
#define NEEDED (1u << CAP_SYS_PTRACE | 1u << CAP_NET_ADMIN | 1u << CAP_DAC_READ_SEARCH)

struct addfd {
	uint64_t id;
	uint32_t flags, srcfd, newfd, newfd_flags;
};

struct connector {
	int listener;
	const char *calls, *path;
	size_t calls_size;
	struct timespec changed; /* of the rules at path, and their inode */
	ino_t inode;
	size_t count;
	struct connect_rule rules[CONNECT_RULES_MAX];
};

/* A call in words. */
struct request {
	int fd;
	uint64_t address;
	size_t size;
};

/* Descriptor NUMBER of a process, or -1. */
int connect_take(int process, int number)
{
	return (int)syscall(SYS_pidfd_getfd, process, number, 0);
}

/* A descriptor of the process that a thread belongs to, or -1. */
static int open_process(pid_t thread)
{
	char path[64], status[512];
	int fd = (int)syscall(SYS_pidfd_open, thread, 0);
	if (fd < 0)
		fd = (int)syscall(SYS_pidfd_open, thread, PIDFD_THREAD);
	if (fd >= 0)
		return fd;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	cleanup_fd int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = file < 0 ? -1 : read(file, status, sizeof(status) - 1);
	if (n <= 0)
		return -1;
	status[n] = '\0';
	const char *at = strstr(status, "\nTgid:");
	return at ? (int)syscall(SYS_pidfd_open, atoi(at + 6), 0) : -1;
}

/* Read the rules again if they are others.  No rules, or what are none: nothing is fast. */
static void refresh(struct connector *c)
{
	struct stat st;
	if (stat(c->path, &st) < 0) {
		c->count = 0;
		c->inode = 0;
		return;
	}
	if (st.st_ino == c->inode && st.st_mtim.tv_sec == c->changed.tv_sec && st.st_mtim.tv_nsec == c->changed.tv_nsec)
		return;
	cleanup_fd int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 || fstat(fd, &st) < 0 || (size_t)st.st_size > sizeof(c->rules)
			? -1
			: read(fd, c->rules, sizeof(c->rules));
	c->count = n > 0 && connect_rules_check(c->rules, (size_t)n) ? (size_t)n / sizeof(c->rules[0]) : 0;
	c->inode = st.st_ino;
	c->changed = st.st_mtim;
}

/* What the call is about; false if its arguments cannot be read. */
static bool understand(const struct connector *c, const struct seccomp_notif *notice, struct request *out)
{
	const struct seccomp_data *data = &notice->data;
	uint32_t words[3];
	switch (connect_call(c->calls, c->calls_size, data->arch, (uint32_t)data->nr)) {
	case CONNECT_DIRECT:
		*out = (struct request){(int)data->args[0], data->args[1], (uint32_t)data->args[2]};
		return true;
	case CONNECT_SOCKETCALL:
		if (caller_read((pid_t)notice->pid, data->args[1], words, sizeof(words)))
			return false;
		*out = (struct request){(int)words[0], words[1], words[2]};
		return true;
	default:
		return false;
	}
}

/* The flags of the caller's descriptor, FD_CLOEXEC as O_CLOEXEC among them. */
static bool descriptor_flags(pid_t pid, int number, unsigned int *flags)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, number);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return connect_flags(text, flags);
}

/* Put SOCKET where the caller's NUMBER is, in the same state: 0 or an errno. */
static int replace(struct connector *c, const struct seccomp_notif *notice, int number, int socket, unsigned int flags)
{
	struct addfd add = {notice->id, SETFD, (uint32_t)socket, (uint32_t)number, flags & O_CLOEXEC};
	if (fcntl(socket, F_SETFL, (int)(flags & (O_NONBLOCK | O_ASYNC))) < 0)
		return errno;
	return ioctl(c->listener, ADDFD, &add) < 0 ? errno : 0;
}

/* Connect in the caller's stead: what the caller is told. */
static int connect_for(struct connector *c, const struct seccomp_notif *notice, int process, int old,
		       const struct request *wanted, const struct connect_target *target, enum connect_way way)
{
	struct connect_watch watches[CONNECT_WATCHES_MAX];
	unsigned int flags;
	struct stat st;
	int count = 0;
	pid_t pid = (pid_t)notice->pid;
	if (!descriptor_flags(pid, wanted->fd, &flags) || fstat(old, &st) < 0 || !notify_valid(c->listener, notice->id))
		return RUN_IT;
	if (flags & O_NONBLOCK)
		count = connect_watches(pid, wanted->fd, st.st_ino, watches);
	int made, result = connect_start(old, target, way, &made);
	if (result == -ENOSYS)
		return RUN_IT;
	if (made < 0)
		return result;
	int error = connect_move_watches(process, wanted->fd, made, watches, count)
			? replace(c, notice, wanted->fd, made, flags)
			: EBADF;
	close(made);
	if (error)
		return RUN_IT;
	return result == -EINPROGRESS && !(flags & O_NONBLOCK) ? RUN_IT : result;
}

static int answer(struct connector *c, const struct seccomp_notif *notice)
{
	unsigned char address[CONNECT_ADDRESS_MAX];
	struct connect_target target;
	struct request wanted;
	bool ours;
	if (!understand(c, notice, &wanted) || wanted.size > sizeof(address) || wanted.fd < 0 ||
	    caller_read((pid_t)notice->pid, wanted.address, address, wanted.size) ||
	    !connect_target(address, wanted.size, &target))
		return RUN_IT;
	cleanup_fd int process = open_process((pid_t)notice->pid);
	cleanup_fd int old = process < 0 ? -1 : connect_take(process, wanted.fd);
	if (old < 0 || !connect_replaceable(old, target.family, &ours))
		return RUN_IT;
	refresh(c);
	enum connect_way way = connect_way(c->rules, c->count, &target);
	if (way == CONNECT_OWN)
		return ours ? -ENETUNREACH : RUN_IT; /* ours would ask, and never hear the answer */
	return connect_for(c, notice, process, old, &wanted, &target, way);
}

/* Keep what is needed to look at the container's processes; 0, or the errno that stands in the way. */
static int prepare(pid_t launcher)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{NEEDED, NEEDED, 0}, {0, 0, 0}};
	struct rlimit files;
	char byte;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (syscall(SYS_capset, &head, data) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return errno;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	cleanup_fd int process = (int)syscall(SYS_pidfd_open, launcher, 0);
	cleanup_fd int taken = process < 0 ? -1 : connect_take(process, 0);
	if (taken < 0)
		return errno;
	return -caller_read(launcher, (uint64_t)(uintptr_t)&head, &byte, 1);
}

static _Noreturn void serve(struct connector *c, int control)
{
	pid_t launcher;
	if (!notify_alone(control, "connects") || !notify_greeted(&launcher) ||
	    !notify_listener(prepare(launcher), &c->listener))
		_exit(0);
	struct pollfd wait = {c->listener, POLLIN, 0};
	for (;;) {
		const struct seccomp_notif *notice;
		if (poll(&wait, 1, -1) < 0 && errno != EINTR)
			_exit(1);
		if (wait.revents && !(wait.revents & POLLIN))
			_exit(0);
		if ((wait.revents & POLLIN) && (notice = notify_next(c->listener)))
			notify_reply(c->listener, notice->id, answer(c, notice));
	}
}

int op_connect_beside(struct player *p, const struct op *op)
{
	static struct connector c;
	int control;
	c.calls = op->a[0].s.data;
	c.calls_size = op->a[0].s.size;
	c.path = op->a[1].s.data;
	int side = notify_fork(p, 'F', "the process that connects", &control);
	if (side == 0)
		serve(&c, control);
	if (side > 0)
		p->connect_fd = control;
	return side > 0 ? 0 : -1;
}

int op_trap_connect(struct player *p, const struct op *op)
{
	int refused = ECHILD, result = -1;
	if (p->connect_fd >= 0)
		result = notify_load(p, p->connect_fd, &op->a[0].s, 0, &refused);
	int error = errno;
	close_fd(&p->connect_fd);
	p->connect_fd = -1;
	errno = error;
	if (result == -1 && refused == EBUSY)
		return fail_text(p, EBUSY, "cannot watch connections: another filter is asking somebody already");
	if (result == -1)
		return fail(p, refused, "cannot watch connections", "");
	return result;
}
