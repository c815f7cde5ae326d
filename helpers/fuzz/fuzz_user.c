/* The passwd and group parsers on an image's hostile files. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../launch.h"
#include "../launch_user.c"

int fail_text(struct player *p, int error, const char *format, ...)
{
	(void)p;
	(void)error;
	(void)format;
	return -1;
}

int open_in_root(struct player *p, const char *path, int flags)
{
	(void)p;
	(void)path;
	(void)flags;
	return -1;
}

const char *list_next(const char **cursor, uint32_t *size)
{
	(void)size;
	return *cursor;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct passwd_line line;
	gid_t groups[16];
	long gid;
	char *copy = malloc(size ? size : 1);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	size_t name_size = size ? (size_t)data[0] % (size < 32 ? size : 32) : 0;
	struct span name = {copy, name_size}, file = {copy + name_size, size - name_size};
	if (find_passwd(file, name, -1, &line) && line.uid < 0)
		abort();
	if (find_passwd(file, name, 0, &line) && line.uid != 0)
		abort();
	if (find_group(file, name, -1, &gid) && gid < 0)
		abort();
	if (groups_of(file, name, groups, 16) > 16)
		abort();
	if (parse_id(name) > 2147483647L)
		abort();
	free(copy);
	return 0;
}
