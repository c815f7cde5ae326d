/* The clients: their connections, what they ask and what they are owed.
 *
 * Every message is one SEQPACKET datagram whose first byte is its type.  The table of messages is in
 * runtime/monitor.py.  A client is never sent more than one message ahead of what it takes: what it is owed
 * is a set of bits, and the bytes come from the monitor's state at the time of sending.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "monitor.h"

#define TURN 16 /* messages taken from one client before the others have theirs */

static void put32(unsigned char *to, uint32_t value)
{
	to[0] = (unsigned char)value;
	to[1] = (unsigned char)(value >> 8);
	to[2] = (unsigned char)(value >> 16);
	to[3] = (unsigned char)(value >> 24);
}

/* Binds by name inside the directory: a whole path may be longer than a socket address holds. */
static int bind_in_directory(int fd, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *slash = strrchr(path, '/');
	char directory[4096];
	size_t length = slash ? (size_t)(slash - path) : 0;
	int error = 0;

	if (!slash || length >= sizeof directory || strlen(slash + 1) >= sizeof address.sun_path)
		return ENAMETOOLONG;
	memcpy(directory, path, length);
	directory[length] = 0;
	strcpy(address.sun_path, slash + 1);
	if (chdir(directory) < 0)
		return errno;
	unlink(address.sun_path); /* left by a monitor that was killed: the lock says that it is gone */
	if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		error = errno;
	if (chdir("/") < 0 && !error)
		error = errno;
	return error;
}

static int listen_at(const char *path, int *listener)
{
	int error, fd;

	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return errno;
	error = bind_in_directory(fd, path);
	if (!error && listen(fd, 128) < 0)
		error = errno;
	if (error)
		close(fd);
	else
		*listener = fd;
	return error;
}

/* Opens the listening socket, if there is to be one; 0 or an errno. */
int clients_listen(struct monitor *m)
{
	return m->config.socket ? listen_at(m->config.socket, &m->listener) : 0;
}

/* And one in the container's directory, which outlives a logout.  A filesystem may refuse it: then there is none. */
void clients_listen_beside(struct monitor *m)
{
	if (m->config.fallback_socket)
		listen_at(m->config.fallback_socket, &m->fallback);
}

/* Who comes this way has not found the other: it is made anew, in a directory that the client has made. */
static void heal(struct monitor *m)
{
	struct stat info;

	if (!m->config.socket || (lstat(m->config.socket, &info) == 0 && S_ISSOCK(info.st_mode)))
		return;
	if (m->config.run_dir)
		mkdir(m->config.run_dir, 0700);
	fd_close(&m->listener);
	clients_listen(m);
}

/* Takes no more clients. */
void clients_leave(struct monitor *m)
{
	if (m->fallback >= 0)
		unlink(m->config.fallback_socket);
	fd_close(&m->fallback);
	fd_close(&m->listener);
}

struct client *clients_add(struct monitor *m, int fd)
{
	struct client *c = &m->clients[m->client_count++];

	memset(c, 0, sizeof *c);
	c->fd = fd;
	return c;
}

void clients_accept(struct monitor *m, int listener)
{
	int fd;

	if (listener == m->fallback)
		heal(m);
	while (m->client_count < MAX_CLIENTS) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			return;
		clients_add(m, fd);
	}
}

/* The client takes nothing any more: whoever waited for it need not. */
static void stop_sending(struct monitor *m, struct client *c)
{
	if (c->owed & OWE_STDOUT)
		m->output[0].waiting--;
	if (c->owed & OWE_STDERR)
		m->output[1].waiting--;
	c->owed = 0;
	c->deaf = true;
}

static void leave_input(struct monitor *m, struct client *c)
{
	unsigned i;

	if (!(c->attached & ATTACH_STDIN))
		return;
	c->attached &= (uint8_t)~ATTACH_STDIN;
	for (i = 0; i < m->client_count; i++)
		if (m->clients[i].attached & ATTACH_STDIN)
			return;
	if (m->config.stdin_once)
		input_end(m);
}

/* The first client has said what it wants: output may flow. */
static void release_output(struct monitor *m, const struct client *c)
{
	if (c->early)
		m->hold_output = false;
}

void client_drop(struct monitor *m, struct client *c)
{
	if (c->fd < 0)
		return;
	stop_sending(m, c);
	leave_input(m, c);
	release_output(m, c);
	fd_close(&c->fd);
}

/* Closes the gaps; not while someone walks over the clients. */
void clients_forget_dropped(struct monitor *m)
{
	unsigned i = 0;

	while (i < m->client_count)
		if (m->clients[i].fd < 0)
			m->clients[i] = m->clients[--m->client_count];
		else
			i++;
}

/* Owes WHAT to every client that asked to hear of it. */
void clients_owe(struct monitor *m, uint8_t what)
{
	unsigned i;

	for (i = 0; i < m->client_count; i++) {
		struct client *c = &m->clients[i];

		if (c->fd < 0 || c->deaf || !(c->early || c->wants_exit))
			continue;
		c->owed |= what;
		clients_send(m, c);
	}
}

/* Owes the current message of a stream to every client attached to it. */
void clients_offer(struct monitor *m, unsigned which)
{
	uint8_t attached = (uint8_t)(ATTACH_STDOUT << which);
	unsigned i;

	for (i = 0; i < m->client_count; i++) {
		struct client *c = &m->clients[i];

		if (c->fd < 0 || c->deaf || !(c->attached & attached))
			continue;
		c->owed |= (uint8_t)(OWE_STDOUT << which);
		m->output[which].waiting++;
		clients_send(m, c);
	}
}

void clients_release_held(struct monitor *m)
{
	unsigned i;

	if (input_has_room(m) || input_refused(m))
		for (i = 0; i < m->client_count; i++)
			m->clients[i].held = false;
}

/* What of that which a client is owed may be sent now: its end comes after all its output. */
uint8_t client_ready(const struct monitor *m, const struct client *c)
{
	uint8_t ready = c->owed;
	bool more = c->owed & (OWE_STDOUT | OWE_STDERR) || (c->attached & ATTACH_STDOUT && m->output[0].fd >= 0) ||
		    (c->attached & ATTACH_STDERR && m->output[1].fd >= 0);

	if (more || m->phase != FINISHED)
		ready &= (uint8_t)~OWE_EXIT;
	return ready;
}

/* Builds the message for one bit of what is owed; its length.  BUFFER holds STATE_SIZE bytes. */
static size_t compose(const struct monitor *m, const struct client *c, uint8_t what, unsigned char *buffer)
{
	size_t length;

	switch (what) {
	case OWE_ACK:
		buffer[0] = 'G';
		buffer[1] = c->ack;
		return 2;
	case OWE_STATE:
		buffer[0] = 'S';
		return 1 + state_format(m, (char *)buffer + 1, STATE_SIZE - 1);
	case OWE_STARTED:
		buffer[0] = 'P';
		put32(buffer + 1, (uint32_t)m->init);
		return 5;
	case OWE_ERROR:
		length = strlen(m->record.error);
		buffer[0] = 'E';
		put32(buffer + 1, (uint32_t)m->failure_code);
		memcpy(buffer + 5, m->record.error, length);
		return 5 + length;
	case OWE_HEALTH:
		buffer[0] = 'V';
		buffer[1] = (unsigned char)(m->phase == RUNNING ? m->health.status : HEALTH_NONE);
		buffer[2] = m->health.passed;
		return 3;
	default:
		buffer[0] = 'X';
		put32(buffer + 1, (uint32_t)m->exit_code);
		buffer[5] = (unsigned char)(m->signalled | m->record.oom_killed << 1);
		return 6;
	}
}

/* Sends one thing; false if the client takes nothing more now, or never again. */
static bool send_one(struct monitor *m, struct client *c, uint8_t what)
{
	unsigned char buffer[STATE_SIZE];
	const unsigned char *data = buffer;
	unsigned which = what == OWE_STDERR;
	size_t length;

	if (what == OWE_STDOUT || what == OWE_STDERR) {
		data = m->output[which].message;
		length = m->output[which].length;
	} else {
		length = compose(m, c, what, buffer);
	}
	if (send(c->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM)
			stop_sending(m, c);
		return false;
	}
	c->owed &= (uint8_t)~what;
	if (data != buffer)
		m->output[which].waiting--;
	return true;
}

/* Sends a client what it is owed, as far as it takes it. */
void clients_send(struct monitor *m, struct client *c)
{
	uint8_t ready, bit;

	while ((ready = client_ready(m, c)) != 0) {
		bit = (uint8_t)(ready & -ready);
		if (!send_one(m, c, bit))
			return;
	}
}

static bool take_attach(struct monitor *m, struct client *c, const unsigned char *data)
{
	uint8_t flags = data[1] & (ATTACH_STDIN | ATTACH_STDOUT | ATTACH_STDERR);

	if (!m->config.keep_stdin)
		flags &= (uint8_t)~ATTACH_STDIN;
	c->attached = flags;
	c->wants_exit = true;
	release_output(m, c);
	if (m->phase == FINISHED)
		c->owed |= OWE_EXIT;
	return true;
}

static bool take_wait(struct monitor *m, struct client *c, const unsigned char *data)
{
	(void)data;
	c->wants_exit = true;
	release_output(m, c);
	if (m->phase == FINISHED)
		c->owed |= OWE_EXIT;
	return true;
}

static bool take_end_of_input(struct monitor *m, struct client *c, const unsigned char *data)
{
	(void)data;
	if (m->config.stdin_once && c->attached & ATTACH_STDIN)
		input_end(m);
	return true;
}

static void acknowledge(struct client *c, int error)
{
	c->ack = (uint8_t)error;
	c->owed |= OWE_ACK;
}

static void mark_manual_stop(struct monitor *m)
{
	m->record.manual_stop = true;
	m->no_restart = true;
}

static bool take_kill(struct monitor *m, struct client *c, const unsigned char *data)
{
	if (data[2] & 1)
		mark_manual_stop(m);
	acknowledge(c, child_signal(m, data[1]));
	if (data[2] & 1)
		cgroup_thaw(m);
	return true;
}

static bool take_stop(struct monitor *m, struct client *c, const unsigned char *data)
{
	mark_manual_stop(m);
	child_stop(m, data[1], (int32_t)get32(data + 2));
	acknowledge(c, 0);
	return true;
}

static bool take_resize(struct monitor *m, struct client *c, const unsigned char *data)
{
	(void)c;
	m->rows = (uint16_t)(data[1] | data[2] << 8);
	m->columns = (uint16_t)(data[3] | data[4] << 8);
	streams_resize(m);
	if (m->phase == RUNNING && m->config.tty)
		events_resized(m);
	return true;
}

/* A client that says so leaves without an end of its input, so that a later one can go on. */
static bool take_detach(struct monitor *m, struct client *c, const unsigned char *data)
{
	(void)data;
	c->attached = 0;
	c->wants_exit = false;
	release_output(m, c);
	stop_sending(m, c);
	return true;
}

static bool take_query(struct monitor *m, struct client *c, const unsigned char *data)
{
	(void)m;
	(void)data;
	c->owed |= OWE_STATE;
	return true;
}

static bool take_probe(struct monitor *m, struct client *c, const unsigned char *data)
{
	int error = health_probe_now(m);

	(void)data;
	if (error)
		acknowledge(c, error);
	c->wants_health = !error;
	return true;
}

/* What is under way, a delay for instance, goes on; the next end is judged by the new policy. */
static bool take_policy(struct monitor *m, struct client *c, const unsigned char *data)
{
	if (data[1] > RESTART_ON_FAILURE || get32(data + 2) > INT32_MAX) {
		acknowledge(c, EINVAL);
		return true;
	}
	m->config.restart = data[1];
	m->config.restart_max = get32(data + 2);
	if (m->phase != FINISHED)
		state_write(m, false);
	acknowledge(c, 0);
	return true;
}

static const struct message {
	char type;
	unsigned char length;
	bool (*take)(struct monitor *m, struct client *c, const unsigned char *data);
} messages[] = {
    {'A', 2, take_attach}, {'W', 1, take_wait},	  {'Z', 1, take_end_of_input}, {'K', 3, take_kill},
    {'T', 6, take_stop},   {'R', 5, take_resize}, {'D', 1, take_detach},       {'Q', 1, take_query},
    {'H', 1, take_probe},  {'U', 6, take_policy},
};

/* Does what a message other than stdin data asks; false if it is malformed. */
bool client_message(struct monitor *m, struct client *c, const unsigned char *data, size_t length)
{
	size_t i;

	for (i = 0; i < sizeof messages / sizeof *messages; i++)
		if (length > 0 && messages[i].type == (char)data[0])
			return length == messages[i].length && messages[i].take(m, c, data);
	return false;
}

/* Takes the stdin message that is next; false if the client is to be dropped. */
static bool take_input(struct monitor *m, struct client *c)
{
	unsigned char type;
	struct iovec parts[2] = {{&type, 1}, {m->input.data, CHUNK}};
	struct msghdr header = {.msg_iov = parts, .msg_iovlen = 2};
	ssize_t count;

	if (input_refused(m) || !(c->attached & ATTACH_STDIN))
		return recv(c->fd, &type, 1, MSG_DONTWAIT) == 1; /* the rest of the datagram goes with it */
	count = recvmsg(c->fd, &header, MSG_DONTWAIT);
	if (count < 1 || header.msg_flags & MSG_TRUNC)
		return false;
	m->input.at = 0;
	m->input.length = (size_t)count - 1;
	input_write(m);
	return true;
}

/* Takes one message; false when there is none to take now. */
static bool receive_one(struct monitor *m, struct client *c)
{
	unsigned char data[16];
	ssize_t count = recv(c->fd, data, 1, MSG_PEEK | MSG_DONTWAIT);
	bool valid;

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (count < 0 && errno == ECONNRESET)
		return true; /* it left with something of ours unread; said once, before what it sent */
	if (count == 1 && data[0] == 'I' && !input_has_room(m) && !input_refused(m) && c->attached & ATTACH_STDIN) {
		c->held = true;
		return false;
	}
	if (count == 1 && data[0] == 'I') {
		valid = take_input(m, c);
	} else {
		count = count < 1 ? 0 : recv(c->fd, data, sizeof data, MSG_DONTWAIT | MSG_TRUNC);
		valid = count > 0 && client_message(m, c, data, (size_t)count);
	}
	if (!valid) {
		client_drop(m, c);
		return false;
	}
	if (c->owed)
		clients_send(m, c);
	return true;
}

/* Takes what a client has sent, while there is room for what it asks for. */
void clients_receive(struct monitor *m, struct client *c)
{
	int turn;

	for (turn = 0; turn < TURN && c->fd >= 0 && !(c->owed & (OWE_ACK | OWE_STATE)); turn++)
		if (!receive_one(m, c))
			return;
}
