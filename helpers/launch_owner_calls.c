/* Emulated ownership: what each call does.
 *
 * A call is first tried with the one ID there is, so that whatever would make it fail for a reason of its
 * own (no such file, read-only, immutable, somebody else's file, no space) fails here too and the kernel's
 * side effects happen; then what could not be done is recorded.  Where nothing needs to be pretended, and
 * for callers in a user namespace of their own, the kernel runs the call (RUN_IT); that decides nothing,
 * the kernel still checks everything.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "launch.h"
#include "launch_notify.h"
#include "launch_owner.h"

#define MAX_VALUE 65536 /* XATTR_SIZE_MAX */

/* Network filesystems refuse even what changes nothing. */
static bool refuses_all(const struct stat *st, int error)
{
	return st->st_uid == 0 && (error == EPERM || error == EOPNOTSUPP || error == ENOSYS);
}

static int change_owner(struct supervisor *s, const struct seccomp_notif *notice, const struct owner_words *w)
{
	char text[32];
	struct stat st;
	uint32_t uid = 0, gid = 0;
	if (w->flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	int opened = owner_open(s, notice, w);
	if (opened < 0)
		return opened;
	cleanup_fd int fd = opened;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* The owner stays, so this changes nothing but what chown does besides: the checks, setuid bits, times.
	 * A group that is not ours (of a file bound from the host) is left alone. */
	if (fchownat(fd, "", 0, st.st_gid == 0 ? 0 : (gid_t)-1, AT_EMPTY_PATH) < 0 && !refuses_all(&st, errno))
		return errno == EINVAL ? -EPERM : -errno;
	if (w->uid == OWNER_NONE || w->gid == OWNER_NONE)
		owner_recorded(s, fd, &uid, &gid);
	uid = w->uid == OWNER_NONE ? uid : w->uid;
	gid = w->gid == OWNER_NONE ? gid : w->gid;
	if (uid == 0 && gid == 0)
		return owner_forget(s, fd);
	int n = snprintf(text, sizeof(text), "%u:%u", uid, gid);
	return owner_record(s, fd, "owner", text, (size_t)n);
}

/* A device becomes an empty file that says which.  0/0 is a whiteout on overlay, and refused there, too. */
static int make_device(struct supervisor *s, const struct seccomp_notif *notice, const struct owner_words *w)
{
	char name[NAME_MAX + 1], status[4096], text[48];
	uint32_t major = (w->device & 0xfff00) >> 8, minor = (w->device & 0xff) | (w->device >> 12 & 0xfff00);
	if (S_ISCHR(w->mode) && w->device == 0)
		return -EPERM;
	int error = owner_status_of((pid_t)notice->pid, status, sizeof(status));
	if (error)
		return error;
	mode_t mask = (mode_t)owner_status(status, "Umask", 8, 022);
	int opened = owner_open_parent(s, notice, w, name, sizeof(name));
	if (opened < 0)
		return opened;
	cleanup_fd int parent = opened;
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int file = openat(parent, name, flags, w->mode & 07777 & ~mask);
	if (file < 0)
		return -errno;
	close(file);
	cleanup_fd int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int n = snprintf(text, sizeof(text), "%c %u %u", S_ISCHR(w->mode) ? 'c' : 'b', major, minor);
	return owner_record(s, fd, "node", text, (size_t)n);
}

static int set_attribute(struct supervisor *s, const struct seccomp_notif *notice, const struct owner_words *w)
{
	static char value[MAX_VALUE];
	char name[256], key[300], self[32];
	pid_t pid = (pid_t)notice->pid;
	if (owner_read_text(pid, w->name, name, sizeof(name)) || !owner_is_kept(name) || w->size > sizeof(value))
		return RUN_IT;
	if (w->size && caller_read(pid, w->value, value, w->size))
		return -EFAULT;
	int opened = owner_open(s, notice, w);
	if (opened < 0)
		return opened;
	cleanup_fd int fd = opened;
	fd_path(fd, self);
	if (setxattr(self, name, value, w->size, (int)w->flags) == 0)
		return 0;
	bool malformed = errno == EINVAL && strncmp(name, "security.", 9) == 0;
	if (malformed || (errno != EPERM && errno != EINVAL && errno != EOPNOTSUPP))
		return -errno;
	if (snprintf(key, sizeof(key), "xattr.%s", name) <= 200)
		owner_record(s, fd, key, value, w->size); /* whether it could be kept or not */
	return 0;
}

static int set_capabilities(const struct seccomp_notif *notice, const struct owner_words *w)
{
	struct __user_cap_header_struct head;
	uint32_t data[6] = {0};
	char status[4096];
	pid_t pid = (pid_t)notice->pid;
	if (caller_read(pid, notice->data.args[0], &head, sizeof(head)))
		return RUN_IT;
	bool two = head.version != _LINUX_CAPABILITY_VERSION_1;
	if (caller_read(pid, w->value, data, two ? 24 : 12) || owner_status_of(pid, status, sizeof(status)))
		return RUN_IT;
	return owner_caps_fit(data, two, owner_status(status, "CapPrm", 16, 0)) ? RUN_IT : 0;
}

int owner_answer(struct supervisor *s, const struct seccomp_notif *notice)
{
	char path[64];
	struct stat st;
	struct owner_words words;
	int call = owner_call(s->calls, s->calls_size, notice->data.arch, (uint32_t)notice->data.nr);
	snprintf(path, sizeof(path), "/proc/%u/ns/user", notice->pid);
	if (call < 0 || stat(path, &st) < 0 || st.st_ino != s->userns)
		return RUN_IT;
	uint64_t args[6];
	for (int i = 0; i < 6; i++)
		args[i] = notice->data.args[i];
	owner_words((enum owner_call)call, args, &words);
	switch (call) {
	case OWNER_mknod:
	case OWNER_mknodat:
		return make_device(s, notice, &words);
	case OWNER_setxattr:
	case OWNER_lsetxattr:
	case OWNER_fsetxattr:
		return set_attribute(s, notice, &words);
	case OWNER_capset:
		return set_capabilities(notice, &words);
	default:
		return change_owner(s, notice, &words);
	}
}
