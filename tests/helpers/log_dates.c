/* Prints each number of seconds on stdin as the log writes it. */
#include <stdio.h>

#include "log.h"

int main(void)
{
	long long seconds;
	char line[64];

	while (scanf("%lld", &seconds) == 1) {
		struct text text;

		text_init(&text, line, sizeof line);
		text_time(&text, seconds, 5);
		*text.at = 0;
		puts(line);
	}
	return 0;
}
