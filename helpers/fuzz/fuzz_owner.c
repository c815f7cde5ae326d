/* What the supervisor of emulated ownership reads of a container: calls, texts, records. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../launch_owner_parse.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct owner_words words;
	uint64_t args[6] = {0};
	uint32_t uid, gid, caps[6] = {0};
	char *text = malloc(size + 1), *exact = malloc(size ? size : 1);
	if (!text || !exact)
		abort();
	memcpy(text, data, size);
	memcpy(exact, data, size);
	text[size] = '\0';
	memcpy(args, data, size < sizeof(args) ? size : sizeof(args));
	memcpy(caps, data, size < sizeof(caps) ? size : sizeof(caps));
	if (owner_call(exact, size, caps[0], caps[1]) > OWNER_capset)
		abort();
	for (int call = 0; call <= OWNER_capset; call++) {
		owner_words((enum owner_call)call, args, &words);
		if (call >= OWNER_chown16 && call <= OWNER_fchown16 && words.uid > 0xffff && words.uid != OWNER_NONE)
			abort();
	}
	if (owner_parse(exact, size, &uid, &gid) && (uid == OWNER_NONE || gid == OWNER_NONE))
		abort();
	if (owner_own_fd(text) < -1)
		abort();
	if (owner_is_kept(text) && size < 8)
		abort();
	owner_status(text, "Umask", 8, 0);
	if (owner_caps_fit(caps, true, 0) && (caps[0] | caps[1] | caps[3] | caps[4]))
		abort();
	free(text);
	free(exact);
	return 0;
}
