/* What is taken away at the end: survivors, the container itself with --rm, the run directory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

#define SURVIVOR_ROUNDS 1000

/* Joins up to three parts into BUFFER; false if they do not fit. */
static bool join(char *buffer, size_t size, const char *a, const char *b, const char *c)
{
	struct text text;

	text_init(&text, buffer, size);
	text_add(&text, a);
	text_add(&text, b);
	text_add(&text, c);
	text_bytes(&text, "", 1);
	return !text.full;
}

/* The number that *AT begins with, or 0; *AT comes to stand at the next one. */
static pid_t next_pid(char **at)
{
	pid_t pid = 0;

	for (; **at >= '0' && **at <= '9'; ++*at)
		pid = pid * 10 + (**at - '0');
	*at += **at == ' ';
	return pid;
}

/* Kills the container's orphans.  Without a PID namespace of its own its other processes outlive the first
 * one and, because we are a subreaper, become our children.  Those of an exec session belong to the
 * container. */
void remove_survivors(const struct monitor *m)
{
	char list[256];
	int round, fd;
	ssize_t count;
	pid_t pid;
	char *at;

	for (round = 0; m->config.state && round < SURVIVOR_ROUNDS; round++) {
		fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return;
		count = read(fd, list, sizeof list - 1);
		close(fd);
		if (count <= 0)
			return;
		list[count] = 0;
		for (at = list, pid = next_pid(&at); pid && pid == m->log.file.packer;)
			pid = next_pid(&at); /* works for the log, and is no child of the container */
		if (!pid)
			return;
		kill(pid, SIGKILL);
		if (waitpid(pid, NULL, 0) < 0)
			return;
	}
}

/* Runs a program with /dev/null for stdio and waits for it and all that it leaves behind. */
static void run_and_wait(const struct monitor *m, const char *path, char *const argv[], int tape)
{
	int fds[FIRST_FREE_FD] = {-1, -1, -1, tape, -1, -1, -1, -1, -1, -1};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	fds[0] = fds[1] = fds[2] = null;
	fds[5] = (int)m->config.user_ns_fd;
	fds[6] = (int)m->config.net_ns_fd;
	if (child_spawn(path, argv, fds) > 0)
		while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
			;
	fd_close(&null);
}

/* Frees the container's name, unless another container has it by now. */
static void remove_name(const struct monitor *m, const char *trashed, const char *id)
{
	char path[PATH_MAX], name[256], owner[256];
	ssize_t count;
	int fd;

	if (!m->config.names_dir || !join(path, sizeof path, trashed, "/name", ""))
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	count = read(fd, name, sizeof name - 1);
	close(fd);
	while (count > 0 && name[count - 1] == '\n')
		count--;
	name[count > 0 ? count : 0] = 0;
	if (count <= 0 || strchr(name, '/') || !join(path, sizeof path, m->config.names_dir, "/", name))
		return;
	count = readlink(path, owner, sizeof owner - 1);
	if (count > 0 && (size_t)count == strlen(id) && !strncmp(owner, id, (size_t)count))
		unlink(path);
}

/* --rm: the container goes to the trash, its name is freed, and the remove tape takes its files away.  If
 * we are killed in between, what is in the trash is taken away by the next garbage collection. */
void remove_container(struct monitor *m)
{
	static char program[] = "launch", tape_fd[] = "3", no_status[] = "-1";
	char *argv[] = {program, tape_fd, no_status, NULL};
	const char *directory = m->config.container_dir, *id;
	char trashed[PATH_MAX];
	int tape;

	if (!m->config.remove_tape || !directory || !m->config.trash_dir)
		return;
	id = strrchr(directory, '/');
	id = id ? id + 1 : directory;
	tape = child_open_tape(m, KEPT_REMOVE);
	if (join(trashed, sizeof trashed, m->config.trash_dir, "/", id) && rename(directory, trashed) == 0) {
		remove_name(m, trashed, id);
		events_emit(m, "destroy", "");
	}
	if (tape >= 0)
		run_and_wait(m, m->config.launch, argv, tape);
	fd_close(&tape);
}

/* The engine's own cleanup. */
void remove_call_hook(const struct monitor *m)
{
	char *argv[MAX_EXIT_ARGS + 2] = {NULL};
	int i;

	if (!m->config.on_exit)
		return;
	argv[0] = (char *)m->config.on_exit;
	for (i = 0; i < m->config.on_exit_count; i++)
		argv[i + 1] = (char *)m->config.on_exit_args[i];
	run_and_wait(m, m->config.on_exit, argv, -1);
}

struct entry { /* struct linux_dirent64; the C library's reader allocates */
	uint64_t inode;
	int64_t next;
	unsigned short size;
	unsigned char type;
	char name[];
};

static void empty_directory(int parent, const char *name, int depth);

static bool remove_entry(int fd, const char *name, int depth)
{
	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	if (unlinkat(fd, name, 0) == 0)
		return true;
	if ((errno != EISDIR && errno != EPERM) || depth == 0)
		return false;
	empty_directory(fd, name, depth - 1);
	return unlinkat(fd, name, AT_REMOVEDIR) == 0;
}

static void empty_directory(int parent, const char *name, int depth)
{
	_Alignas(struct entry) char buffer[2048];
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool removed = true;
	long count, at;

	while (fd >= 0 && removed) { /* again from the start: removing may move what has not been read */
		removed = false;
		lseek(fd, 0, SEEK_SET);
		while ((count = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0)
			for (at = 0; at < count; at += ((struct entry *)(void *)(buffer + at))->size)
				removed |= remove_entry(fd, ((struct entry *)(void *)(buffer + at))->name, depth);
	}
	fd_close(&fd);
}

/* Takes away the socket, the tapes and what exec sessions that were killed have left. */
void remove_run_dir(const struct monitor *m)
{
	if (m->config.run_dir) {
		empty_directory(AT_FDCWD, m->config.run_dir, 1);
		rmdir(m->config.run_dir);
	} else if (m->config.socket) {
		unlink(m->config.socket);
	}
}
