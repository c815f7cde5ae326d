/* Emulated ownership for containers of one ID: the supervisor, and the filter that asks it.
 *
 * supervise forks it while the launcher still is the realm's root and sees the host.  emulate lets it enter the
 * container's user namespace and give up what it does not need, and hands it the filter's listener
 * (launch_notify.c).  From then on it answers one question after the other, until no process has the filter any
 * more (POLLHUP, Linux 5.9; before that until the first one has ended).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "launch.h"
#include "launch_notify.h"
#include "launch_owner.h"

#define NEEDED                                                                                                         \
	(1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH | 1u << CAP_FOWNER | 1u << CAP_FSETID |  \
	 1u << CAP_SYS_CHROOT | 1u << CAP_SYS_PTRACE | 1u << CAP_SETFCAP)

/* Become as mighty as the container's root at most, in its user namespace, and know its root. */
static bool prepare(struct supervisor *s, pid_t pid)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
	cleanup_fd int userns = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/root", (int)pid);
	s->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->host_root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->upper = *s->upper_path ? open(s->upper_path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (userns < 0 || s->root < 0 || s->host_root < 0 || fstat(userns, &st) < 0)
		return false;
	s->userns = st.st_ino;
	s->root_mount = owner_mount_of(s->root);
	if (setns(userns, CLONE_NEWUSER) < 0 && errno != EINVAL) /* EINVAL: we are there */
		return false;
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{NEEDED, NEEDED, 0}, {0, 0, 0}};
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return syscall(SYS_capset, &head, data) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* A descriptor to wait for where the listener does not tell its end; -1 where it does. */
static int first_process(pid_t pid)
{
	struct utsname system;
	int major = 0, minor = 0;
	if (uname(&system) < 0 || sscanf(system.release, "%d.%d", &major, &minor) < 2 || major > 5 ||
	    (major == 5 && minor >= 9))
		return -1;
	return (int)syscall(434 /* pidfd_open */, pid, 0);
}

static _Noreturn void supervise(struct supervisor *s, int control)
{
	pid_t pid;
	s->journal = -1;
	if (!notify_alone(control, "owners") || !notify_greeted(&pid) ||
	    !notify_listener(prepare(s, pid) ? 0 : EPERM, &s->listener))
		_exit(0);
	struct pollfd wait[2] = {{s->listener, POLLIN, 0}, {first_process(pid), POLLIN, 0}};
	for (;;) {
		const struct seccomp_notif *notice;
		if (poll(wait, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (!(wait[0].revents & POLLIN) && (wait[0].revents || wait[1].revents))
			_exit(0);
		if ((wait[0].revents & POLLIN) && (notice = notify_next(s->listener)))
			notify_reply(s->listener, notice->id, owner_answer(s, notice));
	}
}

int op_supervise(struct player *p, const struct op *op)
{
	static struct supervisor s;
	int control;
	s.calls = op->a[0].s.data;
	s.calls_size = op->a[0].s.size;
	s.journal_path = op->a[1].s.data;
	s.upper_path = op->a[2].s.data;
	int side = notify_fork(p, 'O', "the supervisor of ownership", &control);
	if (side == 0)
		supervise(&s, control);
	if (side > 0)
		p->owner_fd = control;
	return side > 0 ? 0 : -1;
}

int op_emulate(struct player *p, const struct op *op)
{
	const struct text *asking = &op->a[0].s, *silent = &op->a[1].s;
	int result = -1, refused;
	if (asking->size && p->owner_fd >= 0)
		result = notify_load(p, p->owner_fd, asking, NOTIFY_KILLABLE, &refused);
	int error = errno;
	close_fd(&p->owner_fd);
	p->owner_fd = -1;
	if (result == -1)
		return load_filter(p, silent, 0) < 0 ? -1 : 0;
	errno = error;
	return result;
}
