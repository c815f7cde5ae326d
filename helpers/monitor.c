/* monitor: supervises one container or one exec session; monitor.h has the rules.
 *
 * Started by the command line or the API service, which it outlives.  The first process forks and ends at
 * once, so that its starter has nothing to reap later; the second leads its own session.
 *
 * Signals: all are blocked.  TERM, as sent to everything at logout or shutdown, is a stop of the container
 * with its own stop signal and timeout, without the mark of a manual stop, so that a restart policy may
 * bring it back after the next boot.  HUP, INT and the others are ignored.  KILL takes the container along,
 * through the parent-death signal on its tape.
 */
#define _GNU_SOURCE
#include "monitor.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Its pages appear as they are used, so unused clients and buffers cost no memory. */
static struct monitor the_monitor;

enum {
	POLL_SIGNAL,
	POLL_LISTENER,
	POLL_FALLBACK,
	POLL_STATUS,
	POLL_STDOUT,
	POLL_STDERR,
	POLL_STDIN,
	POLL_LOG,
	POLL_CGROUP,
	POLL_PROBE_STATUS,
	POLL_PROBE_OUTPUT,
	POLL_CLIENTS
};

int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static bool is_told(const struct config *config, int fd)
{
	return fd == config->lock_fd || fd == config->client_fd || fd == config->user_ns_fd ||
	       fd == config->net_ns_fd || fd == config->stdio_fd[0] || fd == config->stdio_fd[1] ||
	       fd == config->stdio_fd[2];
}

static void close_range_or_each(unsigned first, unsigned last)
{
	unsigned fd;

#ifdef SYS_close_range
	if (syscall(SYS_close_range, first, last, 0) == 0)
		return;
#endif
	for (fd = first; fd <= last && fd < 4096; fd++) /* before Linux 5.9 */
		close((int)fd);
}

/* Closes every descriptor that the starter did not mean to pass, and moves the others up. */
static void keep_told_descriptors(struct config *config)
{
	int64_t *told[] = {&config->lock_fd,	 &config->client_fd,   &config->user_ns_fd, &config->net_ns_fd,
			   &config->stdio_fd[0], &config->stdio_fd[1], &config->stdio_fd[2]};
	unsigned first = 3, i;
	int fd, highest = 2;

	for (i = 0; i < sizeof told / sizeof *told; i++)
		if (*told[i] > highest)
			highest = (int)*told[i];
	for (fd = 3; fd <= highest; fd++) {
		if (!is_told(config, fd))
			continue;
		if ((unsigned)fd > first)
			close_range_or_each(first, (unsigned)fd - 1);
		first = (unsigned)fd + 1;
	}
	close_range_or_each(first, ~0U);
	for (i = 0; i < sizeof told / sizeof *told; i++)
		if (*told[i] >= 0) {
			fd = fcntl((int)*told[i], F_DUPFD_CLOEXEC, FIRST_FREE_FD);
			close((int)*told[i]);
			*told[i] = fd;
		}
	/* From now on whatever is opened gets a number that no launcher's descriptor will be put over. */
	for (fd = 3; fd < FIRST_FREE_FD; fd++)
		dup3(0, fd, O_CLOEXEC);
}

static int open_signals(void)
{
	struct sigaction defaults = {.sa_handler = SIG_DFL};
	sigset_t all, some;

	sigaction(SIGCHLD, &defaults, NULL); /* an ignored SIGCHLD would make children vanish unseen */
	sigaction(SIGPIPE, &defaults, NULL);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&some);
	sigaddset(&some, SIGCHLD);
	sigaddset(&some, SIGTERM);
	return signalfd(-1, &some, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Leaves the starter's session, working directory and mask behind; false on failure. */
static bool daemonize(void)
{
	pid_t pid = fork();

	if (pid < 0)
		return false;
	if (pid > 0)
		_exit(0);
	setsid();
	umask(022);
	return chdir("/") == 0;
}

/* What cannot be opened loses lines; it is not a reason not to run. */
static void open_log(struct monitor *m)
{
	struct log_setup setup = {.path = m->config.log,
				  .max_size = m->config.log_max_size,
				  .max_file = m->config.log_max_file,
				  .spawn = child_spawn};

	if (m->config.log_config && log_setup_read(&setup, m->config.log_config) != 0 && !setup.path)
		return;
	if (setup.path || setup.driver)
		log_open(&m->log, &setup);
}

static void set_up(struct monitor *m)
{
	unsigned i;
	int error;

	m->listener = m->fallback = m->status_fd = m->input.fd = m->cgroup_events = -1;
	m->health.status_fd = m->health.output_fd = -1;
	for (i = 0; i < 2; i++)
		m->output[i].fd = -1;
	m->record.status = "created";
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	m->signal_fd = open_signals();
	if (m->config.client_fd >= 0) {
		struct client *early = clients_add(m, (int)m->config.client_fd);

		early->early = true;
		m->hold_output = true;
	}
	m->log.fd = -1;
	state_load(m);
	error = clients_listen(m);
	if (error) {
		life_failed(m, 128, "cannot listen on the monitor's socket", error);
		return;
	}
	clients_listen_beside(m);
	child_keep_tapes(m);
	open_log(m);
	child_launch(m);
}

static void poll_for(struct monitor *m, unsigned slot, int fd, short events)
{
	m->polled[slot].fd = events ? fd : -1; /* poll reports a hang-up even where nothing is asked */
	m->polled[slot].events = events;
	m->polled[slot].revents = 0;
}

static unsigned fill_poll_set(struct monitor *m)
{
	bool reading = m->phase == RUNNING || m->phase == DRAINING || m->phase == FINISHED;
	unsigned i;

	clients_release_held(m);
	poll_for(m, POLL_SIGNAL, m->signal_fd, POLLIN);
	poll_for(m, POLL_LISTENER, m->listener, m->client_count < MAX_CLIENTS ? POLLIN : 0);
	poll_for(m, POLL_FALLBACK, m->fallback, m->client_count < MAX_CLIENTS ? POLLIN : 0);
	poll_for(m, POLL_STATUS, m->status_fd, POLLIN);
	for (i = 0; i < 2; i++)
		poll_for(m, POLL_STDOUT + i, m->output[i].fd,
			 reading && !m->hold_output && !m->output[i].waiting && streams_logged(m, i) ? POLLIN : 0);
	poll_for(m, POLL_STDIN, m->input.fd, m->input.length ? POLLOUT : 0);
	poll_for(m, POLL_PROBE_STATUS, m->health.status_fd, POLLIN);
	poll_for(m, POLL_PROBE_OUTPUT, health_output(m), POLLIN);
	poll_for(m, POLL_CGROUP, m->cgroup_events, m->phase == RUNNING ? POLLPRI : 0);
	poll_for(m, POLL_LOG, m->log.fd, log_socket_events(&m->log));
	for (i = 0; i < m->client_count; i++) {
		const struct client *c = &m->clients[i];
		short events = client_ready(m, c) ? POLLOUT : 0;

		if (!c->held && !(c->owed & (OWE_ACK | OWE_STATE)))
			events |= POLLIN;
		poll_for(m, POLL_CLIENTS + i, c->fd, events);
	}
	return POLL_CLIENTS + m->client_count;
}

static void take_signals(struct monitor *m)
{
	struct signalfd_siginfo info;

	while (read(m->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
		if (info.ssi_signo == SIGTERM) {
			m->no_restart = true;
			child_stop(m, (int)m->config.stop_signal, m->config.stop_timeout);
		}
	child_reap(m);
}

static void serve_clients(struct monitor *m, unsigned count)
{
	unsigned i;

	for (i = 0; i < count; i++) {
		struct client *c = &m->clients[i];
		short ready = m->polled[POLL_CLIENTS + i].revents;

		if (ready & (POLLOUT | POLLERR | POLLHUP) && c->fd >= 0)
			clients_send(m, c);
		if (ready & (POLLIN | POLLERR | POLLHUP) && c->fd >= 0)
			clients_receive(m, c);
	}
}

/* One round: wait for something, then do everything that is ready. */
static void run_once(struct monitor *m)
{
	unsigned count = fill_poll_set(m), i;

	if (poll(m->polled, count, life_timeout(m)) < 0)
		return;
	/* The launcher's messages come before its end is looked at: they say which child is which. */
	if (m->polled[POLL_STATUS].revents)
		child_status(m);
	if (m->polled[POLL_PROBE_STATUS].revents)
		health_status(m);
	if (m->polled[POLL_CGROUP].revents)
		cgroup_look(m);
	if (m->polled[POLL_SIGNAL].revents)
		take_signals(m);
	if (m->polled[POLL_PROBE_OUTPUT].revents && m->health.output_fd >= 0)
		health_read(m);
	if (m->polled[POLL_LOG].revents)
		log_socket_ready(&m->log, m->polled[POLL_LOG].revents);
	for (i = 0; i < 2; i++)
		if (m->polled[POLL_STDOUT + i].revents && m->output[i].fd >= 0)
			streams_read(m, i);
	if (m->polled[POLL_STDIN].revents)
		input_write(m);
	serve_clients(m, count - POLL_CLIENTS);
	if (m->polled[POLL_LISTENER].revents)
		clients_accept(m, m->listener);
	if (m->polled[POLL_FALLBACK].revents)
		clients_accept(m, m->fallback);
	streams_log(m);
	life_timers(m);
	life_advance(m);
	clients_forget_dropped(m);
}

/* Whether there is nothing left to do: all is recorded and every client has been told. */
static bool is_over(const struct monitor *m)
{
	unsigned i;

	if (m->phase != FINISHED || !streams_drained(m))
		return false;
	for (i = 0; i < m->client_count; i++)
		if (m->clients[i].owed)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	struct monitor *m = &the_monitor;
	const char *wrong = args_parse(&m->config, argc, argv);

	if (wrong) {
		static const char prefix[] = "monitor: wrong argument: ";

		if (write(2, prefix, sizeof prefix - 1) < 0 || write(2, wrong, strlen(wrong)) < 0 ||
		    write(2, "\n", 1) < 0)
			return 125;
		return 125;
	}
	if (!daemonize())
		return 125;
	keep_told_descriptors(&m->config);
	set_up(m);
	while (!is_over(m))
		run_once(m);
	return 0;
}
