/* Paths inside the new root, resolved there by the kernel.
 *
 * A path of an image is hostile: a component may be a symbolic link to anywhere.  openat2 with
 * RESOLVE_IN_ROOT (5.6) makes the kernel treat the new root as "/" while it follows links.  Where the call
 * is missing, walk() takes one component at a time with O_NOFOLLOW and restarts links at the root.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "launch.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define RESOLVE_NO_MAGICLINKS_ 0x02
#define RESOLVE_IN_ROOT_ 0x10
#define MAX_LINKS 40

struct how {
	uint64_t flags, mode, resolve;
};

void fd_path(int fd, char out[32])
{
	snprintf(out, 32, "/proc/self/fd/%d", fd);
}

/* Open the component NAME of DIR; a link's target is put before REST in PENDING, starting over at ROOT. */
static int step(int root, int *dir, const char *name, char *pending, size_t size, int *links)
{
	char target[PATH_MAX], rest[PATH_MAX];
	struct stat st;
	int fd = openat(*dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);
		close(fd);
		if (n < 0 || ++*links > MAX_LINKS) {
			errno = n < 0 ? errno : ELOOP;
			return -1;
		}
		target[n] = '\0';
		snprintf(rest, sizeof(rest), "%s", pending);
		if ((size_t)snprintf(pending, size, "%s/%s", target, rest) >= size) {
			errno = ENAMETOOLONG;
			return -1;
		}
		if (target[0] == '/') {
			close(*dir);
			*dir = fcntl(root, F_DUPFD_CLOEXEC, 3);
			return *dir < 0 ? -1 : 0;
		}
		return 0;
	}
	close(*dir);
	*dir = fd;
	return 0;
}

static bool same_file(int a, int b)
{
	struct stat x, y;
	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int walk(int root, const char *path, int flags)
{
	char pending[PATH_MAX], name[NAME_MAX + 1], next[PATH_MAX];
	int links = 0;
	int dir = fcntl(root, F_DUPFD_CLOEXEC, 3);
	if ((size_t)snprintf(pending, sizeof(pending), "%s", path) >= sizeof(pending)) {
		errno = ENAMETOOLONG;
		goto fail;
	}
	while (dir >= 0) {
		const char *start = pending + strspn(pending, "/");
		size_t length = strcspn(start, "/");
		if (length == 0)
			break;
		if (length > NAME_MAX) {
			errno = ENAMETOOLONG;
			goto fail;
		}
		memcpy(name, start, length);
		name[length] = '\0';
		snprintf(next, sizeof(next), "%s", start + length);
		memcpy(pending, next, sizeof(pending));
		if (strcmp(name, ".") == 0 || (strcmp(name, "..") == 0 && same_file(dir, root)))
			continue;
		bool last = pending[strspn(pending, "/")] == '\0';
		if (last && (flags & O_NOFOLLOW) && strcmp(name, "..") != 0) {
			int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
			if (fd < 0)
				goto fail;
			close(dir);
			dir = fd;
			break;
		}
		if (step(root, &dir, name, pending, sizeof(pending), &links) < 0)
			goto fail;
	}
	if (dir >= 0 && !(flags & O_PATH)) {
		char self[32];
		fd_path(dir, self);
		int fd = open(self, (flags & ~O_NOFOLLOW) | O_CLOEXEC);
		close(dir);
		return fd;
	}
	return dir;
fail:
	if (dir >= 0)
		close(dir);
	return -1;
}

/* Open PATH with the directory ROOT as its root.  FLAGS as for open; never creates. */
int open_below(struct player *p, int root, const char *path, int flags)
{
	while (*path == '/')
		path++;
	if (!p->no_openat2) {
		struct how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
				  .resolve = RESOLVE_IN_ROOT_ | RESOLVE_NO_MAGICLINKS_};
		for (int tries = 0; tries < 64; tries++) {
			long fd = syscall(SYS_openat2, root, *path ? path : ".", &how, sizeof(how));
			if (fd >= 0 || errno != EAGAIN)
				if (fd >= 0 || errno != ENOSYS)
					return (int)fd;
			if (errno == ENOSYS)
				break;
		}
		if (errno != ENOSYS)
			return -1;
		p->no_openat2 = true;
	}
	return walk(root, path, flags);
}

/* Open PATH below the new root (after pivot: below /).  FLAGS as for open; never creates. */
int open_in_root(struct player *p, const char *path, int flags)
{
	cleanup_fd int own = -1;
	int root = p->root_fd;
	if (p->pivoted) {
		own = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		root = own;
	}
	if (root < 0) {
		errno = EINVAL;
		return -1;
	}
	return open_below(p, root, path, flags);
}

/* Split PATH into its parent and last component; false for "/" and for paths that end in "..". */
static bool split(const char *path, char parent[PATH_MAX], char *name, size_t size)
{
	size_t length = strlen(path);
	while (length > 0 && path[length - 1] == '/')
		length--;
	size_t start = length;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (length == start || length - start >= size || start >= PATH_MAX)
		return false;
	memcpy(name, path + start, length - start);
	name[length - start] = '\0';
	memcpy(parent, path, start);
	parent[start] = '\0';
	return strcmp(name, "..") != 0 && strcmp(name, ".") != 0;
}

/* Open the directory that holds the last component of PATH, which goes to NAME; MAKE makes parents. */
int parent_in_root(struct player *p, const char *path, char *name, size_t size, bool make)
{
	char parent[PATH_MAX];
	if (!split(path, parent, name, size)) {
		errno = EINVAL;
		return -1;
	}
	int fd = open_in_root(p, parent, O_PATH | O_DIRECTORY);
	if (fd >= 0 || errno != ENOENT || !make)
		return fd;
	return make_in_root(p, parent, 0755, true, 0, 0);
}

/* What a dangling link at NAME in DIR points to, as a path in the root, with PATH's parent before it. */
static bool link_target(int dir, const char *name, const char *path, char out[PATH_MAX])
{
	char target[PATH_MAX], parent[PATH_MAX], last[NAME_MAX + 1];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	if (target[0] == '/')
		return (size_t)snprintf(out, PATH_MAX, "%s", target) < PATH_MAX;
	return split(path, parent, last, sizeof(last)) &&
	       (size_t)snprintf(out, PATH_MAX, "%s/%s", parent, target) < PATH_MAX;
}

static int create_at(int dir, const char *name, mode_t mode, bool directory, int uid, int gid)
{
	int made = directory ? mkdirat(dir, name, mode)
			     : openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (made < 0)
		return -1;
	if (!directory)
		close(made);
	int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && (uid != 0 || gid != 0) && fchownat(fd, "", (uid_t)uid, (gid_t)gid, AT_EMPTY_PATH) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Open PATH in the root as O_PATH, making it (and its parents) where it does not exist. */
int make_in_root(struct player *p, const char *path, mode_t mode, bool directory, int uid, int gid)
{
	char current[PATH_MAX], target[PATH_MAX], name[NAME_MAX + 1];
	if ((size_t)snprintf(current, sizeof(current), "%s", path) >= sizeof(current)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (int links = 0; links < MAX_LINKS; links++) {
		int fd = open_in_root(p, current, O_PATH);
		if (fd >= 0 || errno != ENOENT)
			return fd;
		cleanup_fd int dir = parent_in_root(p, current, name, sizeof(name), true);
		if (dir < 0)
			return -1;
		fd = create_at(dir, name, mode, directory, uid, gid);
		if (fd >= 0 || errno != EEXIST)
			return fd;
		if (link_target(dir, name, current, target))
			memcpy(current, target, sizeof(current));
		/* Else another container has just made it, in a volume that both have: it can be opened now. */
	}
	errno = ELOOP;
	return -1;
}
