/* Emulated ownership: what its parts share.  See launch_owner.c. */
#ifndef ROOTLESS_LAUNCH_OWNER_H
#define ROOTLESS_LAUNCH_OWNER_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "tape.h"

#define X(number, name) OWNER_##name = number,
enum owner_call { OWNER_CALLS(X) };
#undef X

#define OWNER_NONE UINT32_MAX
#define OWNER_PREFIX "user.rootless."

/* A call in words; what it has no use for is 0. */
struct owner_words {
	bool by_fd, follow, empty_path;
	int dirfd;
	uint64_t path, name, value;
	size_t size;
	uint32_t uid, gid, mode, device, flags;
};

struct supervisor {
	int listener, host_root, root, upper, journal;
	const char *calls, *journal_path, *upper_path;
	size_t calls_size;
	uint64_t root_mount;
	ino_t userns;
	off_t seen;		  /* of the journal */
	unsigned char mark[8192]; /* inodes that the journal has, by a hash */
};

/* launch_owner_parse.c: pure */
int owner_call(const char *calls, size_t size, uint32_t arch, uint32_t number);
void owner_words(enum owner_call call, const uint64_t args[6], struct owner_words *out);
bool owner_parse(const char *text, size_t size, uint32_t *uid, uint32_t *gid);
bool owner_is_kept(const char *name);
int owner_own_fd(const char *path);
uint64_t owner_status(const char *status, const char *key, int base, uint64_t missing);
bool owner_caps_fit(const uint32_t *data, bool two, uint64_t permitted);

/* launch_owner_files.c: finding what the caller means */
int owner_read_text(pid_t pid, uint64_t address, char *out, size_t size);
int owner_open(struct supervisor *s, const struct seccomp_notif *notice, const struct owner_words *w);
int owner_open_parent(struct supervisor *s, const struct seccomp_notif *notice, const struct owner_words *w, char *name,
		      size_t size);
int owner_status_of(pid_t pid, char *out, size_t size);

/* launch_owner_store.c: what is recorded, and where */
uint64_t owner_mount_of(int fd);
int owner_record(struct supervisor *s, int fd, const char *key, const void *value, size_t size);
int owner_forget(struct supervisor *s, int fd);
bool owner_recorded(struct supervisor *s, int fd, uint32_t *uid, uint32_t *gid);

/* launch_owner_calls.c: 0, a negative errno, or RUN_IT */
int owner_answer(struct supervisor *s, const struct seccomp_notif *notice);

#endif
