/* The tape parser on hostile bytes: it must refuse or accept, and every accepted operation must be readable. */
#include <stdlib.h>
#include <string.h>

#include "../launch.h"
#include "../tape.h"

#define X(number, word, args)                                                                                          \
	int op_##word(struct player *p, const struct op *op)                                                           \
	{                                                                                                              \
		(void)p;                                                                                               \
		(void)op;                                                                                              \
		return 0;                                                                                              \
	}
TAPE_OPS(X)
#undef X
#include "../launch_tape.c"

static volatile unsigned long sink;

static void read_all(const struct op *op)
{
	for (int n = 0; op->info->signature[n]; n++) {
		if (op->info->signature[n] == 's')
			sink += strlen(op->a[n].s.data);
		if (op->info->signature[n] == 'b')
			for (uint32_t i = 0; i < op->a[n].s.size; i++)
				sink += (unsigned char)op->a[n].s.data[i];
		if (op->info->signature[n] == 'S') {
			const char *cursor = op->a[n].l.cursor;
			for (uint32_t i = 0; i < op->a[n].l.count; i++)
				sink += strlen(list_next(&cursor, NULL));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct player p = {.size = size};
	struct op op = {0};
	size_t offset = 32;
	p.tape = malloc(size ? size : 1);
	if (!p.tape)
		return 0;
	memcpy(p.tape, data, size);
	if (tape_check(&p) == 0)
		while (tape_next(&p, &offset, &op) > 0)
			read_all(&op);
	free(p.tape);
	return 0;
}
