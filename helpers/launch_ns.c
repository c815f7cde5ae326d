/* Namespaces: joining them, making them, and the identity inside. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "launch.h"

#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

enum { MAP_NONE, MAP_DIRECT, MAP_HELPER, MAP_SINGLE };
enum { PROCESS_FD = 7 }; /* where a supervisor that has the process puts its directory in /proc */

int op_join_fd(struct player *p, const struct op *op)
{
	int fd = (int)op->a[0].i;
	if (setns(fd, (int)op->a[1].i) < 0)
		return fail(p, errno, "cannot join the realm", "");
	close(fd);
	return 0;
}

int op_join_path(struct player *p, const struct op *op)
{
	cleanup_fd int fd = open(op->a[0].s.data, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, (int)op->a[1].i) < 0)
		return fail(p, errno, "cannot join namespace", op->a[0].s.data);
	return 0;
}

/* Field 22 of a stat line: the fields after the last ')' begin with the third. */
static long long start_time(int proc)
{
	char line[1024];
	cleanup_fd int fd = openat(proc, "stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	if (n <= 0)
		return -1;
	line[n] = '\0';
	const char *at = strrchr(line, ')');
	for (int field = 2; at && field < 22; field++) {
		at = strchr(at, ' ');
		if (at)
			at++;
	}
	return at ? atoll(at) : -1;
}

static const struct {
	int flag;
	const char *name;
} kinds[] = {{CLONE_NEWUSER, "user"}, {CLONE_NEWCGROUP, "cgroup"}, {CLONE_NEWIPC, "ipc"}, {CLONE_NEWUTS, "uts"},
	     {CLONE_NEWNET, "net"},   {CLONE_NEWPID, "pid"},	   {CLONE_NEWNS, "mnt"}};

/* A process's directory in /proc: of PID if it began at START, or for 0 the one that we inherited. */
static int open_process(int64_t pid, int64_t start)
{
	char path[64];
	if (pid == 0)
		return fcntl(PROCESS_FD, F_DUPFD_CLOEXEC, PROCESS_FD + 1);
	snprintf(path, sizeof(path), "/proc/%lld", (long long)pid);
	int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc >= 0 && start_time(proc) != start)
		close_fd(&proc), proc = -1;
	return proc;
}

/* Everything is opened below one /proc/PID descriptor, which can't come to mean another process. */
int op_join_proc(struct player *p, const struct op *op)
{
	char path[64];
	int fds[7] = {-1, -1, -1, -1, -1, -1, -1};
	int result = 0;
	cleanup_fd int proc = open_process(op->a[0].i, op->a[1].i);
	if (proc < 0)
		return fail_text(p, ESRCH, "cannot join process %lld: it has ended", (long long)op->a[0].i);
	for (size_t i = 0; i < 7; i++) {
		if (!(op->a[2].i & kinds[i].flag))
			continue;
		snprintf(path, sizeof(path), "ns/%s", kinds[i].name);
		fds[i] = openat(proc, path, O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			result = fail(p, errno, "cannot open namespace", kinds[i].name);
	}
	for (size_t i = 0; i < 7; i++) {
		if (fds[i] >= 0 && result == 0 && setns(fds[i], kinds[i].flag) < 0)
			result = fail(p, errno, "cannot join namespace", kinds[i].name);
		int error = errno;
		close_fd(&fds[i]);
		errno = error;
	}
	if (result == 0 && (op->a[2].i & CLONE_NEWNS))
		p->pivoted = true;
	return result;
}

static int namespace_error(struct player *p, int error, int64_t flags)
{
	if (!(flags & CLONE_NEWUSER))
		return fail(p, error, "cannot make namespaces", "");
	if (error == ENOSPC)
		return fail_text(p, error,
				 "cannot make a user namespace: the limit is reached (ENOSPC; "
				 "user.max_user_namespaces)");
	if (error == EUSERS)
		return fail_text(p, error, "cannot make a user namespace: nested too deeply (EUSERS)");
	if (error == EPERM || error == EACCES)
		return fail_text(p, error,
				 "cannot make a user namespace: the host forbids it to ordinary users "
				 "(%s; AppArmor or a sysctl)",
				 error == EPERM ? "EPERM" : "EACCES");
	return fail(p, error, "cannot make a user namespace", "");
}

/* Run newuidmap or newgidmap for PID with a map of lines; what it says on failure becomes the reason. */
static int run_helper(struct player *p, const char *program, pid_t pid, const char *map)
{
	char target[16], copy[4096], said[512], *argv[256], *save = NULL;
	int argc = 0, out[2], status;
	if (strlen(map) >= sizeof(copy))
		return fail_text(p, E2BIG, "cannot map IDs: the map is too long");
	strcpy(copy, map);
	snprintf(target, sizeof(target), "%d", (int)pid);
	argv[argc++] = (char *)program;
	argv[argc++] = target;
	for (char *w = strtok_r(copy, " \n", &save); w && argc < 255; w = strtok_r(NULL, " \n", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	if (pipe2(out, O_CLOEXEC) < 0)
		return fail(p, errno, "cannot map IDs", "");
	pid_t child = fork();
	if (child == 0) {
		dup2(out[1], 2);
		execv(program, argv);
		_exit(127);
	}
	close(out[1]);
	size_t used = 0;
	ssize_t n;
	while (used < sizeof(said) - 1 && (n = read(out[0], said + used, sizeof(said) - 1 - used)) > 0)
		used += (size_t)n;
	close(out[0]);
	said[used] = '\0';
	said[strcspn(said, "\n")] = '\0';
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return fail(p, errno, "cannot run", program);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return fail_text(p, EPERM, "cannot map IDs: %s: %s", program, used ? said : "it could not be executed");
}

static int write_map(struct player *p, pid_t pid, const char *name, const char *data)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	if (write_file(path, data, strlen(data)) < 0)
		return fail(p, errno, "cannot write", path);
	return 0;
}

static int write_maps(struct player *p, const struct op *op, pid_t pid)
{
	const char *uid = op->a[2].s.data, *gid = op->a[3].s.data;
	switch (op->a[1].i) {
	case MAP_NONE:
		return 0;
	case MAP_HELPER:
		return run_helper(p, op->a[4].s.data, pid, uid) < 0 || run_helper(p, op->a[5].s.data, pid, gid) < 0 ? -1
														    : 0;
	case MAP_SINGLE:
		if (write_map(p, pid, "setgroups", "deny") < 0)
			return -1;
		/* fall through */
	case MAP_DIRECT:
		return write_map(p, pid, "uid_map", uid) < 0 || write_map(p, pid, "gid_map", gid) < 0 ? -1 : 0;
	default:
		return fail_text(p, EINVAL, "cannot map IDs: unknown mode");
	}
}

/* The child waits for one byte, so that it never runs unmapped; if we die, it reads the end and leaves. */
static void wait_for_go(int fd)
{
	char go;
	ssize_t n;
	do
		n = read(fd, &go, 1);
	while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(125);
	close(fd);
}

int op_clone(struct player *p, const struct op *op)
{
	int go[2];
	if (pipe2(go, O_CLOEXEC) < 0)
		return fail(p, errno, "cannot make a pipe", "");
	unsigned long flags = (unsigned long)op->a[0].i | CLONE_PARENT | SIGCHLD;
#if defined(__s390__)
	pid_t pid = (pid_t)syscall(SYS_clone, 0, flags, 0, 0, 0);
#else
	pid_t pid = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
#endif
	if (pid < 0)
		return namespace_error(p, errno, op->a[0].i);
	if (pid == 0) {
		close(go[1]);
		wait_for_go(go[0]);
		return 0;
	}
	close(go[0]);
	if (write_maps(p, op, pid) < 0) {
		int error = errno;
		kill(pid, SIGKILL);
		errno = error;
		return -1;
	}
	uint32_t id = (uint32_t)pid;
	if (send_message(p, 'P', &id, sizeof(id), -1) < 0 || write(go[1], "g", 1) != 1) {
		kill(pid, SIGKILL);
		_exit(125);
	}
	_exit(0);
}

int op_unshare(struct player *p, const struct op *op)
{
	if (unshare((int)op->a[0].i) < 0)
		return namespace_error(p, errno, op->a[0].i);
	return 0;
}

int op_set_ids(struct player *p, const struct op *op)
{
	uid_t uid = (uid_t)op->a[0].i;
	gid_t gid = (gid_t)op->a[1].i;
	/* EPERM: setgroups is denied in a single-ID map, and there are none to drop that could be dropped. */
	if (setgroups(0, NULL) < 0 && errno != EPERM)
		return fail(p, errno, "cannot drop supplementary groups", "");
	if (setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return fail(p, errno, "cannot change identity", "");
	/* Only this namespace's root and its owner can look at us, who could anyway. */
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
	return 0;
}

int op_setsid(struct player *p, const struct op *op)
{
	(void)op;
	if (setsid() < 0 && errno != EPERM)
		return fail(p, errno, "cannot start a session", "");
	return 0;
}

int op_pdeathsig(struct player *p, const struct op *op)
{
	if (prctl(PR_SET_PDEATHSIG, (unsigned long)op->a[0].i, 0, 0, 0) < 0)
		return fail(p, errno, "cannot set the death signal", "");
	/* A parent that died before that sends none.  Its end of the socket was closed before we became another's. */
	struct pollfd supervisor = {p->status_fd, 0, 0};
	if (p->status_fd >= 0 && poll(&supervisor, 1, 0) > 0 && supervisor.revents & (POLLHUP | POLLERR))
		return fail_text(p, EPIPE, "the supervisor is gone");
	return 0;
}

int op_sync(struct player *p, const struct op *op)
{
	uint32_t token = (uint32_t)op->a[0].i;
	char answer;
	ssize_t n;
	if (p->status_fd < 0)
		return 0;
	if (send_message(p, 'S', &token, sizeof(token), -1) < 0)
		return fail(p, errno, "cannot reach the supervisor", "");
	do
		n = recv(p->status_fd, &answer, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1 && answer == 'G' ? 0 : fail_text(p, EPIPE, "the supervisor is gone");
}

int op_loopback_up(struct player *p, const struct op *op)
{
	(void)op;
	struct ifreq request;
	cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memset(&request, 0, sizeof(request));
	strcpy(request.ifr_name, "lo");
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return fail(p, errno, "cannot find the loopback interface", "");
	request.ifr_flags = (short)(request.ifr_flags | IFF_UP);
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return fail(p, errno, "cannot set the loopback interface up", "");
	return 0;
}
