/* What the process that connects reads of a container and of the engine: addresses, calls, fdinfo, rules. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../launch_connect_rules.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A lock ends in two returns, and every jump lands on one of its instructions. */
static void check_lock(const struct connect_target *target)
{
	struct sock_filter code[CONNECT_LOCK_MAX];
	size_t n = connect_lock(target, code);
	if (n > CONNECT_LOCK_MAX || code[n - 1].k != 0 || code[n - 2].k != 0xffffffffu)
		abort();
	for (size_t i = 0; i < n; i++)
		if (BPF_CLASS(code[i].code) == BPF_JMP && (code[i].jt != 0 || i + 1 + code[i].jf != n - 1))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct connect_target target;
	struct connect_watch watch;
	unsigned int flags;
	unsigned char *exact = malloc(size ? size : 1);
	char *text = malloc(size + 1);
	struct connect_rule *rules = malloc(size ? size : 1);
	if (!exact || !text || !rules)
		abort();
	memcpy(exact, data, size);
	memcpy(text, data, size);
	memcpy(rules, data, size);
	text[size] = '\0';
	int kind = connect_call((const char *)exact, size, 0xC000003E, 42);
	if (kind < -1 || kind > CONNECT_SOCKETCALL)
		abort();
	if (connect_target(exact, size, &target)) {
		check_lock(&target);
		if (connect_rules_check(rules, size))
			connect_way(rules, size / sizeof(*rules), &target);
	}
	if (size > 28 && connect_target(exact, 28, &target) && connect_rules_check(rules, size / 24 * 24))
		connect_way(rules, size / 24, &target);
	connect_watch(text, 5, 77, &watch);
	connect_flags(text, &flags);
	free(exact);
	free(text);
	free(rules);
	return 0;
}
