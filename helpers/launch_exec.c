/* The last steps before the program: limits, terminal, filter, identity, execute. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>

#include "launch.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#ifndef PR_CAP_AMBIENT
#define PR_CAP_AMBIENT 47
#define PR_CAP_AMBIENT_RAISE 2
#define PR_CAP_AMBIENT_CLEAR_ALL 4
#endif
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW 4
#endif

enum { EXEC_KEEP_SIGNALS = 1, EXEC_HOST = 2, EXEC_MINDED = 4 };

int op_hostname(struct player *p, const struct op *op)
{
	if (sethostname(op->a[0].s.data, op->a[0].s.size) < 0)
		return fail(p, errno, "cannot set the host name", op->a[0].s.data);
	return 0;
}

int op_domainname(struct player *p, const struct op *op)
{
	if (setdomainname(op->a[0].s.data, op->a[0].s.size) < 0)
		return fail(p, errno, "cannot set the domain name", op->a[0].s.data);
	return 0;
}

int op_rlimit(struct player *p, const struct op *op)
{
	struct rlimit limit = {(rlim_t)op->a[1].i, (rlim_t)op->a[2].i}, now;
	if (setrlimit((int)op->a[0].i, &limit) == 0)
		return 0;
	int error = errno;
	if (getrlimit((int)op->a[0].i, &now) < 0)
		now.rlim_max = 0;
	return fail_text(p, error, "cannot set resource limit %lld to %lld:%lld: the caller's hard limit is %lld (%s)",
			 (long long)op->a[0].i, (long long)op->a[1].i, (long long)op->a[2].i, (long long)now.rlim_max,
			 error_text(error));
}

/* The bits are the kernel's own on the little endian machines that we know.  It takes any length. */
int op_affinity(struct player *p, const struct op *op)
{
	if (syscall(SYS_sched_setaffinity, 0, (size_t)op->a[0].s.size, op->a[0].s.data) == 0)
		return 0;
	return fail(p, errno, "cannot bind the container to the CPUs that were asked for", "");
}

int op_umask(struct player *p, const struct op *op)
{
	umask((mode_t)op->a[0].i & 0777);
	p->umask_set = true;
	return 0;
}

int op_oom_score_adj(struct player *p, const struct op *op)
{
	char text[32];
	(void)p;
	int n = snprintf(text, sizeof(text), "%lld", (long long)op->a[0].i);
	/* Only raising it is free; below the caller's own value it takes privilege. */
	if (write_file("/proc/self/oom_score_adj", text, (size_t)n) < 0)
		return 0;
	return 0;
}

static int peer(int master)
{
	char name[64];
	int unlocked = 0, number;
	if (ioctl(master, TIOCSPTLCK, &unlocked) < 0)
		return -1;
	int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0 || (errno != ENOTTY && errno != EINVAL))
		return fd;
	if (ioctl(master, TIOCGPTN, &number) < 0)
		return -1;
	snprintf(name, sizeof(name), "/dev/pts/%d", number);
	return open(name, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NOFOLLOW);
}

/* Bind the slave over /dev/console, which is made if the root lets us. */
static int bind_console(struct player *p, int slave)
{
	char from[32], to[32];
	cleanup_fd int fd = make_in_root(p, "/dev/console", 0600, false, 0, 0);
	if (fd < 0)
		return fail(p, errno, "cannot make", "/dev/console");
	fd_path(slave, from);
	fd_path(fd, to);
	if (mount(from, to, NULL, MS_BIND, NULL) < 0)
		return fail(p, errno, "cannot bind the terminal at", "/dev/console");
	return 0;
}

int op_console(struct player *p, const struct op *op)
{
	struct winsize size = {.ws_row = (unsigned short)op->a[0].i, .ws_col = (unsigned short)op->a[1].i};
	cleanup_fd int master = open_in_root(p, "/dev/pts/ptmx", O_RDWR | O_NOCTTY);
	if (master < 0)
		return fail(p, errno, "cannot open", "/dev/pts/ptmx");
	int slave = peer(master);
	if (slave < 0)
		return fail(p, errno, "cannot open the terminal", "");
	if (size.ws_row && size.ws_col)
		ioctl(master, TIOCSWINSZ, &size);
	if ((op->a[2].i & 1) && bind_console(p, slave) < 0)
		return -1;
	if (send_message(p, 'C', NULL, 0, master) < 0)
		return fail(p, errno, "cannot hand over the terminal", "");
	setsid();
	if (ioctl(slave, TIOCSCTTY, 0) < 0)
		return fail(p, errno, "cannot take the terminal", "");
	for (int fd = 0; fd < 3; fd++)
		if (dup2(slave, fd) < 0)
			return fail(p, errno, "cannot set up the terminal", "");
	close(slave);
	p->console_fd = 0;
	return 0;
}

int op_no_new_privs(struct player *p, const struct op *op)
{
	(void)op;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(p, errno, "cannot set no_new_privs", "");
	return 0;
}

/* Load PROGRAM; the listener's descriptor or 0, or -1 with errno and a reason. */
int load_filter(struct player *p, const struct text *program, unsigned int flags)
{
	uint32_t size = program->size;
	if (size == 0 || size % sizeof(struct sock_filter) || size / sizeof(struct sock_filter) > BPF_MAXINSNS)
		return fail_text(p, EINVAL, "cannot load the seccomp filter: it has %u bytes", size);
	struct sock_filter *code = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (code == MAP_FAILED)
		return fail(p, errno, "cannot load the seccomp filter", "");
	memcpy(code, program->data, size);
	struct sock_fprog filter = {(unsigned short)(size / sizeof(struct sock_filter)), code};
	long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
	if (result < 0 && errno == ENOSYS && !flags)
		result = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
	int error = errno;
	munmap(code, size);
	return result < 0 ? fail(p, error, "cannot load the seccomp filter", "") : (int)result;
}

int op_seccomp(struct player *p, const struct op *op)
{
	unsigned int flags = (unsigned int)op->a[1].i;
	int result = load_filter(p, &op->a[0].s, flags);
	if (result < 0 && flags && (errno == EINVAL || errno == ENOSYS))
		result = load_filter(p, &op->a[0].s, 0);
	return result < 0 ? -1 : 0;
}

/* The user can open /dev/stdout and its terminal again.  A shared /dev/null stays whose it is. */
static void give_stdio(const struct player *p)
{
	for (int fd = 0; fd < 3; fd++) {
		struct stat st;
		if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || p->console_fd == 0) &&
		    fchown(fd, p->uid, (gid_t)-1) < 0)
			continue; /* an ID map of one, or a descriptor of the host's: it works without */
	}
}

static int become_user(struct player *p)
{
	if (!p->user_found)
		return 0;
	give_stdio(p);
	/* EPERM: a single-ID map denies setgroups; there is nothing that could be added or dropped. */
	if (!p->keep_groups && setgroups((size_t)p->group_count, p->groups) < 0 && errno != EPERM &&
	    !(p->one_id && errno == EINVAL))
		return fail(p, errno, "cannot set supplementary groups", "");
	if (setresgid(p->gid, p->gid, p->gid) < 0 && !(p->one_id && errno == EINVAL))
		return errno == EINVAL ? fail_text(p, EINVAL, "cannot become group %u: it is not in the ID map", p->gid)
				       : fail(p, errno, "cannot become the group", "");
	if (setresuid(p->uid, p->uid, p->uid) < 0 && !(p->one_id && errno == EINVAL))
		return errno == EINVAL ? fail_text(p, EINVAL, "cannot become user %u: it is not in the ID map", p->uid)
				       : fail(p, errno, "cannot become the user", "");
	return 0;
}

static int drop_bounding(struct player *p, uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		int have = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (have < 0)
			break;
		if (have && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return fail(p, errno, "cannot drop a capability", "");
	}
	return 0;
}

int op_caps(struct player *p, const struct op *op)
{
	uint64_t bounding = (uint64_t)op->a[0].i, ambient = (uint64_t)op->a[4].i;
	bool root = !p->user_found || p->uid == 0;
	uint64_t known = 0;
	for (unsigned long cap = 0; cap < 64 && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		known |= 1ull << cap;
	uint64_t permitted = (root ? (uint64_t)op->a[2].i : ambient) & known;
	uint64_t effective = (root ? (uint64_t)op->a[1].i : ambient) & known;
	uint64_t inheritable = ((uint64_t)op->a[3].i | ambient) & known;
	if (drop_bounding(p, bounding) < 0)
		return -1;
	prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (become_user(p) < 0)
		return -1;
	prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {
	    {(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
	    {(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32), (uint32_t)(inheritable >> 32)}};
	if (syscall(SYS_capset, &head, data) < 0)
		return fail(p, errno, "cannot set capabilities", "");
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long cap = 0; cap < 64; cap++)
		if (ambient & known & (1ull << cap))
			prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
	return 0;
}

int op_chdir(struct player *p, const struct op *op)
{
	const char *path = op->a[0].s.data;
	if ((op->a[1].i & 1)) {
		cleanup_fd int fd = make_in_root(p, path, 0755, true, 0, 0);
		if (fd < 0 && errno != EROFS && errno != EEXIST)
			return fail(p, errno, "cannot make working directory", path);
	}
	if (chdir(path) < 0)
		return fail_text(p, errno, "chdir to cwd (\"%s\") set in config.json failed: %s", path,
				 errno == ENOENT    ? "no such file or directory"
				 : errno == ENOTDIR ? "not a directory"
				 : errno == EACCES  ? "permission denied"
						    : error_text(errno));
	return 0;
}

static void restore_signals(void)
{
	struct sigaction plain = {.sa_handler = SIG_DFL};
	sigset_t none;
	for (int signal = 1; signal < NSIG; signal++)
		sigaction(signal, &plain, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Nothing from FIRST on reaches the program; KEEP goes by CLOEXEC, so that a failure can be told. */
void seal_descriptors(int first, int keep)
{
	if (syscall(SYS_close_range, (unsigned int)first, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) == 0)
		return;
	long most = sysconf(_SC_OPEN_MAX);
	for (int fd = first; fd < (most > 0 && most < 65536 ? most : 65536); fd++)
		if (fd != keep)
			close(fd);
}

/* Close all from LAST+1 on. */
void close_above(int last)
{
	if (syscall(SYS_close_range, (unsigned int)last + 1, ~0u, 0u) == 0)
		return;
	long most = sysconf(_SC_OPEN_MAX);
	for (int fd = last + 1; fd < (most > 0 && most < 65536 ? most : 65536); fd++)
		close(fd);
}

static char **vector(const struct list *list)
{
	const char *cursor = list->cursor;
	char **out = calloc((size_t)list->count + 1, sizeof(char *));
	if (!out)
		return NULL;
	for (uint32_t i = 0; i < list->count; i++)
		out[i] = (char *)list_next(&cursor, NULL);
	return out;
}

static const char *lookup_env(char *const *env, const char *name)
{
	size_t length = strlen(name);
	const char *found = NULL;
	for (; *env; env++)
		if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
			found = *env + length + 1;
	return found;
}

/* The program's environment: LIST, HOME if it is missing, and the sockets that it inherits. */
static char **environment(const struct player *p, const struct list *list)
{
	char *listen[3];
	int extra = listen_environment(p, listen);
	const char *cursor = list->cursor;
	char **out = calloc((size_t)list->count + 5, sizeof(char *)), **at = out;
	if (!out)
		return NULL;
	for (uint32_t i = 0; i < list->count; i++) {
		char *entry = (char *)list_next(&cursor, NULL);
		if (extra == 0 || strncmp(entry, "LISTEN_", 7) != 0)
			*at++ = entry;
	}
	if (p->home[0] && !lookup_env(out, "HOME"))
		*at++ = (char *)p->home;
	for (int i = 0; i < extra; i++)
		*at++ = listen[i];
	return out;
}

static int exec_error(struct player *p, const char *name, bool searched, int error)
{
	p->exit_code = error == ENOENT || error == ENOTDIR ? 127 : 126;
	if (searched && error == ENOENT)
		return fail_text(p, error, "exec: \"%s\": executable file not found in $PATH", name);
	if (error == ENOENT)
		return fail_text(p, error, "exec: \"%s\": stat %s: no such file or directory", name, name);
	if (error == EISDIR)
		return fail_text(p, error, "exec: \"%s\": is a directory", name);
	if (error == EACCES || error == EPERM)
		return fail_text(p, error, "exec: \"%s\": permission denied", name);
	if (error == ENOEXEC)
		return fail_text(p, error, "exec: \"%s\": exec format error", name);
	return fail_text(p, error, "exec: \"%s\": %s", name, error_text(error));
}

/* Try DIRECTORY/NAME; the errno that matters: a directory or an unreadable file is not "not found". */
static int try_exec(const char *path, char **argv, char **env)
{
	struct stat st;
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return EISDIR;
	execve(path, argv, env);
	return errno;
}

static int search(const char *name, char **argv, char **env)
{
	char path[PATH_MAX];
	int result = ENOENT;
	const char *at = lookup_env(env, "PATH");
	if (!at)
		at = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	for (;;) {
		size_t length = strcspn(at, ":");
		if ((size_t)snprintf(path, sizeof(path), "%.*s%s%s", (int)length, at, length ? "/" : "./", name) <
		    sizeof(path)) {
			int error = try_exec(path, argv, env);
			if (error != ENOENT && error != ENOTDIR && error != EISDIR)
				result = error;
		}
		if (!at[length])
			return result;
		at += length + 1;
	}
}

int op_exec(struct player *p, const struct op *op)
{
	char **argv = vector(&op->a[1].l);
	char **env = environment(p, &op->a[2].l);
	if (!argv || !argv[0])
		return fail_text(p, EINVAL, "cannot execute: no command");
	if (!env)
		return fail(p, ENOMEM, "cannot execute", argv[0]);
	const char *path = op->a[0].s.data;
	if (!(op->a[3].i & EXEC_KEEP_SIGNALS))
		restore_signals();
	if (op->a[3].i & EXEC_MINDED && go_on_minded(p) < 0)
		return fail(p, errno, "cannot start a process", "");
	int after = place_listeners(p);
	if (after < 0)
		return fail(p, errno, "cannot hand over the listening sockets to", argv[0]);
	if (!p->umask_set)
		umask(p->umask);
	if (!(op->a[3].i & EXEC_HOST))
		seal_descriptors(after, p->status_fd);
	bool searched = !*path && !strchr(argv[0], '/');
	int error = searched ? search(argv[0], argv, env) : try_exec(*path ? path : argv[0], argv, env);
	return exec_error(p, *path ? path : argv[0], searched, error);
}
