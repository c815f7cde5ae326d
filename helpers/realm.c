/* realm: hold a user namespace and a network namespace by existing.
 *
 * The realm's tape ends with this program.  It keeps no descriptor, no terminal and no directory, ignores
 * what a terminal or a login session sends, and sleeps until it is told to end (TERM).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

int main(void)
{
	static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};
	for (unsigned int i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "rootless-realm", 0, 0, 0);
	for (int fd = 0; fd < 1024; fd++)
		close(fd);
	if (chdir("/") < 0)
		return 1;
	for (;;)
		pause();
}
