/* The container's life: started, ended, restarted, finished. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

#define DRAIN_MS 2000 /* how long output is waited for that someone else may still write */
#define DELAY_MS 100  /* before the first restart; doubled for each further one */
#define DELAY_LIMIT_MS 60000
#define STABLE_MS 10000 /* a life this long makes the delay start over */

/* Notes why the container could not be started: REASON, and what ERROR means unless it is 0. */
void life_describe(struct monitor *m, const char *reason, int error)
{
	const char *why = strerror(error);
	char first = *why >= 'A' && *why <= 'Z' ? (char)(*why + 'a' - 'A') : *why;
	struct text text;

	text_init(&text, m->record.error, sizeof m->record.error - 1);
	text_add(&text, reason);
	if (error) {
		text_add(&text, ": ");
		text_bytes(&text, &first, 1);
		text_add(&text, why + 1);
	}
	*text.at = 0;
}

/* The container's program has been executed. */
void life_started(struct monitor *m)
{
	int number;

	m->phase = RUNNING;
	m->started_ms = now_ms();
	m->record.status = "running";
	m->record.pid = m->init;
	m->record.exit_code = 0;
	m->record.error[0] = 0;
	m->record.oom_killed = false;
	state_stamp(m->record.started, sizeof m->record.started);
	health_begin(m); /* before it is said to run, so that nobody takes its last life's health for this one's */
	state_write(m, false);
	if (!m->config.exec_id) {
		events_emit_lines(m, 'U');
		events_emit(m, "start", "");
	}
	if (m->rows && m->config.tty)
		events_resized(m);
	clients_owe(m, OWE_STARTED);
	for (number = 1; m->early_signals; number++, m->early_signals >>= 1)
		if (m->early_signals & 1)
			child_signal(m, number);
}

static bool should_restart(const struct monitor *m)
{
	if (m->no_restart || m->failed)
		return false;
	if (m->health.wants_restart)
		return true;
	if (m->config.restart == RESTART_ON_FAILURE)
		return m->exit_code != 0 && (!m->config.restart_max || m->record.restart_count < m->config.restart_max);
	return m->config.restart != RESTART_NO;
}

static void schedule_restart(struct monitor *m)
{
	if (m->ended_ms - m->started_ms >= STABLE_MS || !m->restart_delay)
		m->restart_delay = DELAY_MS;
	else
		m->restart_delay = m->restart_delay * 2 < DELAY_LIMIT_MS ? m->restart_delay * 2 : DELAY_LIMIT_MS;
	m->restart_at = now_ms() + m->restart_delay;
	m->record.restart_count++;
	m->stopping = false;
	m->record.status = "restarting";
	m->phase = WAITING;
	state_write(m, false);
	events_died(m);
}

/* Nothing follows: record it, remove what is to be removed, let go of the lock, tell the clients. */
static void finish(struct monitor *m)
{
	m->record.status = m->failed && !m->record.started[0] ? "created" : "exited";
	m->record.pid = 0;
	state_write(m, true);
	if (m->phase == DRAINING)
		events_died(m);
	if (m->stopping && !m->failed && !m->config.exec_id)
		events_emit(m, "stop", "");
	clients_leave(m);
	log_pack_stop(&m->log);
	remove_survivors(m);
	cgroup_remove(m);
	remove_container(m);
	remove_call_hook(m);
	remove_run_dir(m);
	if (m->config.lock_fd >= 0)
		close((int)m->config.lock_fd);
	m->config.lock_fd = -1;
	m->phase = FINISHED;
	clients_owe(m, m->failed ? OWE_ERROR | OWE_EXIT : OWE_EXIT);
}

/* The container could not be started: REASON and ERROR say why, or the record already does. */
void life_failed(struct monitor *m, int code, const char *reason, int error)
{
	pid_t pids[] = {m->init, m->launcher};
	bool ended[] = {m->init_ended, m->launcher_ended};
	unsigned i;

	for (i = 0; i < 2; i++)
		if (pids[i] > 0 && !ended[i]) {
			kill(pids[i], SIGKILL);
			waitpid(pids[i], NULL, 0);
		}
	m->init_ended = m->launcher_ended = true;
	if (reason)
		life_describe(m, reason, error);
	m->failed = true;
	m->failure_code = m->exit_code = m->record.exit_code = code;
	m->ended_ms = now_ms();
	fd_close(&m->status_fd);
	fd_close(&m->input.fd);
	for (i = 0; i < 2; i++)
		streams_close(m, i);
	finish(m);
}

static void take_exit(struct monitor *m)
{
	int status = m->init_status;

	m->ended_ms = now_ms();
	m->signalled = WIFSIGNALED(status);
	m->exit_code = m->signalled ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	m->record.exit_code = m->exit_code;
	m->record.pid = 0;
	m->record.pid_start = 0;
	m->stop_deadline = 0;
	state_stamp(m->record.finished, sizeof m->record.finished);
	m->phase = DRAINING;
	fd_close(&m->input.fd);
	m->input.at = m->input.length = 0;
	health_end(m);
	remove_survivors(m);
	cgroup_kill(m);
}

/* After the end of the first process: all output first, but a client that has stopped reading does not keep
 * the end from being recorded. */
static void drain(struct monitor *m)
{
	bool late = now_ms() - m->ended_ms >= DRAIN_MS;

	if (late)
		streams_force_end(m);
	if (!streams_drained(m) && (!late || should_restart(m)))
		return;
	if (should_restart(m))
		schedule_restart(m);
	else
		finish(m);
}

/* Goes on to the next phase when its time has come; at the end of each round. */
void life_advance(struct monitor *m)
{
	unsigned i;

	if (m->phase == RUNNING && m->init_ended)
		take_exit(m);
	if (m->phase == DRAINING)
		drain(m);
	if (m->phase == WAITING && m->no_restart)
		finish(m);
	else if (m->phase == WAITING && now_ms() >= m->restart_at)
		child_launch(m);
	if (m->phase != FINISHED)
		return;
	if (!streams_drained(m))
		streams_force_end(m);
	for (i = 0; i < m->client_count; i++)
		if (m->clients[i].fd >= 0)
			clients_send(m, &m->clients[i]);
}

void life_timers(struct monitor *m)
{
	if (m->stop_deadline && now_ms() >= m->stop_deadline) {
		m->stop_deadline = 0;
		child_signal(m, SIGKILL);
	}
	health_timers(m);
}

static int64_t sooner(int64_t a, int64_t b)
{
	return a < 0 || b < a ? b : a;
}

/* Milliseconds until something is due; -1 if nothing is. */
int life_timeout(const struct monitor *m)
{
	int64_t now = now_ms(), due = log_socket_due(&m->log);

	if (m->stop_deadline)
		due = sooner(due, m->stop_deadline);
	if (m->phase == WAITING)
		due = sooner(due, m->restart_at);
	if (m->phase == DRAINING && now - m->ended_ms < DRAIN_MS)
		due = sooner(due, m->ended_ms + DRAIN_MS);
	if (health_due(m) >= 0)
		due = sooner(due, health_due(m));
	if (due < 0)
		return -1;
	return due <= now ? 0 : (int)(due - now < 3600000 ? due - now : 3600000);
}
