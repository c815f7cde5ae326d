/* The minder: what stands between the supervisor and a program that is to leave nothing behind.
 *
 * It is the process that the supervisor knows; the program is its child.  Whatever the program starts, and
 * however it lets go of it, becomes the minder's when its own parent ends, not that of the container's first
 * process.  So the supervisor can end all of it from outside, by ending the minder's children until there are none.
 *
 * It tells the end of the program ('X' and the code), stays as long as there is anyone to reap, and ends
 * with the program's code.  It has the program's rights and nothing open but the status socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"

static void mind(struct player *p, pid_t program)
{
	uint32_t code = 125;
	int status;
	pid_t pid;

	if (p->status_fd > 0 && dup2(p->status_fd, 0) == 0)
		p->status_fd = 0;
	close_above(0);
	prctl(PR_SET_NAME, "minder", 0, 0, 0);
	while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
		if (pid != program)
			continue;
		code = (uint32_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
		send_message(p, 'X', &code, sizeof(code), -1);
	}
	_exit((int)code);
}

/* Goes on in a child, which ends with us, and minds it; -1 if there can be none. */
int go_on_minded(struct player *p)
{
	pid_t pid;

	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return -1;
	pid = fork();
	if (pid > 0)
		mind(p, pid);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	return pid;
}
