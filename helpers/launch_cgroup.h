/* Control groups in the launcher: what its parts share. */
#ifndef ROOTLESS_LAUNCH_CGROUP_H
#define ROOTLESS_LAUNCH_CGROUP_H

#include "launch.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* launch_cgroup.c */
int cgroup_of(pid_t pid, char *out, size_t size);
int cgroup_forgo(struct player *p, int result, bool optional);

/* launch_dbus.c */
struct bus_message {
	unsigned type;		 /* 1 call, 2 return, 3 error, 4 signal */
	uint32_t reply;		 /* serial of the call that it answers, or 0 */
	char name[128];		 /* an error's */
	char member[64];	 /* a signal's */
	char text[512];		 /* the first string of the body, if it begins with one */
	char unit[256], end[32]; /* of JobRemoved: the unit, how its job ended */
};

long bus_parse(const unsigned char *data, size_t size, struct bus_message *out);

#endif
