/* The monitor's parts and the one structure they share.
 *
 * One monitor runs per container start and per exec session.  It is the parent of the launcher and, by
 * CLONE_PARENT, of the container's first process; it owns the container's pipes or pty, its log, its
 * state file and its clients.  It plans nothing: what to run is on a tape that only the launcher reads.
 *
 * Rules that every part keeps:
 *   - one thread, one poll loop, no allocation after the program has been loaded;
 *   - a datagram is taken from a client only when there is room for all that it can cause;
 *   - output is read from the container only when every attached client has taken what was read before;
 *   - a full disk, a dead client or a malformed message never blocks or ends the container.
 */
#ifndef MONITOR_H
#define MONITOR_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "log.h"

#define CHUNK 32768	/* bytes of stream data in one message, at most */
#define MAX_CLIENTS 256 /* more wait in the listening socket's queue */
#define MAX_EXIT_ARGS 16
#define FIRST_FREE_FD 10 /* below lie the numbers that a launcher is given its descriptors at */
#define STATE_SIZE 12288 /* with a control group's path and an error, each byte escaped */
#define FINAL_SIZE 4096	 /* there is no control group at the end */
#define CGROUP_SIZE 1100
#define MAX_SERVERS 4
#define PROBE_LOG 5 /* results that are shown */
#define PROBE_OUTPUT 4096

enum restart_policy { RESTART_NO, RESTART_ALWAYS, RESTART_UNLESS_STOPPED, RESTART_ON_FAILURE };

enum health_action { HEALTH_IGNORE, HEALTH_KILL, HEALTH_RESTART, HEALTH_STOP };

/* The command line; strings are the argument vector's own. */
struct config {
	const char *id, *launch, *tape, *socket, *run_dir, *state, *boot_id;
	const char *log, *log_config;
	const char *remove_tape, *container_dir, *trash_dir, *names_dir;
	const char *events, *event_lines, *exec_id;
	const char *fallback_socket;
	const char *health_tape, *health_file, *health_timeout_text;
	const char *on_exit;
	const char *on_exit_args[MAX_EXIT_ARGS];
	int on_exit_count;
	int64_t log_max_size, log_max_file, events_max_size;
	int64_t lock_fd, client_fd, user_ns_fd, net_ns_fd;
	int64_t stdio_fd[3]; /* what the container gets instead of pipes; told as the first of three */
	int64_t durable, tty, keep_stdin, stdin_once;
	int64_t restart; /* enum restart_policy */
	int64_t restart_max, stop_signal, stop_timeout;
	int64_t health_interval, health_timeout, health_start_period, health_start_interval; /* milliseconds */
	int64_t health_retries, health_on_failure;					     /* enum health_action */
};

/* Where a life of the container has got to.
 *   LAUNCHING  the launcher plays the tape
 *   RUNNING    the container's program has been executed
 *   DRAINING   its first process has ended, output may be left
 *   WAITING    the restart policy's delay runs
 *   FINISHED   all is recorded and removed; clients are still to be told */
enum phase { LAUNCHING, RUNNING, DRAINING, WAITING, FINISHED };

/* One output stream of the container and the message that is made of what was read from it last. */
struct stream {
	int fd;
	unsigned waiting; /* clients that have not taken the message yet */
	size_t length;	  /* of the message, with its type byte */
	size_t logged;	  /* of the message, likewise */
	unsigned char message[1 + CHUNK];
};

/* What the container is still to read.  For a pty, fd is the master, shared with the output stream. */
struct input {
	int fd;
	bool ending; /* close it once what is left has been taken */
	size_t at, length;
	unsigned char data[CHUNK];
};

/* What a client is still to be sent, in the order of sending. */
enum {
	OWE_ACK = 1,
	OWE_STATE = 2,
	OWE_STARTED = 4,
	OWE_ERROR = 8,
	OWE_STDOUT = 16, /* the stream's current message; OWE_STDOUT << 1 is stderr's */
	OWE_STDERR = 32,
	OWE_EXIT = 64,
	OWE_HEALTH = 128,
};

enum { ATTACH_STDIN = 1, ATTACH_STDOUT = 2, ATTACH_STDERR = 4 };

struct client {
	int fd;
	uint8_t attached; /* ATTACH_* */
	uint8_t owed;	  /* OWE_* */
	uint8_t ack;
	bool wants_exit;
	bool wants_health; /* to be told when the next probe is over */
	bool held;	   /* its next message is stdin and there is no room for it */
	bool deaf;	   /* it takes nothing any more, but what it has sent still counts */
	bool early;	   /* the one that was there before the container */
};

/* What state.json says; see the contract of that file in runtime/monitor.py. */
struct record {
	const char *status;
	pid_t pid;
	uint64_t pid_start;
	char started[40], finished[40];
	int exit_code;
	char error[1024];
	unsigned restart_count;
	bool manual_stop;
	bool oom_killed;
};

enum health_state { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };

struct probe_result {
	char start[40], end[40];
	int exit_code;
	size_t length;
	char output[PROBE_OUTPUT + 128]; /* with what we say ourselves */
};

/* What is known of the container's health, and the probe that runs.  Times are now_ms()'s; 0 is never. */
struct health {
	enum health_state status;
	unsigned streak; /* failures in a row */
	unsigned first, count;
	struct probe_result log[PROBE_LOG], now;
	bool running, failed, told, ending; /* a probe: it could not start; its result is known; all of it is killed */
	bool truncated, passed, wants_restart;
	pid_t launcher, minder;
	int status_fd, output_fd;
	int64_t due, began, deadline, step, give_up, quiet_until, heard;
};

/* The tapes that are kept open, should the runtime directory be wiped. */
enum kept { KEPT_TAPE, KEPT_REMOVE, KEPT_HEALTH, KEPT_COUNT };

struct monitor {
	struct config config;
	enum phase phase;
	int signal_fd, listener, status_fd;
	int fallback; /* listens in the container's directory, for when the other's is gone */
	int kept[KEPT_COUNT];
	struct stream output[2];
	struct input input;
	struct client clients[MAX_CLIENTS];
	unsigned client_count;
	struct pollfd polled[11 + MAX_CLIENTS];
	struct log log;
	struct record record;
	struct health health;

	char cgroup[CGROUP_SIZE]; /* the directory of the container's control group, or empty */
	int cgroup_events;	  /* its memory.events, or -1 */
	uint64_t oom_kills;	  /* that it has counted */

	pid_t launcher, init;
	pid_t servers[MAX_SERVERS]; /* of the container's filesystem; 0: none */
	pid_t owners;		    /* the supervisor of emulated ownership; 0: none */
	pid_t network;		    /* the program that connects the network namespace; 0: none */
	pid_t connects;		    /* the process that connects for the container; 0: none */
	bool launcher_ended, init_ended;
	int init_status; /* as wait gives it */
	bool failed;	 /* the launcher reported why it could not start the container */
	int exit_code, failure_code;
	bool signalled;
	unsigned late_output; /* bytes read after the time for draining was over */
	bool hold_output;     /* until the early client has said what it wants */
	bool no_restart;      /* asked to end: TERM, or a stop */
	bool stopping;	      /* by a stop, which is an event of its own once it is done */
	bool state_written;
	uint64_t early_signals; /* to be sent once the container runs: bit per signal */
	uint16_t rows, columns; /* 0: not told */
	int64_t started_ms, ended_ms, stop_deadline, restart_at, restart_delay;
};

/* Four bytes of a message, little endian. */
static inline uint32_t get32(const unsigned char *from)
{
	return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* monitor_args.c */
const char *args_parse(struct config *config, int argc, char **argv);
const char *args_policy(int64_t policy);

/* monitor.c */
int64_t now_ms(void);
void fd_close(int *fd);

/* monitor_streams.c */
bool streams_open(struct monitor *m, int child[3]);
void streams_adopt_pty(struct monitor *m, int master);
bool streams_read(struct monitor *m, unsigned which);
void streams_close(struct monitor *m, unsigned which);
bool streams_logged(const struct monitor *m, unsigned which);
void streams_log(struct monitor *m);
bool streams_drained(const struct monitor *m);
void streams_force_end(struct monitor *m);
void streams_resize(struct monitor *m);
void input_write(struct monitor *m);
void input_end(struct monitor *m);
bool input_has_room(const struct monitor *m);
bool input_refused(const struct monitor *m);

/* monitor_clients.c */
int clients_listen(struct monitor *m);
void clients_listen_beside(struct monitor *m);
void clients_leave(struct monitor *m);
void clients_accept(struct monitor *m, int listener);
struct client *clients_add(struct monitor *m, int fd);
void clients_owe(struct monitor *m, uint8_t what);
uint8_t client_ready(const struct monitor *m, const struct client *c);
void clients_release_held(struct monitor *m);
void clients_offer(struct monitor *m, unsigned which);
void clients_send(struct monitor *m, struct client *c);
void clients_receive(struct monitor *m, struct client *c);
bool client_message(struct monitor *m, struct client *c, const unsigned char *data, size_t length);
void client_drop(struct monitor *m, struct client *c);
void clients_forget_dropped(struct monitor *m);

/* monitor_child.c */
void child_launch(struct monitor *m);
void child_status(struct monitor *m);
void child_reap(struct monitor *m);
int child_signal(struct monitor *m, int number);
void child_stop(struct monitor *m, int number, int64_t timeout);
void child_keep_tapes(struct monitor *m);
int child_open_tape(const struct monitor *m, enum kept which);
pid_t child_spawn(const char *path, char *const argv[], const int fds[FIRST_FREE_FD]);

/* monitor_life.c */
void life_started(struct monitor *m);
void life_describe(struct monitor *m, const char *reason, int error);
void life_failed(struct monitor *m, int code, const char *reason, int error);
void life_advance(struct monitor *m);
int life_timeout(const struct monitor *m);
void life_timers(struct monitor *m);

/* monitor_health.c */
void health_begin(struct monitor *m);
void health_end(struct monitor *m);
void health_read(struct monitor *m);
void health_status(struct monitor *m);
bool health_reaped(struct monitor *m, pid_t pid, int status);
void health_timers(struct monitor *m);
int64_t health_due(const struct monitor *m);
int health_output(struct monitor *m);
int health_probe_now(struct monitor *m);

/* monitor_state.c */
size_t state_format(const struct monitor *m, char *buffer, size_t size);
void state_load(struct monitor *m);
void state_write(struct monitor *m, bool final);
void state_stamp(char *to, size_t size);
uint64_t state_start_time(pid_t pid);
uint64_t state_stat_field(pid_t pid, int number);

/* monitor_events.c */
void events_emit(const struct monitor *m, const char *action, const char *extra);
void events_emit_lines(const struct monitor *m, char kind);
void events_died(const struct monitor *m);
void events_signalled(const struct monitor *m, int number);
void events_resized(const struct monitor *m);

/* monitor_cgroup.c */
void cgroup_adopt(struct monitor *m, const unsigned char *path, size_t length);
void cgroup_look(struct monitor *m);
void cgroup_thaw(struct monitor *m);
bool cgroup_frozen(const struct monitor *m);
void cgroup_kill(struct monitor *m);
void cgroup_remove(struct monitor *m);

/* monitor_remove.c */
void remove_container(struct monitor *m);
void remove_run_dir(const struct monitor *m);
void remove_survivors(const struct monitor *m);
void remove_call_hook(const struct monitor *m);

#endif
