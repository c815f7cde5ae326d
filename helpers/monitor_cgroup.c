/* The container's control group, which the launcher made and told us of: memory that ran out, thawing, the end.
 *
 * All of it is optional.  Without a group, or on a kernel that lacks a file, the container runs as it would else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

#define END_ROUNDS 2000 /* of a millisecond: how long killed processes are waited for */
#define DEPTH_MAX 32

struct group_entry { /* struct linux_dirent64; the C library's reader allocates */
	uint64_t inode;
	int64_t next;
	unsigned short size;
	unsigned char type;
	char name[];
};

static int open_group(const struct monitor *m)
{
	return m->cgroup[0] ? open(m->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static bool write_in(int group, const char *file, const char *value)
{
	int fd = openat(group, file, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) >= 0;

	fd_close(&fd);
	return done;
}

/* The number behind WORD in a file of lines "word number"; 0 where there is none. */
static uint64_t number_of(int fd, const char *word)
{
	char text[1024];
	ssize_t count = pread(fd, text, sizeof text - 1, 0);
	size_t length = strlen(word);
	uint64_t value = 0;
	const char *at = text;

	text[count > 0 ? count : 0] = 0;
	while (at && strncmp(at, word, length) != 0) {
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}
	for (at = at ? at + length : ""; *at >= '0' && *at <= '9'; at++)
		value = value * 10 + (uint64_t)(*at - '0');
	return value;
}

/* The launcher has made the group at PATH, in which nobody is yet. */
void cgroup_adopt(struct monitor *m, const unsigned char *path, size_t length)
{
	int group;

	fd_close(&m->cgroup_events);
	m->cgroup[0] = 0;
	if (length == 0 || length >= sizeof m->cgroup || path[0] != '/')
		return;
	memcpy(m->cgroup, path, length);
	m->cgroup[length] = 0;
	group = open_group(m);
	if (group >= 0)
		m->cgroup_events = openat(group, "memory.events", O_RDONLY | O_CLOEXEC);
	fd_close(&group);
	m->oom_kills = m->cgroup_events >= 0 ? number_of(m->cgroup_events, "oom_kill ") : 0;
}

/* Something has changed in memory.events: whether a process was killed as memory ran out. */
void cgroup_look(struct monitor *m)
{
	uint64_t kills;

	if (m->cgroup_events < 0)
		return;
	kills = number_of(m->cgroup_events, "oom_kill ");
	if (kills <= m->oom_kills)
		return;
	m->oom_kills = kills;
	events_emit(m, "oom", "");
	if (m->record.oom_killed)
		return;
	m->record.oom_killed = true;
	if (m->phase == RUNNING)
		state_write(m, false);
}

/* A signal that is to end the container reaches it though it is paused. */
void cgroup_thaw(struct monitor *m)
{
	int group = open_group(m);

	if (group >= 0)
		write_in(group, "cgroup.freeze", "0");
	fd_close(&group);
}

/* Whether the container is paused, by `pause` or by anyone else. */
bool cgroup_frozen(const struct monitor *m)
{
	int group = open_group(m), fd = group < 0 ? -1 : openat(group, "cgroup.freeze", O_RDONLY | O_CLOEXEC);
	char value = '0';
	bool frozen = fd >= 0 && read(fd, &value, 1) == 1 && value == '1';

	fd_close(&fd);
	fd_close(&group);
	return frozen;
}

static bool is_populated(int group)
{
	int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	bool populated = fd >= 0 && number_of(fd, "populated ") == 1;

	fd_close(&fd);
	return populated;
}

/* Before Linux 5.14 there is no cgroup.kill: those of the group itself, by their pids. */
static void kill_each(int group)
{
	char text[4096], *at = text, *end;
	int fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	ssize_t count = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	pid_t pid;

	fd_close(&fd);
	text[count > 0 ? count : 0] = 0;
	for (; (end = strchr(at, '\n')); at = end + 1) {
		for (pid = 0; *at >= '0' && *at <= '9'; at++)
			pid = pid * 10 + (*at - '0');
		if (pid > 0)
			kill(pid, SIGKILL);
	}
}

/* Kill what is left of a life of the container, wherever its processes went. */
void cgroup_kill(struct monitor *m)
{
	int group = open_group(m), round;

	cgroup_look(m);
	for (round = 0; group >= 0 && round < END_ROUNDS && is_populated(group); round++) {
		if (!write_in(group, "cgroup.kill", "1"))
			kill_each(group);
		usleep(1000);
	}
	fd_close(&group);
}

static void remove_below(int group, int depth)
{
	_Alignas(struct group_entry) char buffer[2048];
	long count, at;

	while (depth > 0 && (count = syscall(SYS_getdents64, group, buffer, sizeof buffer)) > 0)
		for (at = 0; at < count; at += ((struct group_entry *)(void *)(buffer + at))->size) {
			const struct group_entry *entry = (const struct group_entry *)(void *)(buffer + at);
			int below;

			if (entry->type != 4 || entry->name[0] == '.') /* DT_DIR */
				continue;
			below = openat(group, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (below >= 0)
				remove_below(below, depth - 1);
			fd_close(&below);
			unlinkat(group, entry->name, AT_REMOVEDIR);
		}
}

/* What the container has made below its group may belong to any ID of the realm's: once more, as its root. */
static void remove_as_root(const struct monitor *m, int group)
{
	pid_t child = m->config.user_ns_fd < 0 ? -1 : fork();

	if (child == 0) {
		if (setns((int)m->config.user_ns_fd, CLONE_NEWUSER) == 0 && setresuid(0, 0, 0) == 0 &&
		    lseek(group, 0, SEEK_SET) == 0)
			remove_below(group, DEPTH_MAX);
		_exit(0);
	}
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Nothing follows: the group goes, with what the container has made below it.  Of a scope systemd removes the
 * rest when we have ended. */
void cgroup_remove(struct monitor *m)
{
	int group;

	if (!m->cgroup[0])
		return;
	cgroup_kill(m);
	fd_close(&m->cgroup_events);
	group = open_group(m);
	if (group >= 0)
		remove_below(group, DEPTH_MAX);
	if (rmdir(m->cgroup) < 0 && group >= 0) {
		remove_as_root(m, group);
		rmdir(m->cgroup);
	}
	fd_close(&group);
	m->cgroup[0] = 0;
}
