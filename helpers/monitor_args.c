/* The monitor's command line: --key=value, each key at most once but --on-exit-arg. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "monitor.h"

enum kind { STRING, NUMBER, POLICY, ACTION };

struct option {
	const char *name;
	enum kind kind;
	size_t offset;
};

#define OPTION(name, kind, field)                                                                                      \
	{                                                                                                              \
		name, kind, offsetof(struct config, field)                                                             \
	}

static const struct option options[] = {
    OPTION("id", STRING, id),
    OPTION("launch", STRING, launch),
    OPTION("tape", STRING, tape),
    OPTION("socket", STRING, socket),
    OPTION("run-dir", STRING, run_dir),
    OPTION("state", STRING, state),
    OPTION("boot-id", STRING, boot_id),
    OPTION("log", STRING, log),
    OPTION("log-config", STRING, log_config),
    OPTION("log-max-size", NUMBER, log_max_size),
    OPTION("log-max-file", NUMBER, log_max_file),
    OPTION("remove-tape", STRING, remove_tape),
    OPTION("container-dir", STRING, container_dir),
    OPTION("trash-dir", STRING, trash_dir),
    OPTION("names-dir", STRING, names_dir),
    OPTION("events", STRING, events),
    OPTION("events-max-size", NUMBER, events_max_size),
    OPTION("event-lines", STRING, event_lines),
    OPTION("exec-id", STRING, exec_id),
    OPTION("fallback-socket", STRING, fallback_socket),
    OPTION("health-tape", STRING, health_tape),
    OPTION("health-file", STRING, health_file),
    OPTION("health-interval", NUMBER, health_interval),
    OPTION("health-timeout", NUMBER, health_timeout),
    OPTION("health-timeout-text", STRING, health_timeout_text),
    OPTION("health-start-period", NUMBER, health_start_period),
    OPTION("health-start-interval", NUMBER, health_start_interval),
    OPTION("health-retries", NUMBER, health_retries),
    OPTION("health-on-failure", ACTION, health_on_failure),
    OPTION("on-exit", STRING, on_exit),
    OPTION("lock-fd", NUMBER, lock_fd),
    OPTION("client-fd", NUMBER, client_fd),
    OPTION("user-ns-fd", NUMBER, user_ns_fd),
    OPTION("net-ns-fd", NUMBER, net_ns_fd),
    OPTION("stdio-fd", NUMBER, stdio_fd),
    OPTION("durable", NUMBER, durable),
    OPTION("tty", NUMBER, tty),
    OPTION("stdin", NUMBER, keep_stdin),
    OPTION("stdin-once", NUMBER, stdin_once),
    OPTION("restart", POLICY, restart),
    OPTION("restart-max", NUMBER, restart_max),
    OPTION("stop-signal", NUMBER, stop_signal),
    OPTION("stop-timeout", NUMBER, stop_timeout),
};

static const char *const policies[] = {"no", "always", "unless-stopped", "on-failure"};

static const char *const actions[] = {"none", "kill", "restart", "stop"};

const char *args_policy(int64_t policy)
{
	return policies[policy];
}

static bool parse_number(const char *value, int64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoll(value, &end, 10);
	return !errno && *value && !*end;
}

static bool parse_word(const char *const words[4], const char *value, int64_t *number)
{
	for (*number = 0; *number < 4; ++*number)
		if (!strcmp(value, words[*number]))
			return true;
	return false;
}

static bool set(struct config *config, const struct option *option, const char *value)
{
	void *field = (char *)config + option->offset;

	if (option->kind == NUMBER)
		return parse_number(value, field);
	if (option->kind == POLICY || option->kind == ACTION)
		return parse_word(option->kind == POLICY ? policies : actions, value, field);
	*(const char **)field = value;
	return true;
}

/* Takes "--name=value" apart; the option, or NULL if there is none of that name. */
static const struct option *find(const char *argument, const char **value)
{
	const char *equals = strchr(argument, '=');
	size_t i, length;

	if (strncmp(argument, "--", 2) != 0 || !equals)
		return NULL;
	argument += 2;
	length = (size_t)(equals - argument);
	*value = equals + 1;
	for (i = 0; i < sizeof options / sizeof *options; i++)
		if (strlen(options[i].name) == length && !strncmp(options[i].name, argument, length))
			return &options[i];
	return NULL;
}

static void set_defaults(struct config *config)
{
	config->lock_fd = config->client_fd = config->user_ns_fd = config->net_ns_fd = -1;
	config->stdio_fd[0] = config->stdio_fd[1] = config->stdio_fd[2] = -1;
	config->stop_signal = 15;
	config->stop_timeout = 10;
	config->log_max_file = 1;
	config->health_interval = config->health_timeout = 30000;
	config->health_start_interval = 5000;
	config->health_retries = 3;
	config->id = config->boot_id = "";
}

/* Fills CONFIG; NULL, or the argument that is wrong. */
const char *args_parse(struct config *config, int argc, char **argv)
{
	static const char hook_argument[] = "--on-exit-arg=";
	const struct option *option;
	const char *value;
	int i;

	set_defaults(config);
	for (i = 1; i < argc; i++) {
		if (!strncmp(argv[i], hook_argument, sizeof hook_argument - 1)) {
			if (config->on_exit_count == MAX_EXIT_ARGS)
				return argv[i];
			config->on_exit_args[config->on_exit_count++] = argv[i] + sizeof hook_argument - 1;
			continue;
		}
		option = find(argv[i], &value);
		if (!option || !set(config, option, value))
			return argv[i];
	}
	if (config->stdio_fd[0] >= 0)
		for (i = 1; i < 3; i++)
			config->stdio_fd[i] = config->stdio_fd[0] + i;
	if (!config->launch)
		return "--launch is missing";
	return config->tape ? NULL : "--tape is missing";
}
