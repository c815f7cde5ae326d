/* init: PID 1 of a container that asked for one.
 *
 *     init -- PROGRAM [ARG...]
 *
 * Starts the program, passes signals on to it, reaps whatever is orphaned, and ends with the program's exit
 * code (128+n if signal n killed it).  Sockets that were to be ours by LISTEN_PID are the program's.  Job control
 * signals go to the program too, since PID 1 ignores them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *text)
{
	if (write(2, text, strlen(text)) < 0)
		return;
}

/* sd_listen_fds(3) takes the sockets for its own only where LISTEN_PID names it. */
static void pass_sockets(void)
{
	const char *whose = getenv("LISTEN_PID");
	char pid[16];
	if (!whose || atoi(whose) != (int)getppid())
		return;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("LISTEN_PID", pid, 1);
}

static void run(char **argv, const sigset_t *mask)
{
	setpgid(0, 0);
	pass_sockets();
	/* Taking the terminal from the background would stop us. */
	signal(SIGTTOU, SIG_IGN);
	tcsetpgrp(0, getpgrp());
	signal(SIGTTOU, SIG_DFL);
	signal(SIGTTIN, SIG_DFL);
	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	int error = errno;
	say("init: cannot execute ");
	say(argv[0]);
	say(": ");
	say(strerror(error));
	say("\n");
	_exit(error == ENOENT || error == ENOTDIR ? 127 : 126);
}

static int reap(pid_t child, int *code)
{
	int status, ended = 0;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == child) {
			*code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			ended = 1;
		}
	return ended || (pid < 0 && errno == ECHILD);
}

int main(int argc, char **argv)
{
	int first = argc > 1 && strcmp(argv[1], "--") == 0 ? 2 : 1, code = 1;
	sigset_t all, before;
	siginfo_t info;
	if (argc <= first) {
		say("usage: init -- PROGRAM [ARG...]\n");
		return 125;
	}
	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigprocmask(SIG_BLOCK, &all, &before);
	pid_t child = fork();
	if (child == 0)
		run(argv + first, &before);
	if (child < 0) {
		say("init: cannot fork\n");
		return 125;
	}
	for (;;) {
		int number = sigwaitinfo(&all, &info);
		if (number < 0)
			continue;
		if (number != SIGCHLD)
			kill(child, number);
		else if (reap(child, &code))
			return code;
	}
}
