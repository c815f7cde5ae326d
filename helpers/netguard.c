/* netguard: keep the network service running.
 *
 *     netguard LOG -- PROGRAM [ARG...]
 *
 * Inherits 3, the listening control socket, and 4 and 5, the realm's user and network namespace, and starts
 * PROGRAM with these, its errors appended to LOG, again and again until it ends with status 0.  As the
 * listening socket is open here too, who connects while the service is being started again just waits.
 *
 * Goes into the background: what was started ends at once, with 0, or with 125 if it cannot be.  A service that
 * fails is started again at once, then after 100 ms, doubled each time; that it lived for ten seconds is
 * forgiven.  Eight failures are too many: the socket is closed, so that connecting is refused, and LOG says
 * so.  TERM ends the service (KILL after two seconds), then this; the service is sent TERM if this dies.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define LISTENER_FD 3
#define LAST_FD 5
#define LOG_MAX (256 << 10)
#define FAILURES_MAX 8
#define FIRST_DELAY_MS 100
#define LONG_LIFE_MS 10000
#define END_MS 2000

static sigset_t waited_for; /* CHLD and TERM, blocked */

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One line for the log, in one write. */
static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	char line[512];
	time_t now = time(NULL);
	struct tm utc;
	size_t used = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%SZ netguard: ", gmtime_r(&now, &utc));
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line + used, sizeof(line) - used - 1, format, args);
	va_end(args);
	used += n < 0 ? 0 : (size_t)n < sizeof(line) - used - 1 ? (size_t)n : sizeof(line) - used - 2;
	line[used++] = '\n';
	if (write(2, line, used) < 0)
		return;
}

static int refuse(const char *what, const char *object)
{
	fprintf(stderr, "netguard: cannot %s %s: %s\n", what, object, strerror(errno));
	return 125;
}

/* Make LOG stderr; one that has grown too large becomes LOG.1 before. */
static int open_log(const char *path)
{
	char old[4096];
	struct stat st;
	if (lstat(path, &st) == 0 && st.st_size > LOG_MAX &&
	    (size_t)snprintf(old, sizeof(old), "%s.1", path) < sizeof(old))
		rename(path, old); /* should it fail, the log goes on growing */
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	int result = dup2(fd, 2);
	close(fd);
	return result < 0 ? -1 : 0;
}

static int check_descriptors(void)
{
	int listening = 0;
	socklen_t size = sizeof(listening);
	if (getsockopt(LISTENER_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0)
		return -1;
	errno = EINVAL;
	if (!listening)
		return -1;
	for (int fd = LISTENER_FD; fd <= LAST_FD; fd++)
		if (fcntl(fd, F_SETFD, 0) < 0)
			return -1;
	return 0;
}

static void close_others(void)
{
	if (syscall(SYS_close_range, LAST_FD + 1u, ~0u, 0u) == 0)
		return;
	long most = sysconf(_SC_OPEN_MAX);
	for (int fd = LAST_FD + 1; fd < (most > 0 && most < 65536 ? most : 65536); fd++)
		close(fd);
}

/* Leave terminal, session and directory of who started us. */
static bool detach(void)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&waited_for);
	sigaddset(&waited_for, SIGCHLD);
	sigaddset(&waited_for, SIGTERM);
	sigprocmask(SIG_SETMASK, &waited_for, NULL);
	prctl(PR_SET_NAME, "rootless-netguard", 0, 0, 0);
	int null = open("/dev/null", O_RDWR);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		return false;
	close_others();
	return setsid() >= 0 && chdir("/") == 0;
}

static _Noreturn void become_service(char **argv, pid_t guard)
{
	sigset_t none;
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	if (getppid() != guard)
		_exit(0); /* it has died before it would have been noticed */
	execv(argv[0], argv);
	say("cannot execute %s: %s", argv[0], strerror(errno));
	_exit(127);
}

/* Wait for CHLD or TERM, at most MS (-1: for ever); which came, or 0. */
static int wait_signal(int64_t ms)
{
	struct timespec limit = {ms / 1000, ms % 1000 * 1000000};
	int number = ms < 0 ? sigwaitinfo(&waited_for, NULL) : sigtimedwait(&waited_for, NULL, &limit);
	return number < 0 ? 0 : number;
}

static _Noreturn void end_with(pid_t pid)
{
	int64_t deadline = now_ms() + END_MS, left;
	if (pid > 0)
		kill(pid, SIGTERM);
	while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
		left = deadline - now_ms();
		if (left > 0) {
			wait_signal(left);
			continue;
		}
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		break;
	}
	exit(0);
}

/* Run the service once: its wait status.  Does not return when TERM came. */
static int run(char **argv)
{
	int status;
	pid_t guard = getpid(), pid = fork();
	if (pid == 0)
		become_service(argv, guard);
	if (pid < 0) {
		say("cannot fork: %s", strerror(errno));
		return 1 << 8;
	}
	for (;;) {
		if (wait_signal(-1) == SIGTERM)
			end_with(pid);
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
	}
}

static void pause_for(int64_t ms)
{
	for (int64_t until = now_ms() + ms, left; (left = until - now_ms()) > 0;)
		if (wait_signal(left) == SIGTERM)
			end_with(0);
}

static int guard(const char *log, char **argv)
{
	int failures = 0;
	int64_t delay = 0;
	for (;;) {
		int64_t begun = now_ms();
		int status = run(argv);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			return 0;
		if (now_ms() - begun >= LONG_LIFE_MS)
			failures = 0;
		failures++;
		delay = failures == 1 ? 0 : failures == 2 ? FIRST_DELAY_MS : delay * 2;
		open_log(log); /* if it cannot be opened the one there is goes on */
		say("the network service has ended (%s %d)", WIFSIGNALED(status) ? "signal" : "status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		if (failures >= FAILURES_MAX)
			break;
		pause_for(delay);
	}
	say("the network service failed %d times in a row: it is not started again", failures);
	close(LISTENER_FD);
	return 1;
}

int main(int argc, char **argv)
{
	if (argc < 4 || strcmp(argv[2], "--") != 0 || argv[1][0] != '/' || argv[3][0] != '/') {
		fprintf(stderr, "usage: netguard LOG -- PROGRAM [ARG...] (absolute paths)\n");
		return 125;
	}
	if (check_descriptors() < 0)
		return refuse("use", "descriptors 3 (a listening socket), 4 and 5");
	if (open_log(argv[1]) < 0)
		return refuse("open", argv[1]);
	pid_t pid = fork();
	if (pid != 0)
		return pid < 0 ? 125 : 0;
	if (!detach()) {
		say("cannot go into the background: %s", strerror(errno));
		return 125;
	}
	return guard(argv[1], argv + 3);
}
