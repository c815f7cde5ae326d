/* A process beside the container that answers the questions of a seccomp filter.  See launch_notify.c. */
#ifndef ROOTLESS_LAUNCH_NOTIFY_H
#define ROOTLESS_LAUNCH_NOTIFY_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct player;
struct text;

#define RUN_IT 1	    /* instead of an errno, which is negative or 0: let the kernel run the call */
#define NOTIFY_KILLABLE 32u /* Linux 5.19: no signal but a deadly one interrupts a question */
#define NOTIFY_CONTROL_FD 3 /* the supervisor's end of the way to the launcher */

/* the launcher's half */
int notify_fork(struct player *p, char type, const char *what, int *control);
int notify_load(struct player *p, int control, const struct text *asking, unsigned int flags, int *refused);

/* the supervisor's half */
bool notify_alone(int control, const char *name);
bool notify_greeted(pid_t *launcher);
bool notify_listener(int error, int *listener);
const struct seccomp_notif *notify_next(int listener);
void notify_reply(int listener, uint64_t id, int result);
bool notify_valid(int listener, uint64_t id);
int caller_read(pid_t pid, uint64_t address, void *out, size_t size);

#endif
