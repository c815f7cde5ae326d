/* Emulated ownership: what is recorded of a file, and where.
 *
 * As extended attributes user.rootless.* of the file itself, which go with it when it is renamed or copied
 * up.  What cannot have them (symbolic links, FIFOs, anything on a filesystem without) gets a line in the
 * container's journal, if it lies in its writable layer:
 *
 *     INODE BIRTH KIND TARGET KEY VALUE
 *
 * with the inode's number in the layer, its time of birth as SECONDS.NANOSECONDS (0.0 where the filesystem
 * has none), its kind as ls shows it, a link's target and the value in hexadecimal ("-" for empty).  Later
 * lines win; a line is appended by one write, so that a torn one can only be the last.  rootless/store/
 * ownership.py reads both.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "launch.h"
#include "launch_owner.h"

#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#define LAYER_RESOLVE 0x16 /* in root, no symbolic and no magic links */
#define MNT_ID 0x1000	   /* STATX_MNT_ID, Linux 5.8 */
#define LINE_MAX_ (2 * PATH_MAX + 2 * 4096 + 512)

struct how {
	uint64_t flags, mode, resolve;
};

/* A number for the mount that FD is on; where the kernel does not tell, one for its filesystem. */
uint64_t owner_mount_of(int fd)
{
	struct statx st;
	memset(&st, 0, sizeof(st));
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | MNT_ID, &st) < 0)
		return 0;
	if (st.stx_mask & MNT_ID) {
		uint64_t mount;
		memcpy(&mount, (const char *)&st + 0x90, sizeof(mount)); /* stx_mnt_id, newer than some headers */
		return mount;
	}
	return (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
}

/* FD's inode as the writable layer has it; false where it does not lie there. */
static bool in_layer(struct supervisor *s, int fd, struct statx *out, char target[PATH_MAX])
{
	char self[32], path[PATH_MAX];
	if (s->upper < 0 || owner_mount_of(fd) != s->root_mount)
		return false;
	fd_path(fd, self);
	ssize_t n = readlink(self, path, sizeof(path) - 1);
	if (n <= 1 || path[0] != '/')
		return false;
	path[n] = '\0';
	struct how how = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = LAYER_RESOLVE};
	cleanup_fd int there = (int)syscall(SYS_openat2, s->upper, path + 1, &how, sizeof(how));
	if (there < 0 || statx(there, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, out) < 0)
		return false;
	if (!(out->stx_mask & STATX_BTIME))
		memset(&out->stx_btime, 0, sizeof(out->stx_btime));
	n = S_ISLNK(out->stx_mode) ? readlinkat(there, "", target, PATH_MAX - 1) : 0;
	target[n > 0 ? n : 0] = '\0';
	return true;
}

static char kind_of(mode_t mode)
{
	return S_ISREG(mode) ? '-' : S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISFIFO(mode) ? 'p' : 's';
}

static void add_hex(char *line, const char *data, size_t size)
{
	char *at = line + strlen(line);
	for (size_t i = 0; i < size; i++)
		at += sprintf(at, "%02x", (unsigned char)data[i]);
	strcpy(at, size ? "" : "-");
}

/* The beginning of an inode's lines: all but key and value. */
static void line_head(char *line, const struct statx *st, const char *target)
{
	sprintf(line, "%llu %lld.%u %c ", (unsigned long long)st->stx_ino, (long long)st->stx_btime.tv_sec,
		st->stx_btime.tv_nsec, kind_of(st->stx_mode));
	add_hex(line, target, strlen(target));
	strcat(line, " ");
}

static unsigned hash(uint64_t inode)
{
	return (unsigned)((inode * 0x9E3779B97F4A7C15ull) >> 48);
}

/* Open the journal where it is or MAKE says so, and mark the inodes of what others have added to it. */
static bool journal(struct supervisor *s, bool make)
{
	char piece[4096];
	ssize_t n;
	if (s->journal < 0) {
		int flags = O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0);
		s->journal = *s->journal_path ? open(s->journal_path, flags, 0600) : -1;
	}
	if (s->journal < 0)
		return false;
	while ((n = pread(s->journal, piece, sizeof(piece) - 1, s->seen)) > 0) {
		piece[n] = '\0';
		char *line = piece, *end;
		for (; (end = strchr(line, '\n')); line = end + 1) {
			unsigned bit = hash(strtoull(line, NULL, 10));
			s->mark[bit / 8] |= (unsigned char)(1u << (bit % 8));
		}
		if (line == piece && n < (ssize_t)sizeof(piece) - 1)
			break;	     /* a line that is being written */
		if (line == piece) { /* longer than a piece: its number is at the beginning */
			unsigned bit = hash(strtoull(line, NULL, 10));
			s->mark[bit / 8] |= (unsigned char)(1u << (bit % 8));
			line = piece + n;
		}
		s->seen += line - piece;
	}
	return true;
}

static int append(struct supervisor *s, int fd, const char *key, const void *value, size_t size)
{
	static char line[LINE_MAX_];
	char target[PATH_MAX];
	struct statx st;
	if (size > 2048 || !in_layer(s, fd, &st, target) || !journal(s, true))
		return 0; /* it is in no layer, or nothing can be kept of it */
	line_head(line, &st, target);
	strcat(line, key);
	strcat(line, " ");
	add_hex(line, value, size);
	strcat(line, "\n");
	size_t length = strlen(line);
	ssize_t n = write(s->journal, line, length);
	return n == (ssize_t)length ? 0 : n < 0 ? -errno : -ENOSPC;
}

static bool unsupported(int error)
{
	return error == EPERM || error == EOPNOTSUPP || error == EACCES || error == ENOSYS || error == EINVAL;
}

static void attribute(char name[256], const char *key)
{
	snprintf(name, 256, OWNER_PREFIX "%s", key);
}

/* Keep VALUE under KEY for the file that the O_PATH descriptor FD names; 0 or a negative errno. */
int owner_record(struct supervisor *s, int fd, const char *key, const void *value, size_t size)
{
	char self[32], name[256];
	fd_path(fd, self);
	attribute(name, key);
	if (setxattr(self, name, value, size, 0) == 0)
		return 0;
	return unsupported(errno) ? append(s, fd, key, value, size) : -errno;
}

/* FD is root's again.  Where something else was recorded of it, that is said, too: a file without a word is
 * taken for a new version of what was in its place (ownership.py). */
int owner_forget(struct supervisor *s, int fd)
{
	static const char key[] = "owner";
	char self[32], name[256], target[PATH_MAX];
	struct statx st;
	fd_path(fd, self);
	attribute(name, key);
	if (removexattr(self, name) == 0)
		return owner_record(s, fd, key, "0:0", 3);
	if (errno == ENODATA)
		return 0;
	if (!unsupported(errno))
		return -errno;
	if (!journal(s, false) || !in_layer(s, fd, &st, target))
		return 0;
	unsigned bit = hash(st.stx_ino);
	return s->mark[bit / 8] & 1u << (bit % 8) ? append(s, fd, key, "0:0", 3) : 0;
}

/* The owner in the last line that has one of FD's inode; how many bytes of VALUE it takes, 0 for none. */
static size_t in_journal(struct supervisor *s, int fd, char *value, size_t size)
{
	static char head[LINE_MAX_];
	char target[PATH_MAX], *line = NULL;
	size_t room = 0, found = 0;
	struct statx st;
	ssize_t n;
	if (!journal(s, false) || !in_layer(s, fd, &st, target))
		return 0;
	line_head(head, &st, target);
	strcat(head, "owner ");
	FILE *file = fopen(s->journal_path, "re");
	while (file && (n = getline(&line, &room, file)) > 0) {
		size_t length = strlen(head), used = 0;
		if (strncmp(line, head, length) != 0)
			continue;
		const char *at = line + length;
		while (used < size && sscanf(at + 2 * used, "%2hhx", (unsigned char *)&value[used]) == 1)
			used++;
		found = used;
	}
	free(line);
	if (file)
		fclose(file);
	return found;
}

/* The owner that is recorded of FD. */
bool owner_recorded(struct supervisor *s, int fd, uint32_t *uid, uint32_t *gid)
{
	char self[32], value[64];
	fd_path(fd, self);
	ssize_t n = getxattr(self, OWNER_PREFIX "owner", value, sizeof(value));
	/* A link says ENODATA. */
	size_t size = n >= 0 ? (size_t)n : in_journal(s, fd, value, sizeof(value));
	return owner_parse(value, size, uid, gid);
}
