/* Fuzz target: what clients send to the monitor.
 *
 * The input is a list of datagrams, each a length byte pair (little endian) and that many bytes, sent by two clients
 * in turn.  The monitor has stdin and no child; its phase is the first byte of the input.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../log.c"
#include "../log_file.c"
#include "../log_journal.c"
#include "../log_pack.c"
#include "../log_setup.c"
#include "../log_socket.c"
#include "../log_syslog.c"
#include "../log_text.c"
#include "../monitor_cgroup.c"
#include "../monitor_child.c"
#include "../monitor_clients.c"
#include "../monitor_events.c"
#include "../monitor_health.c"
#include "../monitor_life.c"
#include "../monitor_remove.c"
#include "../monitor_state.c"
#include "../monitor_streams.c"

const char *args_policy(int64_t policy) /* monitor_args.c has names that other files have, too */
{
	static const char *const policies[] = {"no", "always", "unless-stopped", "on-failure"};

	return policies[policy];
}

int64_t now_ms(void)
{
	return 1000;
}

void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* A monitor whose container reads its stdin from the other end of SINK. */
static struct monitor *make(uint8_t phase, int *sink)
{
	static struct monitor m;
	int ends[2];

	memset(&m, 0, sizeof m);
	if (pipe(ends) < 0)
		abort();
	*sink = ends[0];
	set_nonblocking(ends[0]);
	set_nonblocking(ends[1]);
	m.config.keep_stdin = 1;
	m.config.stdin_once = phase >> 4 & 1;
	m.config.user_ns_fd = m.config.net_ns_fd = m.config.lock_fd = -1;
	m.config.boot_id = "boot";
	m.record.status = "running";
	m.phase = phase % (FINISHED + 1);
	m.init_ended = true; /* no signal leaves this process */
	m.listener = m.fallback = m.status_fd = m.health.status_fd = m.health.output_fd = -1;
	m.input.fd = ends[1];
	m.output[0].fd = m.output[1].fd = -1;
	return &m;
}

static void empty(int fd)
{
	char buffer[65536];

	while (read(fd, buffer, sizeof buffer) > 0)
		;
}

static void check(const struct monitor *m)
{
	unsigned i, waiting[2] = {0, 0};

	for (i = 0; i < m->client_count; i++) {
		waiting[0] += !!(m->clients[i].owed & OWE_STDOUT);
		waiting[1] += !!(m->clients[i].owed & OWE_STDERR);
	}
	if (waiting[0] != m->output[0].waiting || waiting[1] != m->output[1].waiting)
		abort();
	if (m->input.at > m->input.length || m->input.length > CHUNK)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int ends[2][2], sink, turn = 0;
	struct monitor *m = make(size ? data[0] : 0, &sink);
	size_t at = 1, length;
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends[i]) < 0)
			abort();
		clients_add(m, ends[i][0]);
	}
	for (; at + 2 <= size; turn++) {
		length = data[at] | (size_t)data[at + 1] << 8;
		at += 2;
		if (length > size - at)
			length = size - at;
		if (send(ends[turn & 1][1], data + at, length, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != EAGAIN)
			break;
		at += length;
		m->output[turn & 1].length = 100;
		if (!m->output[turn & 1].waiting)
			clients_offer(m, turn & 1);
		clients_release_held(m);
		for (i = 0; i < m->client_count; i++)
			if (m->clients[i].fd >= 0 && !m->clients[i].held)
				clients_receive(m, &m->clients[i]);
		check(m);
		if (turn % 3 == 0)
			empty(sink);
		if (turn % 5 == 0)
			empty(ends[turn & 1][1]);
		clients_forget_dropped(m);
	}
	for (i = 0; i < m->client_count; i++)
		client_drop(m, &m->clients[i]);
	check(m);
	fd_close(&m->input.fd);
	close(sink);
	close(ends[0][1]);
	close(ends[1][1]);
	return 0;
}
