/* Emulated ownership, the pure part: numbers to calls, arguments to words, and what is read in text.
 * Everything here comes from the container and is hostile. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "launch_owner.h"

/* The kind of a call, or -1; CALLS are entries of u32 architecture, number, kind, zero. */
int owner_call(const char *calls, size_t size, uint32_t arch, uint32_t number)
{
	uint32_t entry[4];
	for (size_t at = 0; at + sizeof(entry) <= size; at += sizeof(entry)) {
		memcpy(entry, calls + at, sizeof(entry));
		if (entry[0] == arch && entry[1] == number && entry[2] <= OWNER_capset)
			return (int)entry[2];
	}
	return -1;
}

/* An ID of 16 bits: its -1 is that of 32. */
static uint32_t widened(uint64_t id)
{
	return (id & 0xffff) == 0xffff ? OWNER_NONE : (uint32_t)(id & 0xffff);
}

static void ids(struct owner_words *out, uint64_t uid, uint64_t gid, bool narrow)
{
	out->uid = narrow ? widened(uid) : (uint32_t)uid;
	out->gid = narrow ? widened(gid) : (uint32_t)gid;
}

void owner_words(enum owner_call call, const uint64_t args[6], struct owner_words *out)
{
	memset(out, 0, sizeof(*out));
	bool narrow = call >= OWNER_chown16 && call <= OWNER_fchown16;
	out->dirfd = AT_FDCWD;
	out->path = args[0];
	switch (call) {
	case OWNER_chown:
	case OWNER_chown16:
	case OWNER_lchown:
	case OWNER_lchown16:
		out->follow = call == OWNER_chown || call == OWNER_chown16;
		ids(out, args[1], args[2], narrow);
		break;
	case OWNER_fchown:
	case OWNER_fchown16:
		out->by_fd = true;
		out->dirfd = (int)args[0];
		ids(out, args[1], args[2], narrow);
		break;
	case OWNER_fchownat:
		out->dirfd = (int)args[0];
		out->path = args[1];
		ids(out, args[2], args[3], false);
		out->flags = (uint32_t)args[4];
		out->follow = !(out->flags & AT_SYMLINK_NOFOLLOW);
		out->empty_path = out->flags & AT_EMPTY_PATH;
		break;
	case OWNER_mknod:
		out->mode = (uint32_t)args[1];
		out->device = (uint32_t)args[2];
		break;
	case OWNER_mknodat:
		out->dirfd = (int)args[0];
		out->path = args[1];
		out->mode = (uint32_t)args[2];
		out->device = (uint32_t)args[3];
		break;
	case OWNER_setxattr:
	case OWNER_lsetxattr:
	case OWNER_fsetxattr:
		out->follow = call == OWNER_setxattr;
		out->by_fd = call == OWNER_fsetxattr;
		out->dirfd = out->by_fd ? (int)args[0] : AT_FDCWD;
		out->name = args[1];
		out->value = args[2];
		out->size = (size_t)args[3];
		out->flags = (uint32_t)args[4];
		break;
	case OWNER_capset:
	default:
		out->value = args[1];
		break;
	}
}

/* "UID:GID" in decimal. */
bool owner_parse(const char *text, size_t size, uint32_t *uid, uint32_t *gid)
{
	uint64_t number[2] = {0, 0};
	size_t at = 0;
	for (int n = 0; n < 2; n++) {
		size_t first = at;
		for (; at < size && text[at] >= '0' && text[at] <= '9' && at - first < 10; at++)
			number[n] = number[n] * 10 + (uint64_t)(text[at] - '0');
		if (at == first || number[n] >= OWNER_NONE)
			return false;
		if (n == 0 && (at >= size || text[at++] != ':'))
			return false;
	}
	*uid = (uint32_t)number[0];
	*gid = (uint32_t)number[1];
	return at == size;
}

/* Whether an attribute is one that a user namespace may be refused. */
bool owner_is_kept(const char *name)
{
	return strncmp(name, "security.", 9) == 0 || strncmp(name, "trusted.", 8) == 0 ||
	       strncmp(name, "system.posix_acl_", 17) == 0;
}

/* The number of the caller's own descriptor that PATH names, or -1.  The caller's, not ours. */
int owner_own_fd(const char *path)
{
	static const char *const named[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
	static const char *const places[] = {"/proc/self/fd/", "/proc/thread-self/fd/", "/dev/fd/"};
	for (int fd = 0; fd < 3; fd++)
		if (strcmp(path, named[fd]) == 0)
			return fd;
	for (size_t n = 0; n < 3; n++) {
		size_t length = strlen(places[n]), digits = 0;
		int fd = 0;
		if (strncmp(path, places[n], length) != 0)
			continue;
		for (; digits < 7 && path[length + digits] >= '0' && path[length + digits] <= '9'; digits++)
			fd = fd * 10 + (path[length + digits] - '0');
		return digits && !path[length + digits] ? fd : -1;
	}
	return -1;
}

/* The number after "KEY:" at the beginning of a line of /proc/PID/status; MISSING where it is not there. */
uint64_t owner_status(const char *status, const char *key, int base, uint64_t missing)
{
	size_t length = strlen(key);
	for (const char *line = status; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, length) == 0 && line[length] == ':')
			return strtoull(line + length + 1, NULL, base);
	}
	return missing;
}

/* Whether the kernel would let a process with PERMITTED set these capabilities: then it shall. */
bool owner_caps_fit(const uint32_t *data, bool two, uint64_t permitted)
{
	uint64_t wanted = data[0] | data[1];
	if (two)
		wanted |= (uint64_t)(data[3] | data[4]) << 32;
	return !(wanted & ~permitted);
}
