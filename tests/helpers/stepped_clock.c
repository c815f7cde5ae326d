/* A monitor whose CLOCK_REALTIME is off by the seconds in the file "clock" beside the program: what a step of the
 * machine's clock looks like to it.  Linked with -Wl,--wrap=clock_gettime. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	char path[4096], text[32] = "";
	ssize_t length = readlink("/proc/self/exe", path, sizeof path - 16);
	int result = __real_clock_gettime(clock, now), fd;

	if (clock != CLOCK_REALTIME || length <= 0)
		return result;
	path[length] = 0;
	strcpy(strrchr(path, '/') + 1, "clock");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof text - 1) > 0)
		now->tv_sec += atol(text);
	if (fd >= 0)
		close(fd);
	return result;
}
