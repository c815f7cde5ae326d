/* A launcher that misbehaves on request.  The "tape" is a text: a word for what to do, then for "run", "tty" and "group" the
 * arguments of the program, each ended by a NUL. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STATUS 4

static void say(char type, uint32_t pid)
{
	unsigned char message[5] = {(unsigned char)type, pid & 255, pid >> 8 & 255, pid >> 16 & 255, pid >> 24};

	if (send(STATUS, message, sizeof message, 0) < 0)
		_exit(99);
}

static void fail(unsigned opcode, unsigned error, const char *text, size_t length)
{
	static unsigned char message[9000] = {'E'};

	message[5] = opcode;
	message[9] = error;
	memcpy(message + 13, text, length);
	if (send(STATUS, message, 13 + length, 0) < 0)
		_exit(99);
}

static void give_terminal(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY), slave;
	char type = 'C';
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec part = {&type, 1};
	struct msghdr header = {
	    .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control.buffer};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&header);

	if (master < 0 || unlockpt(master) < 0 || (slave = open(ptsname(master), O_RDWR | O_NOCTTY)) < 0)
		_exit(98);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &master, sizeof master);
	if (sendmsg(STATUS, &header, 0) < 0)
		_exit(97);
	setsid();
	ioctl(slave, TIOCSCTTY, 0);
	for (int fd = 0; fd < 3; fd++)
		dup2(slave, fd);
	close(slave);
	close(master);
}

static void start(char *text, size_t size, int tty)
{
	char *argv[64], *at = text;
	int count = 0, go[2];
	char byte;
	pid_t pid;

	for (; at < text + size && count < 63; at += strlen(at) + 1)
		argv[count++] = at;
	argv[count] = NULL;
	if (pipe(go) < 0)
		_exit(96);
	pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	if (pid > 0) {
		say('P', (uint32_t)pid);
		if (write(go[1], "g", 1) != 1)
			_exit(95);
		_exit(0);
	}
	close(go[1]);
	if (read(go[0], &byte, 1) != 1)
		_exit(94);
	if (tty)
		give_terminal();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fcntl(STATUS, F_SETFD, FD_CLOEXEC);
	close(go[0]);
	close(3);
	execv(argv[0], argv);
	fail(42, 2, "exec: no such program", 21);
	_exit(127);
}

int main(void)
{
	static char tape[65536];
	ssize_t size = pread(3, tape, sizeof tape - 1, 0);
	size_t word = strlen(tape) + 1;

	if (size <= 0)
		return 93;
	if (!strcmp(tape, "run"))
		start(tape + word, (size_t)size - word, 0);
	if (!strcmp(tape, "tty"))
		start(tape + word, (size_t)size - word, 1);
	if (!strcmp(tape, "group")) { /* a control group, then the arguments of the program */
		char *group = tape + word, message[4096] = "G";
		size_t length = strlen(group);

		memcpy(message + 1, group, length);
		send(STATUS, message, 1 + length, 0);
		start(group + length + 1, (size_t)size - word - length - 1, 0);
	}
	if (!strcmp(tape, "mute"))
		return 1; /* neither a child nor a reason */
	if (!strcmp(tape, "crash"))
		raise(SIGKILL);
	if (!strcmp(tape, "hang"))
		poll(NULL, 0, -1);
	if (!strcmp(tape, "huge-error")) {
		static char text[8000];

		memset(text, 1, sizeof text); /* six bytes each in JSON */
		fail(20, 5, text, sizeof text);
		return 125;
	}
	if (!strcmp(tape, "garbage")) {
		send(STATUS, "?", 1, 0);
		send(STATUS, "P", 1, 0);
		send(STATUS, "E", 1, 0);
		send(STATUS, "Ptoo much of it", 15, 0);
		return 1;
	}
	if (!strcmp(tape, "sync")) {
		send(STATUS, "S\1\0\0\0", 5, 0);
		char answer = 0;
		if (recv(STATUS, &answer, 1, 0) != 1 || answer != 'G')
			return 92;
		fail(9, 0, "answered", 8);
		return 125;
	}
	return 91;
}
