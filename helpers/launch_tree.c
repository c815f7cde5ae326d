/* Files: small ones made in the new root, and whole trees removed. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "launch.h"

int op_chdir_host(struct player *p, const struct op *op)
{
	if (chdir(op->a[0].s.data) < 0)
		return fail(p, errno, "cannot enter", op->a[0].s.data);
	return 0;
}

int op_mkdir_host(struct player *p, const struct op *op)
{
	const char *path = op->a[0].s.data;
	mode_t mode = (mode_t)op->a[1].i;
	if (mkdir(path, mode) < 0)
		return errno == EEXIST ? 0 : fail(p, errno, "cannot make directory", path);
	/* From a set-group-ID directory it has inherited group and bit, which a container would see on "/". */
	struct stat made;
	if (stat(path, &made) < 0 || !(made.st_mode & S_ISGID))
		return 0;
	if (chown(path, (uid_t)-1, getegid()) < 0 || chmod(path, mode) < 0)
		return fail(p, errno, "cannot make directory", path);
	return 0;
}

int op_chown_host(struct player *p, const struct op *op)
{
	cleanup_fd int fd = open(op->a[0].s.data, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, (uid_t)op->a[1].i, (gid_t)op->a[2].i) < 0)
		return fail(p, errno, "cannot give away", op->a[0].s.data);
	return 0;
}

int op_mkdir(struct player *p, const struct op *op)
{
	cleanup_fd int fd =
	    make_in_root(p, op->a[0].s.data, (mode_t)op->a[1].i, true, (int)op->a[2].i, (int)op->a[3].i);
	if (fd < 0)
		return fail(p, errno, "cannot make directory", op->a[0].s.data);
	return 0;
}

int op_mkfile(struct player *p, const struct op *op)
{
	cleanup_fd int fd = make_in_root(p, op->a[0].s.data, (mode_t)op->a[1].i, false, 0, 0);
	if (fd < 0)
		return fail(p, errno, "cannot make file", op->a[0].s.data);
	return 0;
}

int op_symlink(struct player *p, const struct op *op)
{
	char name[NAME_MAX + 1];
	cleanup_fd int dir = parent_in_root(p, op->a[1].s.data, name, sizeof(name), true);
	if (dir < 0 || (symlinkat(op->a[0].s.data, dir, name) < 0 && errno != EEXIST))
		return fail(p, errno, "cannot make symbolic link", op->a[1].s.data);
	return 0;
}

int op_write(struct player *p, const struct op *op)
{
	cleanup_fd int fd = open_in_root(p, op->a[0].s.data, O_WRONLY | O_TRUNC);
	if (fd >= 0 && write(fd, op->a[1].s.data, op->a[1].s.size) == (ssize_t)op->a[1].s.size)
		return 0;
	return op->a[2].i & 1 ? 0 : fail(p, errno, "cannot write", op->a[0].s.data);
}

/* Remove what is in the directory FD.  Depth costs no descriptors: a subdirectory's content is moved up
 * into the top directory when the nesting passes MAX_DEPTH, so trees of any depth go. */
#define MAX_DEPTH 64

static int empty(int fd, int top, dev_t device, int depth, unsigned long *moved);

static int remove_entry(int fd, int top, const char *name, dev_t device, int depth, unsigned long *moved)
{
	char aside[32];
	struct stat st;
	if (unlinkat(fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -1;
	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISDIR(st.st_mode)) {
		errno = EPERM;
		return -1;
	}
	if (st.st_dev != device) {
		errno = EXDEV;
		return -1;
	}
	if (unlinkat(fd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (depth >= MAX_DEPTH) {
		snprintf(aside, sizeof(aside), ".rootless-%lu", (*moved)++);
		return renameat(fd, name, top, aside);
	}
	if ((st.st_mode & 0700) != 0700 && fchmodat(fd, name, 0700, 0) < 0)
		return -1;
	cleanup_fd int sub = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub < 0 || empty(sub, top, device, depth + 1, moved) < 0)
		return -1;
	return unlinkat(fd, name, AT_REMOVEDIR);
}

static int empty(int fd, int top, dev_t device, int depth, unsigned long *moved)
{
	struct dirent *entry;
	int result = 0;
	bool again = true;
	while (again && result == 0) {
		unsigned long before = *moved;
		int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *dir = copy < 0 ? NULL : fdopendir(copy);
		if (!dir)
			return -1;
		while (result == 0 && (entry = readdir(dir)) != NULL) {
			if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
				continue;
			result = remove_entry(fd, top, entry->d_name, device, depth, moved);
		}
		int error = errno;
		closedir(dir);
		errno = error;
		again = depth == 0 && *moved != before;
	}
	return result;
}

int op_rmtree(struct player *p, const struct op *op)
{
	const char *path = op->a[0].s.data;
	struct stat st;
	unsigned long moved = 0;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : fail(p, errno, "cannot remove", path);
	if (!S_ISDIR(st.st_mode))
		return unlink(path) < 0 && errno != ENOENT ? fail(p, errno, "cannot remove", path) : 0;
	if ((st.st_mode & 0700) != 0700 && chmod(path, 0700) < 0)
		return fail(p, errno, "cannot remove", path);
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || empty(fd, fd, st.st_dev, 0, &moved) < 0 || rmdir(path) < 0)
		return errno == ENOENT ? 0 : fail(p, errno, "cannot remove", path);
	return 0;
}
