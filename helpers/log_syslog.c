/* syslog: one message per line of output, in the forms that Docker's driver knows.
 *
 *   ""            <PRI>Jan  2 15:04:05 tag[pid]: text
 *   rfc3164       <PRI>Jan  2 15:04:05 host tag[pid]: text
 *   rfc5424       <PRI>1 2006-01-02T15:04:05+01:00 host tag pid tag - text
 *   rfc5424micro  the same with six digits of the second
 *
 * Every message ends in a newline, which is what keeps them apart on a stream.
 */
#define _GNU_SOURCE
#include "log.h"

#include <string.h>
#include <unistd.h>

#define SYSLOG_AROUND 256 /* what a message has beside its text, the host and the tags */

enum { SEVERITY_ERROR = 3, SEVERITY_INFO = 6 };

static void put_newer(struct log *log, struct text *text, bool micro)
{
	text_add(text, "1 ");
	text_zoned_time(text, log->now_seconds, micro ? log->now_nanoseconds / 1000 : -1, log->setup.zone);
	text_add(text, " ");
	text_add(text, log->setup.host);
	text_add(text, " ");
	text_add(text, log->setup.tag);
	text_add(text, " ");
	text_number(text, getpid());
	text_add(text, " ");
	text_add(text, log->setup.tag);
	text_add(text, " - ");
}

static void put_older(struct log *log, struct text *text, bool host)
{
	text_stamp(text, log->now_seconds, log->setup.zone);
	text_add(text, " ");
	if (host) {
		text_add(text, log->setup.host);
		text_add(text, " ");
	}
	text_add(text, log->setup.tag);
	text_add(text, "[");
	text_number(text, getpid());
	text_add(text, "]: ");
}

static void syslog_record(struct log *log, struct text *text, const struct log_entry *entry)
{
	const char *format = log->setup.format;

	text_add(text, "<");
	text_number(text, log->setup.facility * 8 + (entry->stream ? SEVERITY_ERROR : SEVERITY_INFO));
	text_add(text, ">");
	if (!strcmp(format, "rfc5424") || !strcmp(format, "rfc5424micro"))
		put_newer(log, text, !strcmp(format, "rfc5424micro"));
	else
		put_older(log, text, !strcmp(format, "rfc3164"));
	text_bytes(text, entry->data, entry->length);
	if (!entry->length || entry->data[entry->length - 1] != '\n')
		text_add(text, "\n");
}

static bool syslog_put(struct log *log, const struct log_entry *entry)
{
	return log_socket_put(log, entry, syslog_record);
}

static int syslog_open(struct log *log)
{
	struct log_setup *setup = &log->setup;

	setup->format = setup->format ? setup->format : "";
	setup->host = setup->host ? setup->host : "-";
	setup->tag = setup->tag ? setup->tag : "-";
	log->socket.largest = LOG_LINE + SYSLOG_AROUND + strlen(setup->host) + 2 * strlen(setup->tag);
	return log_socket_open(log);
}

const struct log_driver log_syslog_driver = {"syslog", syslog_open, syslog_put, log_socket_flush};
