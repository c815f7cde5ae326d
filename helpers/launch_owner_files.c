/* Emulated ownership: finding the file that a caller means, as the kernel would find it for the caller.
 *
 * The caller's root becomes ours for the time of a lookup, so that links and ".." go where they go for it,
 * whatever its mounts and chroots are.  Magic links are refused to the kernel: below /proc "self" would
 * be us.  The caller's memory and directories are believed only while the question is valid, after they
 * are open: a pid can come to mean another process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launch.h"
#include "launch_notify.h"
#include "launch_owner.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define NO_MAGICLINKS 0x02
#define MAX_LINKS 16

struct how {
	uint64_t flags, mode, resolve;
};

/* Read a string page by page, as the next page may not be there. */
int owner_read_text(pid_t pid, uint64_t address, char *out, size_t size)
{
	for (size_t used = 0; used < size;) {
		size_t piece = 4096 - (size_t)((address + used) & 4095);
		if (piece > size - used)
			piece = size - used;
		int error = caller_read(pid, address + used, out + used, piece);
		if (error)
			return error;
		if (memchr(out + used, '\0', piece))
			return 0;
		used += piece;
	}
	return -ENAMETOOLONG;
}

static int open_of(pid_t pid, const char *what, int number)
{
	char path[64];
	if (number >= 0)
		snprintf(path, sizeof(path), "/proc/%d/%s/%d", (int)pid, what, number);
	else
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	return open(path, O_PATH | O_CLOEXEC);
}

/* The first SIZE-1 bytes of /proc/PID/status. */
int owner_status_of(pid_t pid, char *out, size_t size)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, size - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

static int lookup(const char *path, uint64_t flags)
{
	struct how how = {.flags = flags | O_PATH | O_CLOEXEC, .resolve = NO_MAGICLINKS};
	return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
}

/* A descriptor of the caller's that PATH, or a link at its end, names: /dev/stdout and the like; or -1. */
static int own_fd(const char *path)
{
	char target[PATH_MAX];
	int fd = owner_own_fd(path);
	for (int links = 0; fd < 0 && links < MAX_LINKS; links++) {
		ssize_t n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0 || target[0] != '/')
			return -1;
		target[n] = '\0';
		path = target;
		fd = owner_own_fd(path);
	}
	return fd;
}

static bool leave(const struct supervisor *s)
{
	return fchdir(s->host_root) == 0 && chroot(".") == 0;
}

/* Look PATH up from BASE below ROOT; the number of the caller's own descriptor it names goes to OWN. */
static int lookup_inside(struct supervisor *s, int root, int base, const char *path, uint64_t flags, int *own)
{
	int fd = -1, error = 0;
	*own = -1;
	if (fchdir(root) < 0 || chroot(".") < 0 || fchdir(base) < 0)
		error = errno;
	else if ((fd = lookup(path, flags)) < 0)
		error = errno;
	if (fd < 0 && (error == ENOENT || error == ELOOP) && !(flags & O_NOFOLLOW))
		*own = own_fd(path);
	if (!leave(s))
		_exit(1);
	return fd >= 0 ? fd : -error;
}

/* From where a relative path of the caller goes. */
static int base_of(pid_t pid, int dirfd, const char *path)
{
	if (path[0] == '/')
		return open_of(pid, "root", -1);
	int fd = dirfd == AT_FDCWD ? open_of(pid, "cwd", -1) : open_of(pid, "fd", dirfd < 0 ? INT_MAX : dirfd);
	if (fd < 0 && errno == ENOENT)
		errno = EBADF;
	return fd;
}

static int find(struct supervisor *s, const struct seccomp_notif *n, int dirfd, const char *path, uint64_t flags)
{
	int own;
	pid_t pid = (pid_t)n->pid;
	cleanup_fd int root = open_of(pid, "root", -1);
	if (root < 0)
		return -errno;
	cleanup_fd int base = base_of(pid, dirfd, path);
	if (base < 0)
		return -errno;
	if (!notify_valid(s->listener, n->id))
		return -EINTR;
	int fd = lookup_inside(s, root, base, path, flags, &own);
	if (own < 0)
		return fd;
	fd = open_of(pid, "fd", own);
	return fd < 0 ? -errno : fd;
}

/* What /proc has of the caller itself, while its question is valid. */
static int own(struct supervisor *s, const struct seccomp_notif *n, const char *what, int number)
{
	int fd = open_of((pid_t)n->pid, what, number);
	if (fd < 0)
		return -EBADF;
	if (notify_valid(s->listener, n->id))
		return fd;
	close(fd);
	return -EINTR;
}

/* The file of a call as an O_PATH descriptor, or a negative errno. */
int owner_open(struct supervisor *s, const struct seccomp_notif *n, const struct owner_words *w)
{
	char path[PATH_MAX];
	if (w->by_fd)
		return w->dirfd < 0 ? -EBADF : own(s, n, "fd", w->dirfd);
	int error = owner_read_text((pid_t)n->pid, w->path, path, sizeof(path));
	if (error)
		return error;
	if (!path[0] && w->empty_path && w->dirfd == AT_FDCWD)
		return own(s, n, "cwd", -1);
	if (!path[0] && w->empty_path)
		return w->dirfd < 0 ? -EBADF : own(s, n, "fd", w->dirfd);
	return find(s, n, w->dirfd, path, w->follow ? 0 : O_NOFOLLOW);
}

/* The directory in which a call makes NAME, or a negative errno. */
int owner_open_parent(struct supervisor *s, const struct seccomp_notif *n, const struct owner_words *w, char *name,
		      size_t size)
{
	char path[PATH_MAX];
	int error = owner_read_text((pid_t)n->pid, w->path, path, sizeof(path));
	if (error)
		return error;
	char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;
	if (!*last)
		return -ENOENT;
	if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return -EEXIST;
	if ((size_t)snprintf(name, size, "%s", last) >= size)
		return -ENAMETOOLONG;
	if (!slash)
		return find(s, n, w->dirfd, ".", O_DIRECTORY);
	slash[slash == path] = '\0';
	return find(s, n, w->dirfd, path, O_DIRECTORY);
}
