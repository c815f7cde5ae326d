/* Fuzz target: the log of what a container writes, by every driver, checked against what went in.
 *
 * The first byte chooses the driver, its format and whether it may block; then come pieces of output, each
 * with a byte that says of which stream and how long it is.  The other side of a socket reads now and then.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/un.h>

#include "../log.c"
#include "../log_file.c"
#include "../log_journal.c"
#include "../log_pack.c"
#include "../log_setup.c"
#include "../log_socket.c"
#include "../log_syslog.c"
#include "../log_text.c"

#define ATTRIBUTES "\"attrs\":{\"tag\":\"x\"},"
#define FIELDS "CONTAINER_NAME=x\n"

static void check(bool right)
{
	if (!right)
		abort();
}

/* Flushed bytes are whole lines of printable characters or of ours: no raw control characters. */
static void check_objects(const char *data, size_t length)
{
	size_t i;

	for (i = 0; i < length; i++)
		check((unsigned char)data[i] >= 0x20 || data[i] == '\n');
	check(!length || data[length - 1] == '\n');
}

/* A datagram is fields of which the last is MESSAGE; the sizes add up. */
static void check_fields(const char *data, size_t length)
{
	const char *message = memmem(data, length, "\nMESSAGE\n", 9);
	uint64_t size = 0;
	unsigned i;

	check(message != NULL && !memcmp(data, "PRIORITY=", 9));
	for (i = 0; i < 8; i++)
		size |= (uint64_t)(unsigned char)message[9 + i] << (8 * i);
	check(message + 17 + size + 1 == data + length && data[length - 1] == '\n');
}

static void check_message(const char *data, size_t length)
{
	check(length > 20 && data[0] == '<' && data[length - 1] == '\n');
	check(!memchr(data, '\n', length - 1));
}

/* Everything that has arrived at the other side of a socket. */
static void receive(const struct log *log, int listener)
{
	static char data[1 << 17];
	ssize_t count;

	while ((count = recv(listener, data, sizeof data, MSG_DONTWAIT)) > 0)
		if (log->driver == &log_journal_driver)
			check_fields(data, (size_t)count);
		else
			check_message(data, (size_t)count);
}

static int listen_at(struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t length = sizeof *address;

	address->sun_family = AF_UNIX;
	check(fd >= 0 && bind(fd, (struct sockaddr *)address, sizeof(sa_family_t)) == 0); /* a name of its own */
	check(getsockname(fd, (struct sockaddr *)address, &length) == 0);
	return fd;
}

static void look(struct log *log, int listener, uint8_t what)
{
	unsigned i;

	for (i = 0; i < 2; i++)
		check(log->line[i].length <= LOG_LINE);
	if (log->driver == &log_file_driver) {
		check(log->file.used <= log->memory_size);
		check_objects(log->memory, log->file.used);
	}
	if (what & 4)
		log_flush(log);
	if (what & 8)
		receive(log, listener);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"json-file", "journald", "syslog", "syslog"};
	static const char *const formats[] = {"", "rfc3164", "rfc5424", "rfc5424micro"};
	static struct log log;
	struct sockaddr_un address = {0};
	int listener = listen_at(&address), turn;
	uint8_t kind = size ? data[0] : 0;
	struct log_setup setup = {.driver = names[kind & 3],
				  .path = "/dev/null",
				  .buffer = kind & 16 ? 1 : 0,
				  .attrs = {kind & 32 ? ATTRIBUTES : NULL, kind & 32 ? sizeof ATTRIBUTES - 1 : 0},
				  .address = {(const char *)&address, sizeof(sa_family_t) + 6},
				  .type = SOCK_DGRAM,
				  .format = formats[kind >> 2 & 3],
				  .host = "host",
				  .tag = "tag"};
	size_t at = 1, piece, taken;
	size_t memory;

	if (kind % 4 == 1)
		setup.attrs = (struct span){FIELDS, sizeof FIELDS - 1};
	memset(&log, 0, sizeof log);
	check(log_open(&log, &setup) == 0);
	memory = log.memory_size + (log.driver == &log_file_driver ? 2 * (FILE_AROUND + setup.attrs.length) : 0);
	for (; at < size; at += piece) {
		piece = (data[at] >> 1) * 300u + 1;
		if (piece > size - at)
			piece = size - at;
		for (taken = 0, turn = 0; taken < piece; turn++) {
			taken += log_add(&log, data[at] & 1, (const char *)data + at + taken, piece - taken);
			check(taken == piece || !setup.buffer);
			if (turn > 1000)
				log_give_up(&log);
			look(&log, listener, taken < piece ? 12 : data[at]);
		}
	}
	log_end_line(&log, 0);
	log_end_line(&log, 1);
	look(&log, listener, 0);
	log_give_up(&log);
	receive(&log, listener);
	munmap(log.memory, memory);
	if (log.fd >= 0)
		close(log.fd);
	close(listener);
	return 0;
}
