/* Compressing rotated files: by a child, one file at a time, so that the log never waits for it.
 *
 * The child reads the file from descriptor 0 and writes to descriptor 1, PATH.gz.tmp.  Only the monitor renames:
 * it knows which number the file has by then.  Where output comes faster than it can be compressed, files stay
 * as they are until there is time, or until they are dropped.  A child that is killed leaves the file as it was.
 */
#define _GNU_SOURCE
#include "log.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int open_temporary(const struct log *log, int flags, char name[PATH_MAX])
{
	if (!log_file_name(name, PATH_MAX, log->setup.path, 0, ".gz.tmp"))
		return -1;
	return open(name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0640);
}

static void spawn(struct log *log, int64_t number, int source)
{
	static char isolated[] = "-I", bare[] = "-S";
	char *argv[] = {(char *)log->setup.packer, isolated, bare, (char *)log->setup.packer_program, NULL};
	int fds[LOG_PROGRAM_FDS] = {source, -1, -1, -1, -1, -1, -1, -1, -1, -1};
	char name[PATH_MAX];
	pid_t pid;

	fds[1] = open_temporary(log, O_CREAT | O_TRUNC, name);
	pid = fds[1] >= 0 ? log->setup.spawn(log->setup.packer, argv, fds) : -1;
	if (pid > 0) {
		log->file.packer = pid;
		log->file.packing = number;
	} else {
		log->file.pack_failed = true;
	}
	if (fds[1] >= 0)
		close(fds[1]);
}

/* Begins with the newest rotated file that is not compressed. */
void log_pack_start(struct log *log)
{
	char name[PATH_MAX], packed[PATH_MAX];
	int64_t i;
	int fd;

	if (!log->setup.packer || !log->setup.spawn || log->file.packer || log->file.pack_failed || log->giving_up)
		return;
	for (i = 1; i < log->setup.max_file; i++) {
		if (!log_file_name(name, sizeof name, log->setup.path, i, "") ||
		    !log_file_name(packed, sizeof packed, log->setup.path, i, ".gz"))
			return;
		fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd < 0 && access(packed, F_OK) < 0)
			return; /* there are no older ones */
		if (fd < 0)
			continue;
		if (access(packed, F_OK) == 0)
			unlink(name); /* we were killed between the two */
		else
			spawn(log, i, fd);
		close(fd);
		if (log->file.packer || log->file.pack_failed)
			return;
	}
}

/* Every file has got the next number. */
void log_pack_rotated(struct log *log)
{
	log->file.packing++;
	log->file.pack_failed = false;
	log_pack_start(log);
}

/* Puts the compressed file in the place of the other. */
static void put_in_place(const struct log *log)
{
	char temporary[PATH_MAX], plain[PATH_MAX], packed[PATH_MAX];
	int fd = open_temporary(log, 0, temporary);

	if (fd < 0)
		return;
	close(fd);
	if (log->file.packing < log->setup.max_file &&
	    log_file_name(plain, sizeof plain, log->setup.path, log->file.packing, "") &&
	    log_file_name(packed, sizeof packed, log->setup.path, log->file.packing, ".gz") &&
	    rename(temporary, packed) == 0)
		unlink(plain);
	else
		unlink(temporary);
}

/* Nothing is compressed any more. */
void log_pack_stop(struct log *log)
{
	log->setup.spawn = NULL;
	if (!log->file.packer)
		return;
	kill(log->file.packer, SIGKILL);
	waitpid(log->file.packer, NULL, 0);
	log->file.packer = 0;
}

/* Whether the child PID was ours; it has ended with STATUS. */
bool log_pack_ended(struct log *log, pid_t pid, int status)
{
	char temporary[PATH_MAX];

	if (!log->file.packer || pid != log->file.packer)
		return false;
	log->file.packer = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		put_in_place(log);
	} else {
		log->file.pack_failed = true;
		if (log_file_name(temporary, sizeof temporary, log->setup.path, 0, ".gz.tmp"))
			unlink(temporary);
	}
	log_pack_start(log);
	return true;
}
