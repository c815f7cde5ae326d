/* Fuzz target: what an event says of its container comes from a file, as a mishap may have left it. */
#define _GNU_SOURCE
#include <stdlib.h>

#include "../log_text.c"
#include "../monitor_events.c"

/* Each line is within the file, without its newline. */
static void check(char kind)
{
	size_t at = 0, length = 0;
	const char *line;

	while ((line = event_line(kind, &at, &length))) {
		if (line <= lines || line + length >= lines + event_lines_length)
			abort();
		if (memchr(line, '\n', length) || line[length] != '\n')
			abort();
	}
	if (at != event_lines_length)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct monitor m = {.config = {.id = "\"id\\", .events = "/dev/null", .events_max_size = 4096}};

	if (size > sizeof lines)
		size = sizeof lines;
	memcpy(lines, data, size);
	event_lines_length = size;
	while (event_lines_length && lines[event_lines_length - 1] != '\n')
		event_lines_length--;
	check('A');
	check('U');
	check('D');
	m.rows = size > 1 ? data[0] : 0;
	m.exit_code = size > 2 ? data[1] : 0;
	m.config.exec_id = size & 1 ? "exec\n" : NULL;
	events_emit(&m, "health_status: \"", "");
	events_died(&m);
	events_resized(&m);
	events_signalled(&m, (int)(size & 63));
	events_emit_lines(&m, 'U');
	return 0;
}
