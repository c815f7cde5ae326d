/* launch: the tape player.  Shared types of its parts.
 *
 * The player runs as the caller (or as root of a realm it joins), reads a tape once, checks all of it,
 * and then performs one operation after the other.  It decides nothing: every value is on the tape.
 */
#ifndef ROOTLESS_LAUNCH_H
#define ROOTLESS_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_ARGS 8
#define MAX_GROUPS 256
#define MAX_LISTEN 253 /* as many as one message carries (SCM_MAX_FD) */

struct text {
	const char *data; /* NUL-terminated for strings */
	uint32_t size;
};

struct list {
	const char *cursor; /* first encoded string */
	uint32_t count;
};

union arg {
	int64_t i;
	struct text s;
	struct list l;
};

struct op {
	uint32_t index;
	uint32_t code;
	const struct op_info *info;
	union arg a[MAX_ARGS];
};

/* A question to the network service that is not answered yet. */
struct attach {
	const char *path; /* of its socket, host view */
	struct text payload;
	int connection; /* -1: nothing was asked */
	int namespace;
	int door; /* names the socket, which set_ids may put out of reach; or -1 */
};

struct player {
	char *tape;
	size_t size;
	uint32_t count;
	int status_fd;
	int root_fd; /* the new root before pivot, -1 before it exists */
	bool pivoted;
	bool no_openat2;
	bool no_mount_setattr;
	bool user_found;
	uid_t uid;
	gid_t gid;
	gid_t groups[MAX_GROUPS];
	int group_count;
	bool keep_groups;
	char home[4096];
	int console_fd;
	int owner_fd;	/* to the supervisor of emulated ownership, or -1 */
	int connect_fd; /* to the process that connects, or -1 */
	bool one_id;	/* an ID that is not mapped is no error */
	struct attach attach;
	int listen[MAX_LISTEN]; /* sockets that the container's program inherits */
	int listen_count;
	char listen_names[2048];
	int program_control; /* to the network program that waits, or -1 */
	int program_ready;   /* from it */
	const char *program_name;
	char program_log[4096];
	mode_t umask; /* the caller's: modes of what is made are the tape's */
	bool umask_set;
	char cgroup[1100];   /* the container's control group, or empty; a status message holds it */
	bool cgroup_forgone; /* it could not be made, and need not */
	int exit_code;
	char reason[1024]; /* why the current operation failed */
};

typedef int (*op_handler)(struct player *p, const struct op *op);

struct op_info {
	uint32_t code;
	const char *name;
	const char *signature;
	op_handler run;
};

#define cleanup_fd __attribute__((cleanup(close_fd)))
static inline void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* launch_tape.c */
int tape_check(struct player *p);
int tape_next(const struct player *p, size_t *offset, struct op *op);
const char *list_next(const char **cursor, uint32_t *size);
const struct op_info *op_lookup(uint32_t code);

/* launch.c */
const char *error_text(int error);
int fail(struct player *p, int error, const char *what, const char *object);
int fail_text(struct player *p, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
int send_with_fd(int socket, char type, const void *data, size_t size, int fd);
int send_message(struct player *p, char type, const void *data, size_t size, int fd);
int write_file(const char *path, const void *data, size_t size);

/* launch_path.c */
int open_below(struct player *p, int root, const char *path, int flags);
int open_in_root(struct player *p, const char *path, int flags);
int make_in_root(struct player *p, const char *path, mode_t mode, bool directory, int uid, int gid);
int parent_in_root(struct player *p, const char *path, char *name, size_t size, bool make);
void fd_path(int fd, char out[32]);

/* launch_attach.c */
int connect_path(int fd, const char *path);
int place_listeners(struct player *p);
int listen_environment(const struct player *p, char *out[3]);

/* launch_exec.c */
void seal_descriptors(int first, int keep);
void close_above(int last);
int load_filter(struct player *p, const struct text *program, unsigned int flags);

/* launch_mind.c */
int go_on_minded(struct player *p);

/* launch_fuse.c */
pid_t fork_beside(void);

/* launch_mount.c */
int mount_attributes(struct player *p, int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive);

#define HANDLER(name) int op_##name(struct player *p, const struct op *op)
HANDLER(join_fd);
HANDLER(join_proc);
HANDLER(join_path);
HANDLER(clone);
HANDLER(unshare);
HANDLER(set_ids);
HANDLER(setsid);
HANDLER(pdeathsig);
HANDLER(sync);
HANDLER(loopback_up);
HANDLER(net_attach);
HANDLER(net_attached);
HANDLER(net_path);
HANDLER(net_program);
HANDLER(net_ready);
HANDLER(net_request);
HANDLER(cgroup_scope);
HANDLER(cgroup_make);
HANDLER(cgroup_set);
HANDLER(cgroup_delegate);
HANDLER(cgroup_enter);
HANDLER(cgroup_remove);
HANDLER(chdir_host);
HANDLER(rmtree);
HANDLER(mkdir_host);
HANDLER(chown_host);
HANDLER(propagation);
HANDLER(overlay);
HANDLER(root_bind);
HANDLER(fuse);
HANDLER(mkdir);
HANDLER(mkfile);
HANDLER(symlink);
HANDLER(write);
HANDLER(mount);
HANDLER(bind);
HANDLER(bind_below);
HANDLER(remount);
HANDLER(mask);
HANDLER(readonly);
HANDLER(pivot);
HANDLER(chdir);
HANDLER(hostname);
HANDLER(domainname);
HANDLER(rlimit);
HANDLER(affinity);
HANDLER(umask);
HANDLER(oom_score_adj);
HANDLER(console);
HANDLER(user);
HANDLER(no_new_privs);
HANDLER(seccomp);
HANDLER(caps);
HANDLER(supervise);
HANDLER(emulate);
HANDLER(connect_beside);
HANDLER(trap_connect);
HANDLER(exec);

#endif
