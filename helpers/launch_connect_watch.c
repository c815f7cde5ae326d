/* Connections made in the host's network namespace: a caller that already watches its socket.
 *
 * An epoll instance knows a registration by open file and descriptor number, so that of the caller's socket goes
 * when another takes its place.  Some programs (nginx) register a socket first and connect it then.  What the
 * registration was, /proc tells; that of the new socket is made by a child that has it under the same number,
 * so that the caller can change it later as if it was its own.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "launch_connect.h"

#define EPOLL_LINK "anon_inode:[eventpoll]"
#define KCMP_EPOLL_TFD 7

/* Whether the epoll instance may know the descriptor: asked of the kernel, as reading all that it knows is slow. */
static bool may_watch(pid_t pid, int epoll, int fd)
{
	struct {
		uint32_t epoll, fd, offset;
	} slot = {(uint32_t)epoll, (uint32_t)fd, 0};
	long result = syscall(SYS_kcmp, pid, pid, KCMP_EPOLL_TFD, fd, &slot);
	return result == 0 || (result < 0 && errno != ENOENT);
}

static bool find_watch(pid_t pid, int epoll, int fd, uint64_t inode, struct connect_watch *out)
{
	char path[64], line[256];
	bool found = false;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", (int)pid, epoll);
	FILE *file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof(line), file))
		found = connect_watch(line, fd, inode, out);
	if (file)
		fclose(file);
	out->epoll = epoll;
	return found;
}

/* The registrations of the caller's descriptor FD, a socket with INODE: how many.  More than fit are not counted. */
int connect_watches(pid_t pid, int fd, uint64_t inode, struct connect_watch out[CONNECT_WATCHES_MAX])
{
	char path[64], target[sizeof(EPOLL_LINK)];
	int count = 0;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *directory = opendir(path);
	struct dirent *entry;
	while (directory && count < CONNECT_WATCHES_MAX && (entry = readdir(directory))) {
		ssize_t n = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target));
		if (n != sizeof(EPOLL_LINK) - 1 || memcmp(target, EPOLL_LINK, (size_t)n) != 0)
			continue;
		int epoll = atoi(entry->d_name);
		if (may_watch(pid, epoll, fd) && find_watch(pid, epoll, fd, inode, &out[count]))
			count++;
	}
	if (directory)
		closedir(directory);
	return count;
}

/* In the child: nothing of ours may be in the way of NUMBER. */
static bool move(int process, int number, int socket, const struct connect_watch *watches, int count)
{
	for (int i = 0; i < count; i++) {
		struct epoll_event event = {.events = watches[i].events, .data.u64 = watches[i].data};
		int epoll = connect_take(process, watches[i].epoll);
		int other = epoll == number ? fcntl(epoll, F_DUPFD_CLOEXEC, number + 1) : epoll;
		int away = process == number ? fcntl(process, F_DUPFD_CLOEXEC, number + 1) : process;
		int source = socket == number ? socket : dup2(socket, number);
		if (epoll < 0 || other < 0 || away < 0 || source < 0 ||
		    epoll_ctl(other, EPOLL_CTL_ADD, number, &event) < 0)
			return false;
		process = away;
		close(other);
	}
	return true;
}

/* Register SOCKET, which will be the caller's descriptor NUMBER, as WATCHES say. */
bool connect_move_watches(int process, int number, int socket, const struct connect_watch *watches, int count)
{
	int status = -1;
	if (count == 0)
		return true;
	pid_t pid = fork();
	if (pid == 0)
		_exit(move(process, number, socket, watches, count) ? 0 : 1);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return pid > 0 && status == 0;
}
