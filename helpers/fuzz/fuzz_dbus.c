/* What a bus, or who listens in its place, says to the launcher. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../launch_dbus.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A whole message is within what there is, and its strings end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bus_message m;
	unsigned char *exact = malloc(size ? size : 1);
	if (!exact)
		abort();
	memcpy(exact, data, size);
	for (size_t at = 0; at < size;) {
		long length = bus_parse(exact + at, size - at, &m);
		if (length > (long)(size - at))
			abort();
		if (strlen(m.name) >= sizeof(m.name) || strlen(m.member) >= sizeof(m.member) ||
		    strlen(m.text) >= sizeof(m.text) || strlen(m.unit) >= sizeof(m.unit) ||
		    strlen(m.end) >= sizeof(m.end))
			abort();
		if (length <= 0)
			break;
		at += (size_t)length;
	}
	free(exact);
	return 0;
}
