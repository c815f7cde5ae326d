/* Mounts of the new root.  Destinations are opened in the root and mounted on by descriptor. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "launch.h"

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#define ATTR_RDONLY 0x01
#define ATTR_NOSUID 0x02
#define ATTR_NODEV 0x04
#define ATTR_NOEXEC 0x08
#define ATTR_ATIME 0x70
#define ATTR_NOATIME 0x10
#define AT_RECURSIVE_ 0x8000

enum { MAKE = 1, OPTIONAL = 2, OR_TMPFS = 4, RECURSIVE = 8, SOURCE_IN_ROOT = 16, BESIDE = 32 };

struct mount_attributes {
	uint64_t set, clear, propagation, userns;
};

int op_propagation(struct player *p, const struct op *op)
{
	if (mount(NULL, op->a[0].s.data, NULL, (unsigned long)op->a[1].i, NULL) < 0)
		return fail(p, errno, "cannot change the propagation of", op->a[0].s.data);
	return 0;
}

static int take_root(struct player *p, const char *path)
{
	if (p->root_fd >= 0) /* of a tree assembled before, to be bound into this one */
		close(p->root_fd);
	p->root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (p->root_fd < 0)
		return fail(p, errno, "cannot open the new root", path);
	return 0;
}

static int overlay_error(struct player *p, int error, const char *target)
{
	if (error == ELOOP)
		return fail_text(p, error, "cannot mount overlay at %s: its directories overlap (ELOOP)", target);
	if (error == EPERM || error == ENODEV)
		return fail_text(p, error,
				 "cannot mount overlay at %s: this kernel does not allow it in a user namespace (%s)",
				 target, error == EPERM ? "EPERM" : "ENODEV");
	if (error == EBUSY)
		return fail_text(p, error, "cannot mount overlay at %s: its upper directory is in use (EBUSY)", target);
	return fail(p, error, "cannot mount overlay at", target);
}

/* Lower directories are named by descriptor number below /proc/self/fd, so that hundreds fit a page. */
int op_overlay(struct player *p, const struct op *op)
{
	char data[4096];
	const char *cursor = op->a[0].l.cursor;
	size_t used = (size_t)snprintf(data, sizeof(data), "lowerdir=");
	const char *between = "";
	int first = -1, last = -1;
	for (uint32_t i = 0; i < op->a[0].l.count; i++) {
		const char *path = list_next(&cursor, NULL);
		if (!*path) { /* from here on, layers of data alone */
			between = "::";
			continue;
		}
		last = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (last < 0)
			return fail(p, errno, "cannot open layer", path);
		if (first < 0)
			first = last;
		used += (size_t)snprintf(data + used, sizeof(data) - used, "%s%d", between, last);
		if (strcmp(between, "::") != 0)
			between = ":";
		if (used >= sizeof(data))
			return fail_text(p, E2BIG, "cannot mount overlay: too many layers");
	}
	cleanup_fd int upper = -1;
	cleanup_fd int work = -1;
	if (op->a[1].s.size) {
		upper = open(op->a[1].s.data, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (upper < 0)
			return fail(p, errno, "cannot open", op->a[1].s.data);
		work = open(op->a[2].s.data, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (work < 0)
			return fail(p, errno, "cannot open", op->a[2].s.data);
		used += (size_t)snprintf(data + used, sizeof(data) - used, ",upperdir=%d,workdir=%d", upper, work);
	}
	if (op->a[4].s.size && used < sizeof(data))
		used += (size_t)snprintf(data + used, sizeof(data) - used, ",%s", op->a[4].s.data);
	if (used >= sizeof(data))
		return fail_text(p, E2BIG, "cannot mount overlay: too many layers");
	if (chdir("/proc/self/fd") < 0)
		return fail(p, errno, "cannot enter", "/proc/self/fd");
	if (mount("overlay", op->a[3].s.data, "overlay", 0, data) < 0)
		return overlay_error(p, errno, op->a[3].s.data);
	for (int fd = first; fd >= 0 && fd <= last; fd++)
		close(fd);
	if (chdir("/") < 0)
		return fail(p, errno, "cannot enter", "/");
	return take_root(p, op->a[3].s.data);
}

int op_root_bind(struct player *p, const struct op *op)
{
	if (mount(op->a[0].s.data, op->a[1].s.data, NULL, MS_BIND | MS_REC, NULL) < 0)
		return fail(p, errno, "cannot bind the root filesystem", op->a[0].s.data);
	return take_root(p, op->a[1].s.data);
}

/* Before 5.12: one mount, keeping the flags it has (a user namespace may not clear locked ones). */
static int remount(int fd, uint64_t set, uint64_t clear)
{
	char path[32];
	struct statvfs now;
	unsigned long flags = MS_REMOUNT | MS_BIND;
	fd_path(fd, path);
	if (statvfs(path, &now) < 0)
		return -1;
	uint64_t have = ((now.f_flag & ST_RDONLY) ? ATTR_RDONLY : 0) | ((now.f_flag & ST_NOSUID) ? ATTR_NOSUID : 0) |
			((now.f_flag & ST_NODEV) ? ATTR_NODEV : 0) | ((now.f_flag & ST_NOEXEC) ? ATTR_NOEXEC : 0) |
			((now.f_flag & ST_NOATIME) ? ATTR_NOATIME : 0);
	uint64_t want = (have & ~clear) | set;
	flags |= (want & ATTR_RDONLY) ? MS_RDONLY : 0;
	flags |= (want & ATTR_NOSUID) ? MS_NOSUID : 0;
	flags |= (want & ATTR_NODEV) ? MS_NODEV : 0;
	flags |= (want & ATTR_NOEXEC) ? MS_NOEXEC : 0;
	flags |= (want & ATTR_NOATIME) ? MS_NOATIME : 0;
	flags |= (now.f_flag & ST_NODIRATIME) ? MS_NODIRATIME : 0;
	flags |= (now.f_flag & ST_RELATIME) ? MS_RELATIME : 0;
	return mount(NULL, path, NULL, flags, NULL);
}

/* Undo the octal escapes of mountinfo in place. */
static void unescape(char *text)
{
	char *out = text;
	for (; *text; text++)
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] && text[3]) {
			*out++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + text[3] - '0');
			text += 3;
		} else {
			*out++ = *text;
		}
	*out = '\0';
}

static int remount_line(char *line, const char *top, size_t length, uint64_t set, uint64_t clear)
{
	char *save = NULL, *word = strtok_r(line, " ", &save);
	for (int i = 0; i < 4 && word; i++)
		word = strtok_r(NULL, " ", &save);
	if (!word)
		return 0;
	unescape(word);
	if (strncmp(word, top, length) != 0 || (word[length] && word[length] != '/'))
		return 0;
	cleanup_fd int fd = open(word, O_PATH | O_CLOEXEC);
	return fd < 0 ? 0 : remount(fd, set, clear);
}

static int remount_tree(int fd, uint64_t set, uint64_t clear)
{
	char path[32], top[PATH_MAX], *line = NULL;
	size_t size = 0;
	int result = 0;
	fd_path(fd, path);
	ssize_t n = readlink(path, top, sizeof(top) - 1);
	if (n < 0)
		return -1;
	top[n] = '\0';
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	if (!mounts)
		return -1;
	while (result == 0 && getline(&line, &size, mounts) > 0)
		result = remount_line(line, top, strcmp(top, "/") == 0 ? 0 : (size_t)n, set, clear);
	int error = errno;
	free(line);
	fclose(mounts);
	errno = error;
	return result;
}

/* Change attributes and propagation of the mount that FD is on (with RECURSIVE: of all below). */
int mount_attributes(struct player *p, int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive)
{
	struct mount_attributes attr = {set, clear | ((set & ATTR_ATIME) ? ATTR_ATIME : 0), propagation, 0};
	if (!(set | clear | propagation))
		return 0;
	if (!p->no_mount_setattr) {
		unsigned int flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE_ : 0);
		if (syscall(SYS_mount_setattr, fd, "", flags, &attr, sizeof(attr)) == 0)
			return 0;
		if (errno != ENOSYS)
			return -1;
		p->no_mount_setattr = true;
	}
	char path[32];
	fd_path(fd, path);
	if (propagation && mount(NULL, path, NULL, propagation | (recursive ? MS_REC : 0), NULL) < 0)
		return -1;
	if (!(set | clear))
		return 0;
	return recursive ? remount_tree(fd, set, clear) : remount(fd, set, clear);
}

/* Whether BESIDE was asked for and there is nothing to be beside of. */
static bool lonely(struct player *p, const struct op *op)
{
	char name[NAME_MAX + 1];
	if (!(op->a[6].i & BESIDE))
		return false;
	cleanup_fd int fd = parent_in_root(p, op->a[1].s.data, name, sizeof(name), false);
	return fd < 0;
}

static int destination(struct player *p, const char *path, int64_t opflags, bool directory)
{
	if (opflags & MAKE)
		return make_in_root(p, path, directory ? 0755 : 0644, directory, 0, 0);
	return open_in_root(p, path, O_PATH);
}

int op_mount(struct player *p, const struct op *op)
{
	const char *fstype = op->a[0].s.data, *path = op->a[2].s.data, *data = op->a[4].s.data;
	char target[32];
	int64_t opflags = op->a[5].i;
	cleanup_fd int fd = destination(p, path, opflags, true);
	if (fd < 0)
		return opflags & OPTIONAL ? 0 : fail(p, errno, "cannot make mount point", path);
	fd_path(fd, target);
	if (mount(op->a[1].s.data, target, fstype, (unsigned long)op->a[3].i, *data ? data : NULL) == 0)
		return 0;
	int error = errno;
	if (opflags & OPTIONAL)
		return 0;
	if ((opflags & OR_TMPFS) &&
	    mount("tmpfs", target, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, "size=0,mode=0755") == 0)
		return 0;
	if (error == EPERM && strcmp(fstype, "proc") == 0)
		return fail_text(p, error,
				 "cannot mount proc at %s: the host's /proc is masked, so the kernel refuses a new one "
				 "(EPERM)",
				 path);
	return fail_text(p, error, "cannot mount %s at %s: %s", fstype, path, error_text(error));
}

static int bind_source(struct player *p, const struct op *op)
{
	const char *path = op->a[0].s.data;
	if (op->a[6].i & SOURCE_IN_ROOT)
		return open_in_root(p, path, O_PATH);
	return open(path, O_PATH | O_CLOEXEC);
}

/* ARGS are those of bind, from the source on. */
static int bind_at(struct player *p, const union arg *args, int source, struct stat *st)
{
	char from[32], to[32];
	const char *path = args[1].s.data;
	cleanup_fd int fd = destination(p, path, args[6].i, S_ISDIR(st->st_mode));
	if (fd < 0)
		return fail(p, errno, "cannot make mount point", path);
	fd_path(source, from);
	fd_path(fd, to);
	if (mount(from, to, NULL, (unsigned long)args[2].i | MS_BIND, NULL) < 0)
		return fail_text(p, errno, "cannot bind %s at %s: %s", args[0].s.data, path,
				 errno == ENOTDIR ? "not a directory: one is a directory, the other is not"
						  : error_text(errno));
	cleanup_fd int top = open_in_root(p, path, O_PATH);
	if (top < 0)
		return fail(p, errno, "cannot open mount", path);
	if (mount_attributes(p, top, (uint64_t)args[3].i, (uint64_t)args[4].i, (uint64_t)args[5].i,
			     args[6].i & RECURSIVE) < 0)
		return fail(p, errno, "cannot set mount options of", path);
	return 0;
}

static int bind_opened(struct player *p, const union arg *args, int source)
{
	struct stat st;
	int result = 0;
	if (source < 0 || fstat(source, &st) < 0)
		result = errno == ENOENT ? fail_text(p, ENOENT, "bind source path does not exist: %s", args[0].s.data)
					 : fail(p, errno, "cannot open bind source", args[0].s.data);
	else
		result = bind_at(p, args, source, &st);
	return args[6].i & OPTIONAL ? 0 : result;
}

int op_bind(struct player *p, const struct op *op)
{
	cleanup_fd int source = bind_source(p, op);
	return lonely(p, op) ? 0 : bind_opened(p, op->a, source);
}

/* What lies in the directory may be a container's own doing: its links lead nowhere else. */
int op_bind_below(struct player *p, const struct op *op)
{
	cleanup_fd int directory = open(op->a[0].s.data, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return fail(p, errno, "cannot open", op->a[0].s.data);
	cleanup_fd int source = open_below(p, directory, op->a[1].s.data, O_PATH);
	if (source < 0 && errno == ENOENT)
		return fail_text(p, ENOENT, "cannot mount subpath %s: no such file or directory", op->a[1].s.data);
	return bind_opened(p, op->a + 1, source);
}

int op_remount(struct player *p, const struct op *op)
{
	cleanup_fd int fd = open_in_root(p, op->a[0].s.data, O_PATH);
	if (fd < 0 ||
	    mount_attributes(p, fd, (uint64_t)op->a[1].i, (uint64_t)op->a[2].i, 0, op->a[3].i & RECURSIVE) < 0)
		return op->a[3].i & OPTIONAL ? 0 : fail(p, errno, "cannot change mount", op->a[0].s.data);
	return 0;
}

int op_mask(struct player *p, const struct op *op)
{
	char target[32];
	struct stat st;
	const char *path = op->a[0].s.data;
	cleanup_fd int fd = open_in_root(p, path, O_PATH);
	if (fd < 0 || fstat(fd, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : fail(p, errno, "cannot mask", path);
	fd_path(fd, target);
	if (S_ISDIR(st.st_mode)) {
		if (mount("tmpfs", target, "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "nr_blocks=1,nr_inodes=1") < 0)
			return fail(p, errno, "cannot mask", path);
		return 0;
	}
	if (mount("/dev/null", target, NULL, MS_BIND, NULL) < 0)
		return fail(p, errno, "cannot mask", path);
	return 0;
}

int op_readonly(struct player *p, const struct op *op)
{
	char target[32];
	const char *path = op->a[0].s.data;
	cleanup_fd int fd = open_in_root(p, path, O_PATH);
	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == EACCES
			   ? 0
			   : fail(p, errno, "cannot make read-only", path);
	fd_path(fd, target);
	if (mount(target, target, NULL, MS_BIND | MS_REC, NULL) < 0)
		return fail(p, errno, "cannot make read-only", path);
	cleanup_fd int top = open_in_root(p, path, O_PATH);
	if (top < 0 || mount_attributes(p, top, ATTR_RDONLY, 0, 0, true) < 0)
		return fail(p, errno, "cannot make read-only", path);
	return 0;
}

int op_pivot(struct player *p, const struct op *op)
{
	(void)op;
	if (p->root_fd < 0)
		return fail_text(p, EINVAL, "cannot change root: there is no new one");
	if (fchdir(p->root_fd) < 0)
		return fail(p, errno, "cannot enter the new root", "");
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return fail(p, errno, "cannot detach the old root", "");
	} else if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
		/* EINVAL: the host's root is the initramfs, which can't be pivoted away from. */
		return fail(p, errno, "cannot change root", "");
	}
	if (chdir("/") < 0)
		return fail(p, errno, "cannot enter", "/");
	close(p->root_fd);
	p->root_fd = -1;
	p->pivoted = true;
	return 0;
}
