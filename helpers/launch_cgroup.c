/* Control groups (cgroup v2) of a container: made, filled in, entered and taken away, from the host's view.
 *
 * Played by the launcher while it is the caller, before it enters the realm.  Who may write where is the kernel's
 * to say: in a subtree that is delegated to the caller, directories and cgroup.procs are the caller's files.
 *
 * A group that has processes cannot hand controllers on (the no-internal-process rule).  So what is in the way is
 * moved into a leaf beside the container's group: the monitor and the launcher in a scope of ours, and in a
 * subtree that we were started in everything that is there, which is what delegation is for.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launch_cgroup.h"

#define DELEGATED "/sys/kernel/cgroup/delegate"
#define MOVE_ROUNDS 100
#define MAKE_TRIES 5
#define DIE_ROUNDS 2000 /* of a millisecond: how long killed processes are waited for */
#define DEPTH_MAX 64

/* The path of the group that process PID is in, or -1 with errno. */
int cgroup_of(pid_t pid, char *out, size_t size)
{
	char path[64], text[8192];
	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n = fd < 0 ? -1 : 1;
	while (n > 0 && used < sizeof(text) - 1) {
		n = read(fd, text + used, sizeof(text) - 1 - used);
		used += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		return -1;
	text[used] = '\0';
	for (char *line = text, *end; *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			break;
		*end = '\0';
		if (strncmp(line, "0::/", 4) != 0)
			continue;
		/* "/..": outside of what our cgroup namespace shows. */
		if (strncmp(line + 3, "/..", 3) == 0)
			break;
		int length = snprintf(out, size, "%s%s", CGROUP_ROOT, strcmp(line + 3, "/") == 0 ? "" : line + 3);
		errno = ENAMETOOLONG;
		return length > 0 && (size_t)length < size ? 0 : -1;
	}
	errno = ENOENT;
	return -1;
}

static int write_group(int group, const char *file, const char *text)
{
	cleanup_fd int fd = openat(group, file, O_WRONLY | O_CLOEXEC);
	size_t size = strlen(text);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, size);
	return n == (ssize_t)size ? 0 : -1;
}

/* What FILE says, as far as OUT holds it; false if it cannot be read. */
static bool read_group(int group, const char *file, char *out, size_t size)
{
	cleanup_fd int fd = openat(group, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	return n >= 0;
}

static bool has_word(const char *text, const char *word)
{
	size_t length = strlen(word);
	for (const char *at = text; (at = strstr(at, word)); at += length)
		if ((at == text || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\n' || !at[length]))
			return true;
	return false;
}

/* Whether GROUP has one of CONTROLLERS that it does not hand on. */
static bool withholds(int group, const struct list *controllers)
{
	char there[1024], on[1024];
	const char *cursor = controllers->cursor;
	if (!read_group(group, "cgroup.controllers", there, sizeof(there)) ||
	    !read_group(group, "cgroup.subtree_control", on, sizeof(on)))
		return false;
	for (uint32_t i = 0; i < controllers->count; i++) {
		const char *name = list_next(&cursor, NULL);
		if (has_word(there, name) && !has_word(on, name))
			return true;
	}
	return false;
}

/* Hand CONTROLLERS on to what is below GROUP, as far as it has them; -1 with EBUSY where processes are in the way.
 * Not only that: cpu, cpuset and pids are handed on amid processes, but the group is a threaded one from then on,
 * below which no process can be moved.  So they are out of the way first.
 * That one is missing is found out by those who set something of it. */
static int enable(int group, const struct list *controllers)
{
	char there[1024], on[1024], word[64];
	const char *cursor = controllers->cursor;
	int busy = 0;
	if (!read_group(group, "cgroup.controllers", there, sizeof(there)) ||
	    !read_group(group, "cgroup.subtree_control", on, sizeof(on)))
		return 0;
	for (uint32_t i = 0; i < controllers->count; i++) {
		const char *name = list_next(&cursor, NULL);
		if (!has_word(there, name) || has_word(on, name))
			continue;
		snprintf(word, sizeof(word), "+%s", name);
		if (write_group(group, "cgroup.subtree_control", word) < 0 && errno == EBUSY)
			busy = -1;
	}
	errno = EBUSY;
	return busy;
}

/* Move one round of the processes in GROUP to LEAF; how many there were, or -1. */
static int move_round(int group, int leaf)
{
	char text[16384];
	int moved = 0;
	if (!read_group(group, "cgroup.procs", text, sizeof(text)))
		return -1;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		if (strcmp(line, "0") == 0) /* of another PID namespace: not ours to name */
			continue;
		if (write_group(leaf, "cgroup.procs", line) < 0 && errno != ESRCH)
			return -1;
		moved++;
	}
	return moved;
}

/* Move the processes of GROUP out of the way, into its leaf INNER. */
static int move_inner(int group, const char *inner)
{
	if (mkdirat(group, inner, 0755) < 0 && errno != EEXIST)
		return -1;
	cleanup_fd int leaf = openat(group, inner, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int moved = leaf < 0 ? -1 : 1;
	for (int round = 0; moved > 0 && round < MOVE_ROUNDS; round++) /* some may fork meanwhile */
		moved = move_round(group, leaf);
	return moved < 0 ? -1 : 0;
}

static bool populated(int group)
{
	char text[256];
	return read_group(group, "cgroup.events", text, sizeof(text)) && strstr(text, "populated 1");
}

/* A listing of GROUP, from its beginning. */
static DIR *list_group(int group)
{
	int fd = openat(group, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *directory = fd < 0 ? NULL : fdopendir(fd);
	if (fd >= 0 && !directory)
		close(fd);
	return directory;
}

/* Before Linux 5.14 there is no cgroup.kill: each process by its pid, below first. */
static void kill_each(int group, int depth)
{
	char text[16384];
	DIR *directory = list_group(group);
	for (struct dirent *entry; directory && depth > 0 && (entry = readdir(directory));) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		cleanup_fd int below = openat(group, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (below >= 0)
			kill_each(below, depth - 1);
	}
	if (directory)
		closedir(directory);
	if (!read_group(group, "cgroup.procs", text, sizeof(text)))
		return;
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		if (atoi(line) > 0)
			kill(atoi(line), SIGKILL);
}

static void remove_below(int group, int depth)
{
	DIR *directory = list_group(group);
	for (struct dirent *entry; directory && depth > 0 && (entry = readdir(directory));) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		cleanup_fd int below = openat(group, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (below >= 0)
			remove_below(below, depth - 1);
		unlinkat(group, entry->d_name, AT_REMOVEDIR);
	}
	if (directory)
		closedir(directory);
}

/* What a container has made below its group may belong to any ID of the realm, which USERNS is: as its root. */
static void remove_as_root(int group, int userns)
{
	pid_t child = userns < 0 ? -1 : fork();
	if (child == 0) {
		if (setns(userns, CLONE_NEWUSER) == 0 && setresuid(0, 0, 0) == 0)
			remove_below(group, DEPTH_MAX);
		_exit(0);
	}
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Remove the group NAME of PARENT and those below it, with their processes if KILL; none is fine. */
static int remove_group(int parent, const char *name, bool kill, int userns)
{
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	cleanup_fd int group = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0)
		return errno == ENOENT ? 0 : -1;
	for (int round = 0; kill && round < DIE_ROUNDS && populated(group); round++) {
		if (write_group(group, "cgroup.kill", "1") < 0)
			kill_each(group, DEPTH_MAX);
		poll(NULL, 0, 1);
	}
	if (!populated(group))
		remove_below(group, DEPTH_MAX);
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	remove_as_root(group, userns);
	return unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -1;
}

/* Make the groups that NAME, a path of several, has above its last one; the descriptor of the group of the last one,
 * which is at *NAME then, or -1. */
static int descend(int base, const char **name, const struct list *controllers)
{
	int group = fcntl(base, F_DUPFD_CLOEXEC, 0);
	for (const char *slash; group >= 0 && (slash = strchr(*name, '/')); *name = slash + 1) {
		char part[256];
		int length = snprintf(part, sizeof(part), "%.*s", (int)(slash - *name), *name);
		errno = ENAMETOOLONG;
		if (length >= (int)sizeof(part) || (mkdirat(group, part, 0755) < 0 && errno != EEXIST)) {
			int error = errno;
			close(group);
			errno = error;
			return -1;
		}
		int below = openat(group, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(group);
		group = below;
		if (group >= 0)
			enable(group, controllers);
	}
	return group;
}

/* One attempt; ENOENT: somebody has taken away in between what was there. */
static int make_group(int base, const char *name, const struct op *op, bool *kept)
{
	cleanup_fd int parent = descend(base, &name, &op->a[3].l);
	if (parent < 0)
		return -1;
	*kept = remove_group(parent, name, true, (int)op->a[4].i) < 0;
	if (*kept)
		return -1;
	return mkdirat(parent, name, 0755);
}

static int make_below(struct player *p, const char *base, const struct op *op)
{
	const char *name = op->a[1].s.data, *inner = op->a[2].s.data;
	bool scope = op->a[0].s.size == 0, kept = false;
	cleanup_fd int group = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0)
		return fail(p, errno, "cannot open control group", base);
	if (scope && move_inner(group, inner) < 0)
		return fail(p, errno, "cannot move the monitor within control group", base);
	bool crowded = !scope && withholds(group, &op->a[3].l);
	if ((crowded && move_inner(group, inner) < 0) || enable(group, &op->a[3].l) < 0)
		return fail_text(p, errno,
				 "cannot hand controllers on in control group %s: its processes cannot be moved to %s",
				 base, inner);
	int length = snprintf(p->cgroup, sizeof(p->cgroup), "%s/%s", base, name);
	if (length < 0 || (size_t)length >= sizeof(p->cgroup)) {
		p->cgroup[0] = '\0';
		return fail(p, ENAMETOOLONG, "cannot make control group", base);
	}
	int made = -1;
	for (int tries = 0; made < 0 && !kept && tries < MAKE_TRIES; tries++)
		made = make_group(group, name, op, &kept);
	if (made == 0)
		return 0;
	int error = errno;
	fail(p, error, kept ? "cannot take away what an earlier start has left:" : "cannot make control group",
	     p->cgroup);
	p->cgroup[0] = '\0';
	return -1;
}

/* The group of the scope that our supervisor is in, which may be in a leaf of it already. */
static int scope_group(struct player *p, char *base, size_t size)
{
	static const char suffix[] = ".scope";
	if (cgroup_of(getppid(), base, size) < 0)
		return fail(p, errno, "cannot find the control group of the monitor", "");
	char *last = strrchr(base, '/');
	size_t length = last ? (size_t)(last - base) : 0;
	if (length > sizeof(suffix) && strncmp(last - (sizeof(suffix) - 1), suffix, sizeof(suffix) - 1) == 0)
		*last = '\0';
	return 0;
}

/* A refusal that is no error: told, and the container goes without a group of its own. */
int cgroup_forgo(struct player *p, int result, bool optional)
{
	if (result == 0 || !optional)
		return result;
	p->cgroup_forgone = true;
	send_message(p, 'W', p->reason, strlen(p->reason), -1);
	p->reason[0] = '\0';
	return 0;
}

int op_cgroup_make(struct player *p, const struct op *op)
{
	char base[sizeof(p->cgroup)];
	int result = 0;
	if (p->cgroup_forgone)
		return 0;
	if (op->a[0].s.size >= sizeof(base))
		result = fail(p, ENAMETOOLONG, "cannot make a control group", "");
	else if (op->a[0].s.size)
		snprintf(base, sizeof(base), "%s", op->a[0].s.data);
	else
		result = scope_group(p, base, sizeof(base));
	if (result == 0)
		result = make_below(p, base, op);
	if (result == 0 && send_message(p, 'G', p->cgroup, strlen(p->cgroup), -1) < 0)
		result = fail(p, errno, "cannot reach the supervisor", "");
	return cgroup_forgo(p, result, op->a[5].i & 1);
}

/* What the kernel's refusal of a value means, in words. */
static int explain_set(struct player *p, int error, const char *file, const char *value)
{
	const char *dot = strchr(file, '.');
	if (error == ENOENT && dot)
		return fail_text(p, error, "cannot set %s: the controller %.*s is not delegated to %s", file,
				 (int)(dot - file), file, p->cgroup);
	return fail_text(p, error, "cannot set %s to %s in control group %s: %s", file, value, p->cgroup,
			 error_text(error));
}

int op_cgroup_set(struct player *p, const struct op *op)
{
	const char *file = op->a[0].s.data, *value = op->a[1].s.data;
	if (!p->cgroup[0] || p->cgroup_forgone)
		return 0;
	if (!*file || strchr(file, '/'))
		return fail_text(p, EINVAL, "cannot set %s: it is no file of a control group", file);
	cleanup_fd int group = open(p->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group >= 0 && write_group(group, file, value) == 0)
		return 0;
	int error = errno;
	return op->a[2].i & 1 ? 0 : explain_set(p, error, file, value);
}

/* Give the group, and those of its files that a subtree's owner writes to, to the container's root. */
int op_cgroup_delegate(struct player *p, const struct op *op)
{
	static const char known[] = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";
	uid_t uid = (uid_t)op->a[0].i;
	gid_t gid = (gid_t)op->a[1].i;
	char names[4096];
	if (!p->cgroup[0] || p->cgroup_forgone)
		return 0;
	cleanup_fd int group = open(p->cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (group < 0 || fchown(group, uid, gid) < 0)
		return fail(p, errno, "cannot hand over control group", p->cgroup);
	if (!read_group(AT_FDCWD, DELEGATED, names, sizeof(names)) || !*names)
		memcpy(names, known, sizeof(known));
	for (char *line = names, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		if (!strchr(line, '/') && fchownat(group, line, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return fail(p, errno, "cannot hand over a file of control group", p->cgroup);
	}
	return 0;
}

/* Enter GROUP.  Where the container's own manager has moved everything to leaves of it (EBUSY), the leaf that
 * process PID is in, which must be below. */
static int enter(const char *group, pid_t pid)
{
	char leaf[sizeof(((struct player *)0)->cgroup)];
	size_t length = strlen(group);
	cleanup_fd int fd = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (write_group(fd, "cgroup.procs", "0") == 0)
		return 0;
	if (errno != EBUSY || pid <= 0 || cgroup_of(pid, leaf, sizeof(leaf)) < 0 || strncmp(leaf, group, length) != 0 ||
	    leaf[length] != '/')
		return -1;
	cleanup_fd int below = open(leaf, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return below < 0 ? -1 : write_group(below, "cgroup.procs", "0");
}

int op_cgroup_enter(struct player *p, const struct op *op)
{
	const char *group = op->a[0].s.size ? op->a[0].s.data : p->cgroup;
	char base[sizeof(p->cgroup)], path[2 * sizeof(base)];
	if (!*group || p->cgroup_forgone)
		return 0;
	if (*group != '/') {
		if (scope_group(p, base, sizeof(base)) < 0)
			return cgroup_forgo(p, -1, op->a[2].i & 1);
		snprintf(path, sizeof(path), "%s/%s", base, group);
		group = path;
	}
	if (enter(group, (pid_t)op->a[1].i) == 0)
		return 0;
	return cgroup_forgo(p, fail(p, errno, "cannot enter control group", group), op->a[2].i & 1);
}

/* Groups that containers have left: PATHS, each the group of one.  Those with processes stay. */
int op_cgroup_remove(struct player *p, const struct op *op)
{
	const char *cursor = op->a[0].l.cursor;
	(void)p;
	for (uint32_t i = 0; i < op->a[0].l.count; i++)
		remove_group(AT_FDCWD, list_next(&cursor, NULL), false, -1);
	return 0;
}
