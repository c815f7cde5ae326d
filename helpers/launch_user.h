/* Lookups in passwd and group text; no I/O, so that a fuzzer can feed them. */
#ifndef ROOTLESS_LAUNCH_USER_H
#define ROOTLESS_LAUNCH_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct span {
	const char *data;
	size_t size;
};

struct passwd_line {
	struct span name, home;
	long uid, gid;
};

long parse_id(struct span text);
bool find_passwd(struct span file, struct span name, long id, struct passwd_line *out);
bool find_group(struct span file, struct span name, long id, long *gid);
int groups_of(struct span file, struct span user, gid_t *out, int max);

#endif
