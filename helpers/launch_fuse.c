/* A FUSE filesystem for the new root: mounted by us, served by a program of the host.
 *
 * No fusermount: root of a user namespace may mount FUSE itself (Linux 4.18).  The connection has to be
 * opened in the same user namespace.  The server is made a child of our parent, the supervisor, and gets a
 * mount namespace of its own in which the filesystem is not mounted: so the last process of the
 * container takes the mount with it, the connection ends, and the server leaves by itself, whoever else died.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "launch.h"

#define SERVER_FD 3
#define MAX_SERVER_ARGS 1100

/* A child of our parent. */
pid_t fork_beside(void)
{
	unsigned long flags = CLONE_PARENT | SIGCHLD;
#if defined(__s390__)
	return (pid_t)syscall(SYS_clone, 0, flags, 0, 0, 0);
#else
	return (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
#endif
}

static _Noreturn void tell_and_leave(int fd)
{
	int error = errno;
	if (write(fd, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

/* Descriptors: 0 and 1 null, 2 the log (or null), 3 the connection; nothing else but the way to tell. */
static int server_files(int connection, int *tell, const char *log)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), lines = null;
	if (null < 0)
		return -1;
	if (*log)
		lines = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (lines < 0)
		lines = null;
	*tell = fcntl(*tell, F_DUPFD_CLOEXEC, SERVER_FD + 1);
	connection = fcntl(connection, F_DUPFD_CLOEXEC, SERVER_FD + 1);
	lines = fcntl(lines, F_DUPFD_CLOEXEC, SERVER_FD + 1);
	null = fcntl(null, F_DUPFD_CLOEXEC, SERVER_FD + 1);
	if (*tell < 0 || connection < 0 || lines < 0 || null < 0)
		return -1;
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(lines, 2) < 0 || dup2(connection, SERVER_FD) < 0)
		return -1;
	seal_descriptors(SERVER_FD + 1, *tell);
	return 0;
}

static _Noreturn void serve(const struct op *op, int connection, int tell)
{
	static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8";
	static char *const environment[] = {path, locale, NULL};
	static char *argv[MAX_SERVER_ARGS + 1];
	const char *cursor = op->a[3].l.cursor;
	for (uint32_t i = 0; i < op->a[3].l.count; i++)
		argv[i] = (char *)list_next(&cursor, NULL);
	if (unshare(CLONE_NEWNS) < 0 || umount2(op->a[1].s.data, MNT_DETACH) < 0)
		tell_and_leave(tell);
	setsid();
	umask(022);
	if (server_files(connection, &tell, op->a[2].s.data) < 0)
		tell_and_leave(tell);
	execve(argv[0], argv, environment);
	tell_and_leave(tell);
}

int op_fuse(struct player *p, const struct op *op)
{
	const char *target = op->a[1].s.data;
	char options[512];
	int tell[2], error = 0;
	if (op->a[3].l.count < 1 || op->a[3].l.count > MAX_SERVER_ARGS)
		return fail_text(p, EINVAL, "cannot serve %s: no program, or too many arguments", target);
	cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fail(p, errno, "cannot open", "/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0%s%s", fd,
		 op->a[0].s.size ? "," : "", op->a[0].s.data);
	if (mount("rootless", target, "fuse", 0, options) < 0)
		return fail(p, errno, "cannot mount FUSE at", target);
	if (pipe2(tell, O_CLOEXEC) < 0)
		return fail(p, errno, "cannot make a pipe", "");
	pid_t pid = fork_beside();
	if (pid == 0)
		serve(op, fd, tell[1]);
	close(tell[1]);
	ssize_t n = pid < 0 ? 0 : read(tell[0], &error, sizeof(error));
	if (pid < 0)
		error = errno;
	close(tell[0]);
	if (pid < 0 || n > 0) {
		const char *cursor = op->a[3].l.cursor;
		return fail(p, error, "cannot start storage server", list_next(&cursor, NULL));
	}
	uint32_t id = (uint32_t)pid;
	return send_message(p, 'H', &id, sizeof(id), -1) < 0 ? fail(p, errno, "cannot reach the supervisor", "") : 0;
}
