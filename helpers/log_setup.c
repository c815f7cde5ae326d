/* What a log is told about itself: a file of pairs, each a length (four bytes, little endian) and "KEY=VALUE"
 * with a zero byte at the end, which counts.  A value may hold zero bytes.  The file is mapped and stays so.
 */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETUP_MAX (16 << 20)

enum setup_kind { SETUP_STRING, SETUP_NUMBER, SETUP_BYTES };

static const struct setup_option {
	const char *name;
	enum setup_kind kind;
	size_t offset;
} setup_options[] = {
    {"driver", SETUP_STRING, offsetof(struct log_setup, driver)},
    {"path", SETUP_STRING, offsetof(struct log_setup, path)},
    {"max-size", SETUP_NUMBER, offsetof(struct log_setup, max_size)},
    {"max-file", SETUP_NUMBER, offsetof(struct log_setup, max_file)},
    {"buffer", SETUP_NUMBER, offsetof(struct log_setup, buffer)},
    {"attrs", SETUP_BYTES, offsetof(struct log_setup, attrs)},
    {"address", SETUP_BYTES, offsetof(struct log_setup, address)},
    {"type", SETUP_NUMBER, offsetof(struct log_setup, type)},
    {"format", SETUP_STRING, offsetof(struct log_setup, format)},
    {"host", SETUP_STRING, offsetof(struct log_setup, host)},
    {"tag", SETUP_STRING, offsetof(struct log_setup, tag)},
    {"facility", SETUP_NUMBER, offsetof(struct log_setup, facility)},
    {"zone", SETUP_NUMBER, offsetof(struct log_setup, zone)},
    {"packer", SETUP_STRING, offsetof(struct log_setup, packer)},
    {"packer-program", SETUP_STRING, offsetof(struct log_setup, packer_program)},
};

static bool setup_number(const char *text, int64_t *number)
{
	bool negative = *text == '-';
	const char *at = text + negative;
	int64_t value = 0;

	for (; *at >= '0' && *at <= '9' && value < INT64_MAX / 10 - 1; at++)
		value = value * 10 + (*at - '0');
	*number = negative ? -value : value;
	return !*at && at > text + negative;
}

static bool setup_set(struct log_setup *setup, const struct setup_option *option, const char *value, size_t length)
{
	void *field = (char *)setup + option->offset;
	struct span bytes = {value, length};

	if (option->kind == SETUP_NUMBER)
		return strlen(value) == length && setup_number(value, field);
	if (option->kind == SETUP_STRING)
		*(const char **)field = value;
	else
		*(struct span *)field = bytes;
	return option->kind == SETUP_BYTES || strlen(value) == length;
}

/* Takes one pair of LENGTH bytes, the last of which is zero. */
static bool setup_take(struct log_setup *setup, const char *pair, size_t length)
{
	const char *equals = memchr(pair, '=', length);
	size_t i, name;

	if (!equals)
		return false;
	name = (size_t)(equals - pair);
	for (i = 0; i < sizeof setup_options / sizeof *setup_options; i++)
		if (strlen(setup_options[i].name) == name && !memcmp(setup_options[i].name, pair, name))
			return setup_set(setup, &setup_options[i], equals + 1, length - name - 2);
	return false;
}

/* Reads DATA into SETUP, which goes on pointing there; false if it is malformed. */
bool log_setup_parse(struct log_setup *setup, const char *data, size_t length)
{
	const unsigned char *bytes;
	size_t size, at = 0;

	while (at < length) {
		bytes = (const unsigned char *)data + at;
		if (length - at < 4)
			return false;
		size = bytes[0] | (size_t)bytes[1] << 8 | (size_t)bytes[2] << 16 | (size_t)bytes[3] << 24;
		at += 4;
		if (!size || size > length - at || data[at + size - 1] || !setup_take(setup, data + at, size))
			return false;
		at += size;
	}
	return true;
}

/* Reads the file at PATH; 0 or an errno. */
int log_setup_read(struct log_setup *setup, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), error = 0;
	struct stat status;
	char *data = NULL;

	if (fd < 0)
		return errno;
	if (fstat(fd, &status) < 0)
		error = errno;
	else if (status.st_size <= 0 || status.st_size > SETUP_MAX)
		error = EINVAL;
	if (!error && (data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
		error = errno;
	close(fd);
	if (!error && !log_setup_parse(setup, data, (size_t)status.st_size))
		error = EINVAL;
	return error;
}
