/* A process beside the container that answers the questions of a seccomp filter: starting it, handing it the
 * filter's listener, receiving and answering.
 *
 * It is forked while the launcher still sees the host: a child of our parent, outside of the container's PID and
 * mount namespaces.  When the filter is to be loaded the launcher greets it, and it says whether it can do its
 * work (0 or an errno, one byte); then the listener goes over.  It ends when no process has the filter any more.
 * Should it be killed, the calls it would answer fail with ENOSYS, which is the kernel's doing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "launch.h"
#include "launch_notify.h"

#define NEW_LISTENER 8u			 /* Linux 5.0 */
#define SET_FLAGS _IOW('!', 4, uint64_t) /* Linux 6.6 */
#define SYNC_WAKE_UP 1ull
#define CONTINUE 1u			    /* Linux 5.5 */
#define OLD_ID_VALID _IOR('!', 2, uint64_t) /* before Linux 5.9 */

/* Fork the supervisor: 0 in it, 1 in the launcher, each with its end in *CONTROL; -1.  The launcher's own
 * supervisor is told of it by a message of TYPE. */
int notify_fork(struct player *p, char type, const char *what, int *control)
{
	int ends[2], on = 1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ||
	    setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
		return fail(p, errno, "cannot start", what);
	pid_t pid = fork_beside();
	if (pid == 0) {
		*control = ends[1];
		return 0;
	}
	close(ends[1]);
	if (pid < 0)
		return fail(p, errno, "cannot start", what);
	*control = ends[0];
	uint32_t id = (uint32_t)pid;
	if (send_message(p, type, &id, sizeof(id), -1) < 0)
		return fail(p, errno, "cannot reach the supervisor", "");
	return 1;
}

/* Nothing of the launcher's stays open but the way to it. */
bool notify_alone(int control, const char *name)
{
	cleanup_fd int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		if (null < 0 || dup2(null, fd) < 0)
			return false;
	if (dup2(control, NOTIFY_CONTROL_FD) < 0)
		return false;
	null = -1;
	close_above(NOTIFY_CONTROL_FD);
	setsid();
	umask(0);
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, name, 0, 0, 0);
	return chdir("/") == 0 && fcntl(NOTIFY_CONTROL_FD, F_SETFD, FD_CLOEXEC) == 0;
}

/* Receive one byte from the launcher, with its pid (as long as that is asked for) or with a descriptor. */
static bool receive(pid_t *pid, int *fd)
{
	char byte;
	struct iovec io = {&byte, 1};
	union {
		char buffer[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
	struct ucred who;
	message.msg_control = control.buffer;
	message.msg_controllen = sizeof(control.buffer);
	ssize_t n;
	do
		n = recvmsg(NOTIFY_CONTROL_FD, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		return false;
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	if (!c || c->cmsg_level != SOL_SOCKET)
		return false;
	if (c->cmsg_type == SCM_CREDENTIALS) {
		memcpy(&who, CMSG_DATA(c), sizeof(who));
		*pid = who.pid;
		return setsockopt(NOTIFY_CONTROL_FD, SOL_SOCKET, SO_PASSCRED, &(int){0}, sizeof(int)) == 0;
	}
	memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	return c->cmsg_type == SCM_RIGHTS;
}

/* Wait until the launcher, in the container's namespaces now, is about to load the filter. */
bool notify_greeted(pid_t *launcher)
{
	int none = -1;
	*launcher = -1;
	return receive(launcher, &none) && *launcher > 0;
}

/* Answer the greeting with ERROR and take the listener; false if there is none to come. */
bool notify_listener(int error, int *listener)
{
	pid_t none;
	char byte = (char)error;
	*listener = -1;
	if (send(NOTIFY_CONTROL_FD, &byte, 1, MSG_NOSIGNAL) != 1 || error)
		return false;
	if (!receive(&none, listener) || *listener < 0)
		return false; /* the launch failed, or the kernel has no listeners */
	close(NOTIFY_CONTROL_FD);
	ioctl(*listener, SET_FLAGS, SYNC_WAKE_UP);
	return true;
}

/* Wait for the next question, for as long as the listener says that there is one; NULL if it is gone again. */
const struct seccomp_notif *notify_next(int listener)
{
	/* Later kernels may have more to say than the headers we were compiled with. */
	static union {
		struct seccomp_notif notice;
		char room[512];
	} in;
	memset(&in, 0, sizeof(in));
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &in) == 0)
		return &in.notice;
	if (errno != EINTR && errno != ENOENT)
		_exit(1);
	return NULL;
}

void notify_reply(int listener, uint64_t id, int result)
{
	static union {
		struct seccomp_notif_resp response;
		char room[512];
	} out;
	memset(&out, 0, sizeof(out));
	out.response.id = id;
	if (result == RUN_IT)
		out.response.flags = CONTINUE;
	else
		out.response.error = result;
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &out); /* ENOENT: the caller was killed meanwhile */
}

bool notify_valid(int listener, uint64_t id)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 || ioctl(listener, OLD_ID_VALID, &id) == 0;
}

/* Read SIZE bytes of the caller's memory; 0 or a negative errno. */
int caller_read(pid_t pid, uint64_t address, void *out, size_t size)
{
	struct iovec here = {out, size}, there = {(void *)(uintptr_t)address, size};
	ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
	return n < 0 ? -errno : (size_t)n == size ? 0 : -EFAULT;
}

/* What the process answers to our greeting; it looks at us to be ready.  0 or an errno. */
static int greet(int control)
{
	char answer;
	if (send(control, "r", 1, MSG_NOSIGNAL) != 1)
		return errno;
	ssize_t n;
	do
		n = recv(control, &answer, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1 ? (unsigned char)answer : ECHILD;
}

/* Load ASKING and give the process its listener: 0, or -1 where nothing was loaded and nobody is to blame,
 * with why in *REFUSED; -2 with a reason if the launch cannot go on. */
int notify_load(struct player *p, int control, const struct text *asking, unsigned int flags, int *refused)
{
	*refused = greet(control);
	if (*refused)
		return -1;
	int listener = load_filter(p, asking, NEW_LISTENER | flags);
	if (listener < 0 && errno == EINVAL && flags)
		listener = load_filter(p, asking, NEW_LISTENER);
	/* No listener: an older kernel, or a filter above us that has one already. */
	*refused = errno;
	if (listener < 0)
		return -1;
	int result = send_with_fd(control, 'l', NULL, 0, listener);
	if (result < 0)
		fail(p, errno, "cannot reach the process that answers for a filter", "");
	close(listener);
	return result < 0 ? -2 : 0;
}
