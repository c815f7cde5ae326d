/* journald: entries in the journal's native protocol, with Docker's fields.
 *
 * Fields that are the same for all entries come ready from drivers/log/journald.py.  An entry that is too big
 * for a datagram goes as a sealed file in memory, whose descriptor is sent instead.
 */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define JOURNAL_AROUND 512 /* what an entry has beside its text and the ready fields */

static void journal_message(struct text *text, const char *data, size_t length)
{
	char size[8];
	unsigned i;

	for (i = 0; i < sizeof size; i++)
		size[i] = (char)((uint64_t)length >> (8 * i));
	text_add(text, "MESSAGE\n");
	text_bytes(text, size, sizeof size);
	text_bytes(text, data, length);
	text_add(text, "\n");
}

static void journal_part(struct log *log, struct text *text, const struct log_entry *entry)
{
	if (!entry->part)
		return;
	text_add(text, "CONTAINER_PARTIAL_ID=");
	text_number(text, log->opened); /* no two monitors of a container begin in the same second */
	text_add(text, "-");
	text_number(text, (int64_t)entry->id);
	text_add(text, "\nCONTAINER_PARTIAL_ORDINAL=");
	text_number(text, entry->part);
	text_add(text, entry->more ? "\nCONTAINER_PARTIAL_LAST=false\nCONTAINER_PARTIAL_MESSAGE=true\n"
				   : "\nCONTAINER_PARTIAL_LAST=true\n");
}

static void journal_record(struct log *log, struct text *text, const struct log_entry *entry)
{
	size_t length = entry->length;

	if (length && entry->data[length - 1] == '\n')
		length--;
	text_add(text, entry->stream ? "PRIORITY=3\n" : "PRIORITY=6\n");
	text_add(text, "SYSLOG_TIMESTAMP=");
	text_add(text, log->now);
	text_add(text, "\n");
	text_bytes(text, log->setup.attrs.data, log->setup.attrs.length);
	journal_part(log, text, entry);
	journal_message(text, entry->data, length);
}

static bool journal_put(struct log *log, const struct log_entry *entry)
{
	return log_socket_put(log, entry, journal_record);
}

/* Sends DATA as a file; 0 or an errno. */
int log_journal_send_file(int socket, const char *data, size_t length)
{
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {{0}};
	struct msghdr header = {.msg_control = control.buffer, .msg_controllen = sizeof control.buffer};
	struct cmsghdr *message = CMSG_FIRSTHDR(&header);
	int fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING), error = 0;
	ssize_t count;

	if (fd < 0)
		return EMSGSIZE;
	while (!error && length > 0) {
		count = write(fd, data, length);
		error = count < 0 ? EMSGSIZE : 0;
		data += count > 0 ? count : 0;
		length -= count > 0 ? (size_t)count : 0;
	}
	if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		error = EMSGSIZE;
	message->cmsg_level = SOL_SOCKET;
	message->cmsg_type = SCM_RIGHTS;
	message->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(message), &fd, sizeof fd);
	if (!error && sendmsg(socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		error = errno;
	close(fd);
	return error;
}

static int journal_open(struct log *log)
{
	log->socket.largest = LOG_LINE + JOURNAL_AROUND + log->setup.attrs.length;
	return log_socket_open(log);
}

const struct log_driver log_journal_driver = {"journald", journal_open, journal_put, log_socket_flush};
