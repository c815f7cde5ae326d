/* Fuzz target: the file that tells a log about itself. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "../log_setup.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct log_setup setup = {0};
	const char *strings[6];
	char *copy = malloc(size ? size : 1);
	size_t i, sum = 0;

	if (!copy)
		return 0;
	memcpy(copy, data, size);
	if (log_setup_parse(&setup, copy, size)) {
		memcpy(strings,
		       (const char *[]){setup.driver, setup.path, setup.format, setup.host, setup.tag, setup.packer},
		       sizeof strings);
		for (i = 0; i < 6; i++)
			sum += strings[i] ? strlen(strings[i]) : 0;
		for (i = 0; i < setup.attrs.length; i++)
			sum += (unsigned char)setup.attrs.data[i];
		if (setup.address.length > size || sum == SIZE_MAX)
			abort();
	}
	free(copy);
	return 0;
}
