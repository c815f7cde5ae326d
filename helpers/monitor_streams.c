/* The container's stdin, stdout and stderr: pipes, or the master of its pty. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "monitor.h"

/* What a foreign process that holds our pipes may still write after the container's end. */
#define LATE_OUTPUT (1 << 20)

static bool set_nonblocking(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0;
}

/* A pipe whose end number OURS does not block; the other end is the container's. */
static int open_pipe(int ours, int *mine)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -1;
	*mine = ends[ours];
	set_nonblocking(*mine);
	return ends[!ours];
}

/* Makes what one life of the container reads and writes; CHILD gets its three descriptors, for the caller
 * to close.  With a terminal they are /dev/null: the container's own pty comes from the launcher. */
bool streams_open(struct monitor *m, int child[3])
{
	bool pipes = !m->config.tty;
	int i;

	m->input.at = m->input.length = 0;
	m->log.giving_up = false;
	child[0] = child[1] = child[2] = -1;
	if (m->config.stdio_fd[0] >= 0) {
		for (i = 0; i < 3; i++)
			child[i] = fcntl((int)m->config.stdio_fd[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
		return child[0] >= 0 && child[1] >= 0 && child[2] >= 0;
	}
	if (pipes && m->config.keep_stdin)
		child[0] = open_pipe(1, &m->input.fd);
	else
		child[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (i = 1; i < 3; i++)
		child[i] = pipes ? open_pipe(0, &m->output[i - 1].fd) : fcntl(child[0], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
	if (m->input.ending)
		fd_close(&m->input.fd);
	return child[0] >= 0 && child[1] >= 0 && child[2] >= 0;
}

/* Takes the pty's master, or closes it where it is of no use. */
void streams_adopt_pty(struct monitor *m, int master)
{
	if (!m->config.tty || m->output[0].fd >= 0 || !set_nonblocking(master)) {
		close(master);
		return;
	}
	m->output[0].fd = master;
	if (m->config.keep_stdin)
		m->input.fd = fcntl(master, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
	streams_resize(m);
}

/* Gives the pty the size that a client last told. */
void streams_resize(struct monitor *m)
{
	struct winsize size = {.ws_row = m->rows, .ws_col = m->columns};

	if (m->config.tty && m->output[0].fd >= 0 && m->rows)
		ioctl(m->output[0].fd, TIOCSWINSZ, &size);
}

/* Reads once, logs it and offers it to the clients; false if there was nothing to read. */
bool streams_read(struct monitor *m, unsigned which)
{
	struct stream *s = &m->output[which];
	ssize_t count = read(s->fd, s->message + 1, CHUNK);

	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (count <= 0) { /* a pty whose other side is gone gives EIO */
		streams_close(m, which);
		return false;
	}
	s->message[0] = which ? '2' : '1';
	s->length = (size_t)count + 1;
	s->logged = 1 + log_add(&m->log, which, (const char *)s->message + 1, (size_t)count);
	clients_offer(m, which);
	return true;
}

/* Whether the log has taken what was read last. */
bool streams_logged(const struct monitor *m, unsigned which)
{
	return m->output[which].logged == m->output[which].length;
}

/* Writes the log, and gives it what it had no room for. */
void streams_log(struct monitor *m)
{
	unsigned which;

	log_flush(&m->log);
	for (which = 0; which < 2; which++) {
		struct stream *s = &m->output[which];

		if (s->logged < s->length)
			s->logged +=
			    log_add(&m->log, which, (const char *)s->message + s->logged, s->length - s->logged);
	}
	log_flush(&m->log);
}

void streams_close(struct monitor *m, unsigned which)
{
	if (m->output[which].fd < 0)
		return;
	log_end_line(&m->log, which);
	fd_close(&m->output[which].fd);
}

/* Whether all output has been read, and the log and every client have taken their share. */
bool streams_drained(const struct monitor *m)
{
	return m->output[0].fd < 0 && m->output[1].fd < 0 && !m->output[0].waiting && !m->output[1].waiting &&
	       !log_waits(&m->log);
}

/* Empties the streams as far as the clients take it, and closes those that a foreign process keeps open. */
void streams_force_end(struct monitor *m)
{
	unsigned which;

	log_give_up(&m->log);
	streams_log(m);
	for (which = 0; which < 2; which++) {
		struct stream *s = &m->output[which];

		while (s->fd >= 0 && !s->waiting && m->late_output < LATE_OUTPUT && streams_read(m, which))
			m->late_output += (unsigned)s->length;
		if (!s->waiting)
			streams_close(m, which);
	}
	log_flush(&m->log);
}

static void input_drop(struct monitor *m)
{
	m->input.at = m->input.length = 0;
	fd_close(&m->input.fd);
}

/* Gives the container what it takes of the waiting input. */
void input_write(struct monitor *m)
{
	struct input *in = &m->input;
	ssize_t count;

	if (in->fd < 0 || in->at == in->length)
		return;
	count = write(in->fd, in->data + in->at, in->length - in->at);
	if (count < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (count < 0) { /* EPIPE: the container closed its stdin; EIO: its terminal is gone */
		input_drop(m);
		return;
	}
	in->at += (size_t)count;
	if (in->at < in->length)
		return;
	in->at = in->length = 0;
	if (in->ending)
		input_drop(m);
}

/* The container's stdin ends once it has taken what is waiting.  A terminal has no end of file but the one
 * that is typed. */
void input_end(struct monitor *m)
{
	if (m->config.tty)
		return;
	m->input.ending = true;
	if (!m->input.length)
		input_drop(m);
}

/* Whether one more message of input can be taken from a client. */
bool input_has_room(const struct monitor *m)
{
	return m->input.fd >= 0 && m->input.length == 0;
}

/* Whether input is thrown away, because nobody will ever read it. */
bool input_refused(const struct monitor *m)
{
	if (!m->config.keep_stdin || m->input.ending || m->phase == FINISHED)
		return true;
	return m->input.fd < 0 && (m->phase == RUNNING || m->phase == DRAINING);
}
