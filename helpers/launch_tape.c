/* The tape as hostile input: everything is checked here, before the first operation runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "launch.h"
#include "tape.h"

#define X(number, word, args) {number, #word, args, op_##word},
static const struct op_info ops[] = {TAPE_OPS(X)};
#undef X

struct header {
	char magic[8];
	uint32_t version, size, count;
	uint32_t zero[3];
};

const struct op_info *op_lookup(uint32_t code)
{
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (ops[i].code == code)
			return &ops[i];
	return NULL;
}

static uint32_t word(const char *at)
{
	uint32_t value;
	memcpy(&value, at, sizeof(value));
	return value;
}

static uint64_t padded(uint64_t size)
{
	return (size + 7) & ~(uint64_t)7;
}

/* Take one string or byte block at *AT; 0 or -1. */
static int take_text(const char *tape, uint64_t *at, uint64_t end, bool string, struct text *out)
{
	if (end - *at < 4)
		return -1;
	uint64_t size = word(tape + *at);
	uint64_t whole = padded(4 + size + (string ? 1 : 0));
	if (size > TAPE_MAX || whole > end - *at)
		return -1;
	out->data = tape + *at + 4;
	out->size = (uint32_t)size;
	if (string && (memchr(out->data, '\0', size) != NULL || out->data[size] != '\0'))
		return -1;
	*at += whole;
	return 0;
}

static int take_list(const char *tape, uint64_t *at, uint64_t end, struct list *out)
{
	struct text item;
	if (end - *at < 8)
		return -1;
	out->count = word(tape + *at);
	*at += 8;
	out->cursor = tape + *at;
	for (uint32_t i = 0; i < out->count; i++)
		if (take_text(tape, at, end, true, &item) < 0)
			return -1;
	return 0;
}

static int take_args(const char *tape, uint64_t at, uint64_t end, struct op *op)
{
	int n = 0;
	for (const char *kind = op->info->signature; *kind; kind++, n++) {
		int bad = 0;
		if (*kind == 'i') {
			bad = end - at < 8 ? -1 : 0;
			if (!bad)
				memcpy(&op->a[n].i, tape + at, 8);
			at += 8;
		} else if (*kind == 'S') {
			bad = take_list(tape, &at, end, &op->a[n].l);
		} else {
			bad = take_text(tape, &at, end, *kind == 's', &op->a[n].s);
		}
		if (bad)
			return -1;
	}
	return at == end ? 0 : -1;
}

/* Decode the operation at *OFFSET and step over it: 1, 0 at the end, -1 if the tape is malformed. */
int tape_next(const struct player *p, size_t *offset, struct op *op)
{
	if (*offset == p->size)
		return 0;
	if (p->size - *offset < 8)
		return -1;
	uint32_t head = word(p->tape + *offset);
	uint64_t size = word(p->tape + *offset + 4);
	op->code = head & 0xffff;
	op->info = op_lookup(op->code);
	if (head >> 16 || size < 8 || size % 8 || size > p->size - *offset || !op->info)
		return -1;
	if (take_args(p->tape, *offset + 8, *offset + size, op) < 0)
		return -1;
	*offset += size;
	return 1;
}

/* Check the header and every operation; 0, or -1 with errno EBADMSG. */
int tape_check(struct player *p)
{
	struct header h;
	struct op op;
	size_t offset = sizeof(h);
	uint32_t count = 0;
	int more;
	errno = EBADMSG;
	if (p->size < sizeof(h) || p->size > TAPE_MAX)
		return -1;
	memcpy(&h, p->tape, sizeof(h));
	if (memcmp(h.magic, "RLTAPE\r\n", 8) != 0 || h.version != TAPE_VERSION || h.size != p->size ||
	    h.count > TAPE_MAX_OPS || h.zero[0] || h.zero[1] || h.zero[2])
		return -1;
	while ((more = tape_next(p, &offset, &op)) > 0)
		count++;
	errno = EBADMSG;
	if (more < 0 || count != h.count)
		return -1;
	p->count = count;
	return 0;
}

/* The next string of a checked list. */
const char *list_next(const char **cursor, uint32_t *size)
{
	uint32_t length = word(*cursor);
	const char *data = *cursor + 4;
	*cursor += padded((uint64_t)length + 5);
	if (size)
		*size = length;
	return data;
}
