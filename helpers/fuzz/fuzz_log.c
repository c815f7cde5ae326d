/* Fuzz target: the log of what a container writes, checked against what went in. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "../log.c"
#include "../log_text.c"

/* Every flushed byte is ASCII control-free JSON or valid UTF-8 of ours: at least no raw control characters. */
static void check(const char *data, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++)
		if ((unsigned char)data[i] < 0x20 && data[i] != '\n')
			abort();
	if (length && data[length - 1] != '\n')
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct log log;
	size_t at = 0, piece;
	unsigned which;

	memset(&log, 0, sizeof log);
	log.path = "/dev/null";
	log.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	for (; at < size; at += piece) {
		which = data[at] & 1;
		piece = (data[at] >> 1) * 300u + 1;
		if (piece > size - at)
			piece = size - at;
		log_add(&log, which, (const char *)data + at, piece);
		if (log.used > sizeof log.buffer || log.line[which].length >= LOG_LINE)
			abort();
		check(log.buffer, log.used);
		if (data[at] & 4)
			log_flush(&log);
	}
	log_end_line(&log, 0);
	log_end_line(&log, 1);
	check(log.buffer, log.used);
	log_flush(&log);
	close(log.fd);
	return 0;
}
