/* What journald and syslog share: a queue of records and a socket that never blocks.
 *
 * A record is a length and that many bytes, in one piece: what does not fit at the end of the memory begins
 * at its start.  An empty queue begins at the start, too, so that memory is touched only where it is needed.  A
 * datagram socket takes a record or none; of a stream, the part that it has taken is remembered, and a new
 * connection gets the whole record.  While there is no connection a new one is tried every second.
 */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MS 1000
#define HEADER sizeof(uint32_t)
#define END 0xffffffffU /* the next record is at the start */

static bool is_empty(const struct log_socket *s)
{
	return s->head == s->tail && !s->wrapped;
}

bool log_socket_connected(const struct log *log)
{
	return log->driver == &log_file_driver || (log->fd >= 0 && !log->socket.connecting);
}

/* Takes memory for the queue and begins to connect; a record is LARGEST bytes at most. */
int log_socket_open(struct log *log)
{
	int64_t wanted = log->setup.buffer ? log->setup.buffer : LOG_QUEUE;

	if (wanted > LOG_QUEUE_MAX)
		wanted = LOG_QUEUE_MAX;
	if (wanted < (int64_t)(2 * log->socket.largest + 4 * HEADER))
		wanted = (int64_t)(2 * log->socket.largest + 4 * HEADER);
	log->memory_size = (size_t)wanted;
	log->memory =
	    mmap(NULL, log->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (log->memory == MAP_FAILED) {
		log->driver = NULL;
		return errno;
	}
	log_socket_flush(log);
	return 0;
}

static void put_length(struct log *log, size_t at, uint32_t length)
{
	memcpy(log->memory + at, &length, HEADER);
}

static uint32_t get_length(const struct log *log, size_t at)
{
	uint32_t length;

	memcpy(&length, log->memory + at, HEADER);
	return length;
}

/* Bytes free in one piece at the tail, of which a header is kept for the mark of the end. */
static size_t room_at_tail(const struct log *log)
{
	const struct log_socket *s = &log->socket;
	size_t end = s->wrapped ? s->head : log->memory_size;

	return end - s->tail >= 2 * HEADER ? end - s->tail - 2 * HEADER : 0;
}

/* Begins a record in TEXT; false if there is no room for one. */
static bool begin_record(struct log *log, struct text *text)
{
	struct log_socket *s = &log->socket;

	if (room_at_tail(log) < s->largest) {
		if (s->wrapped || s->head < s->largest + 2 * HEADER)
			return false;
		put_length(log, s->tail, END);
		s->tail = 0;
		s->wrapped = true;
	}
	text_init(text, log->memory + s->tail + HEADER, s->largest);
	return true;
}

static void end_record(struct log *log, const struct text *text)
{
	size_t start = log->socket.tail + HEADER;
	size_t length = (size_t)(text->at - (log->memory + start));

	put_length(log, log->socket.tail, (uint32_t)length);
	log->socket.tail = start + length;
}

static bool put_one(struct log *log, const struct log_entry *entry, log_format *format)
{
	struct text text;

	if (!begin_record(log, &text))
		return false;
	format(log, &text, entry);
	end_record(log, &text);
	return true;
}

/* Queues an entry, and before it the report of those that were lost; false if there is no room. */
bool log_socket_put(struct log *log, const struct log_entry *entry, log_format *format)
{
	char line[LOG_LOST];
	struct log_entry report = {.stream = 1, .data = line};

	if (log->lost && log_socket_connected(log)) {
		report.length = log_lost_text(log, line);
		if (!put_one(log, &report, format))
			return false;
		log->lost = 0;
	}
	return put_one(log, entry, format);
}

static void next_record(struct log *log)
{
	struct log_socket *s = &log->socket;

	s->head += HEADER + get_length(log, s->head);
	s->sent = 0;
	if (s->head == s->tail && !s->wrapped)
		s->head = s->tail = 0;
}

static void skip_end(struct log *log)
{
	struct log_socket *s = &log->socket;

	if (s->wrapped && get_length(log, s->head) == END) {
		s->head = 0;
		s->wrapped = false;
		if (s->head == s->tail)
			s->tail = 0;
	}
}

static void disconnect(struct log *log, int error)
{
	if (log->fd >= 0)
		close(log->fd);
	log->fd = -1;
	log->lost_errno = error;
	log->socket.connecting = false;
	log->socket.sent = 0;
	log->socket.retry_at = log_milliseconds() + RETRY_MS;
}

/* The address, in memory that is aligned for it; its length, or 0 if it is none. */
static socklen_t copy_address(const struct log *log, struct sockaddr_storage *address)
{
	const struct span *given = &log->setup.address;

	if (given->length < sizeof address->ss_family || given->length > sizeof *address)
		return 0;
	memset(address, 0, sizeof *address);
	memcpy(address, given->data, given->length);
	return (socklen_t)given->length;
}

static void connect_now(struct log *log)
{
	struct sockaddr_storage address;
	socklen_t length = copy_address(log, &address);
	int on = 1, error = length ? 0 : EINVAL;

	if (!error) {
		log->fd = socket(address.ss_family, (int)log->setup.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		error = log->fd < 0 ? errno : 0;
	}
	if (!error)
		setsockopt(log->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	if (!error && connect(log->fd, (const struct sockaddr *)&address, length) < 0) {
		log->socket.connecting = errno == EINPROGRESS;
		error = errno == EINPROGRESS ? 0 : errno;
	}
	if (error)
		disconnect(log, error);
}

/* Whether datagrams go to a peer whose absence is only heard of, as of UDP. */
static bool is_loose(const struct log *log)
{
	struct sockaddr_storage address;

	return log->setup.type == SOCK_DGRAM && copy_address(log, &address) && address.ss_family != AF_UNIX;
}

/* Sends one record or a part of it; 0 or an errno. */
static int send_record(struct log *log)
{
	const char *data = log->memory + log->socket.head + HEADER;
	size_t length = get_length(log, log->socket.head);
	ssize_t count = send(log->fd, data + log->socket.sent, length - log->socket.sent, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (count >= 0) {
		log->socket.sent += (size_t)count;
		return 0;
	}
	if ((errno == EMSGSIZE || errno == ENOBUFS) && log->driver == &log_journal_driver) {
		int error = log_journal_send_file(log->fd, data, length);

		if (!error)
			log->socket.sent = length;
		return error;
	}
	return errno;
}

/* What is done about an error of sending; whether to go on at once. */
static bool take_error(struct log *log, int error)
{
	if (error == EAGAIN || error == ENOBUFS || error == ENOMEM)
		return false; /* poll says when there is room again */
	if (error == EINTR)
		return true;
	if (error == EMSGSIZE || (error == ECONNREFUSED && is_loose(log))) {
		log->lost++; /* too big; or, of UDP, nobody took the last one */
		log->lost_errno = error;
		next_record(log);
		return true;
	}
	disconnect(log, error);
	return false;
}

/* Sends what the other side takes now, after a new connection if one is due. */
void log_socket_flush(struct log *log)
{
	struct log_socket *s = &log->socket;
	int error;

	if (log->fd < 0 && log_milliseconds() >= s->retry_at)
		connect_now(log);
	while (log->fd >= 0 && !s->connecting) {
		skip_end(log);
		if (is_empty(s))
			return;
		error = send_record(log);
		if (error && !take_error(log, error))
			return;
		if (!error && s->sent == get_length(log, s->head))
			next_record(log);
	}
}

/* What poll is to wait for on log->fd; 0: nothing. */
short log_socket_events(const struct log *log)
{
	if (!log->driver || log->driver == &log_file_driver || log->fd < 0)
		return 0;
	return (short)((log->setup.type == SOCK_STREAM ? POLLIN : 0) |
		       (log->socket.connecting || !is_empty(&log->socket) ? POLLOUT : 0));
}

/* Takes note of what poll saw: the end of the connection, or that it is there. */
void log_socket_ready(struct log *log, short events)
{
	char ignored[256];
	int error = 0;
	socklen_t size = sizeof error;
	ssize_t count;

	if (log->fd < 0)
		return;
	if (log->socket.connecting && events) {
		if (getsockopt(log->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error)
			disconnect(log, error);
		log->socket.connecting = false;
		return;
	}
	if (!(events & (POLLIN | POLLHUP | POLLERR)) || log->setup.type != SOCK_STREAM)
		return;
	count = recv(log->fd, ignored, sizeof ignored, MSG_DONTWAIT);
	if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
		disconnect(log, count ? errno : EPIPE);
}

/* When (of the monotonic clock, in milliseconds) the log has to be looked at though nothing happens; -1: never. */
int64_t log_socket_due(const struct log *log)
{
	if (!log->driver || log->driver == &log_file_driver || log->fd >= 0 || is_empty(&log->socket))
		return -1;
	return log->socket.retry_at;
}
