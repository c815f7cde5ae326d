/* The user a container's program runs as: passwd and group files of an image, which are hostile text. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "launch.h"
#include "launch_user.h"

#define MAX_FILE (8 << 20)
#define MAX_ID 2147483647L

static const struct span nothing = {NULL, 0};

static bool equals(struct span a, struct span b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static struct span span_of(const char *text)
{
	return (struct span){text, strlen(text)};
}

/* Cut the text before SEPARATOR (or all) off REST. */
static struct span cut(struct span *rest, char separator)
{
	const char *end = rest->size ? memchr(rest->data, separator, rest->size) : NULL;
	struct span part = {rest->data, end ? (size_t)(end - rest->data) : rest->size};
	size_t step = part.size + (end ? 1 : 0);
	rest->data = rest->size ? rest->data + step : rest->data;
	rest->size -= step;
	return part;
}

/* A decimal ID of 0 to 2^31-1; -1 where it is no number, -2 where it is too large. */
long parse_id(struct span text)
{
	long value = 0;
	if (text.size == 0)
		return -1;
	for (size_t i = 0; i < text.size; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return -1;
		if (value <= MAX_ID)
			value = value * 10 + (text.data[i] - '0');
	}
	return value > MAX_ID ? -2 : value;
}

/* Find a passwd line by name, or by number where ID is not negative. */
bool find_passwd(struct span file, struct span name, long id, struct passwd_line *out)
{
	while (file.size) {
		struct span line = cut(&file, '\n');
		struct span user = cut(&line, ':');
		cut(&line, ':');
		long uid = parse_id(cut(&line, ':')), gid = parse_id(cut(&line, ':'));
		cut(&line, ':');
		struct span home = cut(&line, ':');
		if (uid < 0 || gid < 0 || user.size == 0)
			continue;
		if (id >= 0 ? uid != id : !equals(user, name))
			continue;
		*out = (struct passwd_line){user, home, uid, gid};
		return true;
	}
	return false;
}

bool find_group(struct span file, struct span name, long id, long *gid)
{
	while (file.size) {
		struct span line = cut(&file, '\n');
		struct span group = cut(&line, ':');
		cut(&line, ':');
		long found = parse_id(cut(&line, ':'));
		if (found < 0 || group.size == 0)
			continue;
		if (id >= 0 ? found == id : equals(group, name)) {
			*gid = found;
			return true;
		}
	}
	return false;
}

/* Groups that list USER as a member; gives their number, at most MAX. */
int groups_of(struct span file, struct span user, gid_t *out, int max)
{
	int count = 0;
	while (file.size && count < max) {
		struct span line = cut(&file, '\n');
		cut(&line, ':');
		cut(&line, ':');
		long gid = parse_id(cut(&line, ':'));
		while (line.size) {
			struct span member = cut(&line, ',');
			if (gid >= 0 && equals(member, user)) {
				out[count++] = (gid_t)gid;
				break;
			}
		}
	}
	return count;
}

/* Map a file of the container; a missing one is empty. */
static struct span map_file(struct player *p, const char *path)
{
	struct stat st;
	cleanup_fd int fd = open_in_root(p, path, O_RDONLY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > MAX_FILE)
		return nothing;
	char *copy = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copy == MAP_FAILED)
		return nothing;
	ssize_t n = read(fd, copy, (size_t)st.st_size);
	return n > 0 ? (struct span){copy, (size_t)n} : nothing;
}

static int no_such(struct player *p, const char *kind, struct span name, const char *file)
{
	return fail_text(p, EINVAL, "unable to find %s %.*s: no matching entries in %s file", kind, (int)name.size,
			 name.data, file);
}

static int out_of_range(struct player *p)
{
	return fail_text(p, EINVAL, "uids and gids must be in range 0-2147483647");
}

static int resolve_group(struct player *p, struct span file, struct span name, gid_t *out)
{
	long id = parse_id(name), gid;
	if (id == -2)
		return out_of_range(p);
	if (find_group(file, name, -1, &gid)) {
		*out = (gid_t)gid;
		return 0;
	}
	if (id < 0)
		return no_such(p, "group", name, "group");
	*out = (gid_t)id;
	return 0;
}

static int add_groups(struct player *p, const struct list *extra, struct span groups)
{
	const char *cursor = extra->cursor;
	for (uint32_t i = 0; i < extra->count; i++) {
		gid_t gid;
		if (p->group_count == MAX_GROUPS)
			return fail_text(p, E2BIG, "cannot set groups: more than %d", MAX_GROUPS);
		if (resolve_group(p, groups, span_of(list_next(&cursor, NULL)), &gid) < 0)
			return -1;
		p->groups[p->group_count++] = gid;
	}
	return 0;
}

static int resolve_user(struct player *p, struct span name, struct span passwd, struct passwd_line *line)
{
	long id = name.size ? parse_id(name) : 0;
	if (id == -2)
		return out_of_range(p);
	if (name.size && find_passwd(passwd, name, -1, line))
		return 0;
	if (id < 0)
		return no_such(p, "user", name, "passwd");
	if (!find_passwd(passwd, nothing, id, line))
		*line = (struct passwd_line){nothing, span_of("/"), id, 0};
	return 0;
}

/* Docker's rules: a name or number, a group only where given, else the user's groups of the group file. */
int op_user(struct player *p, const struct op *op)
{
	struct span rest = {op->a[0].s.data, op->a[0].s.size};
	bool has_group = memchr(rest.data, ':', rest.size) != NULL;
	struct span name = cut(&rest, ':');
	struct span passwd = map_file(p, "/etc/passwd"), groups = map_file(p, "/etc/group");
	struct passwd_line line;
	if (resolve_user(p, name, passwd, &line) < 0)
		return -1;
	p->uid = (uid_t)line.uid;
	p->gid = (gid_t)line.gid;
	p->group_count = 0;
	if (has_group && rest.size) {
		if (resolve_group(p, groups, rest, &p->gid) < 0)
			return -1;
	} else if (line.name.size) {
		p->group_count = groups_of(groups, line.name, p->groups, MAX_GROUPS);
	}
	if (add_groups(p, &op->a[1].l, groups) < 0)
		return -1;
	p->keep_groups = op->a[2].i & 2;
	p->one_id = op->a[2].i & 4;
	p->home[0] = '\0';
	if ((op->a[2].i & 1) && line.home.size < sizeof(p->home) - 6)
		snprintf(p->home, sizeof(p->home), "HOME=%.*s", line.home.size ? (int)line.home.size : 1,
			 line.home.size ? line.home.data : "/");
	p->user_found = true;
	return 0;
}
