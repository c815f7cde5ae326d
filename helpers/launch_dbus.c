/* D-Bus messages that come in: only what a caller of one method has to know of them.
 *
 * They are hostile input as any other.  Everything is read through a cursor that never leaves the message, and
 * strings that do not fit are cut: they are shown to people, or compared with shorter ones.
 */
#include <string.h>

#include "launch_cgroup.h"

#define MESSAGE_MAX (1U << 20)

struct cursor {
	const unsigned char *data;
	size_t at, end;
	bool big, bad;
};

static void align(struct cursor *c, size_t to)
{
	size_t next = (c->at + to - 1) & ~(to - 1);
	if (next > c->end)
		c->bad = true;
	else
		c->at = next;
}

static unsigned take_byte(struct cursor *c)
{
	if (c->bad || c->at >= c->end) {
		c->bad = true;
		return 0;
	}
	return c->data[c->at++];
}

static uint32_t take_u32(struct cursor *c)
{
	uint32_t value = 0;
	align(c, 4);
	for (unsigned i = 0; i < 4; i++)
		value |= (uint32_t)take_byte(c) << (c->big ? 24 - 8 * i : 8 * i);
	return c->bad ? 0 : value;
}

/* A string of LENGTH and its NUL, cut to SIZE; OUT may be NULL. */
static void take_bytes(struct cursor *c, size_t length, char *out, size_t size)
{
	if (c->bad || length >= c->end - c->at || c->data[c->at + length] != 0) {
		c->bad = true;
		return;
	}
	if (out) {
		size_t kept = length < size ? length : size - 1;
		memcpy(out, c->data + c->at, kept);
		out[kept] = '\0';
	}
	c->at += length + 1;
}

static void take_string(struct cursor *c, char *out, size_t size)
{
	uint32_t length = take_u32(c);
	take_bytes(c, length, out, size);
}

/* One header field: a byte that says which, and a variant of a plain type. */
static void take_field(struct cursor *c, struct bus_message *m, char *signature)
{
	char type[8] = "", text[256] = "";
	align(c, 8);
	unsigned code = take_byte(c);
	take_bytes(c, take_byte(c), type, sizeof(type));
	if (type[0] == 'u' && !type[1]) {
		uint32_t value = take_u32(c);
		if (code == 5)
			m->reply = value;
	} else if ((type[0] == 's' || type[0] == 'o') && !type[1]) {
		take_string(c, text, sizeof(text));
		if (code == 3)
			memcpy(m->member, text, sizeof(m->member) - 1);
		if (code == 4)
			memcpy(m->name, text, sizeof(m->name) - 1);
	} else if (type[0] == 'g' && !type[1]) {
		take_bytes(c, take_byte(c), text, sizeof(text));
		if (code == 8)
			memcpy(signature, text, 15);
	} else {
		c->bad = true;
	}
}

static void take_body(struct cursor *c, struct bus_message *m, const char *signature)
{
	if (signature[0] == 's' || signature[0] == 'o')
		take_string(c, m->text, sizeof(m->text));
	if (m->type != 4 || strcmp(m->member, "JobRemoved") != 0 || strcmp(signature, "uoss") != 0)
		return;
	take_u32(c);
	take_string(c, NULL, 0);
	take_string(c, m->unit, sizeof(m->unit));
	take_string(c, m->end, sizeof(m->end));
}

/* Take the message at DATA apart; its whole length, 0 if there is more to come, -1 if it is none. */
long bus_parse(const unsigned char *data, size_t size, struct bus_message *out)
{
	struct cursor c = {data, 0, size, size > 0 && data[0] == 'B', false};
	char signature[16] = "";
	memset(out, 0, sizeof(*out));
	if (size > 0 && data[0] != 'l' && data[0] != 'B')
		return -1;
	if (size < 16)
		return 0;
	out->type = data[1];
	c.at = 4;
	uint64_t body = take_u32(&c);
	take_u32(&c);
	uint64_t fields = take_u32(&c), head = (16 + fields + 7) & ~(uint64_t)7;
	if (fields > MESSAGE_MAX || body > MESSAGE_MAX)
		return -1;
	if (head + body > size)
		return 0;
	c.end = 16 + (size_t)fields;
	while (!c.bad && c.at < c.end)
		take_field(&c, out, signature);
	if (c.bad)
		return -1;
	struct cursor b = {data + head, 0, (size_t)body, c.big, false};
	take_body(&b, out, signature);
	return b.bad ? -1 : (long)(head + body);
}
