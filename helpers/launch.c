/* launch: play a tape.
 *
 *     launch TAPE_FD STATUS_FD
 *
 * TAPE_FD is a file or memfd.  STATUS_FD is a SEQPACKET socket to the supervisor, or -1: then an error is
 * one line on stderr.  Messages, first byte the type: 'P' u32 pid of the child that goes on, 'C' with the
 * pty master attached, 'S' u32 token (answered by one byte), 'E' u32 operation, u32 opcode, u32 errno and a
 * reason, and of a program that is minded (launch_mind.c) 'X' u32 code.  The end of the socket means that the
 * container's program was executed.
 *
 * Exit status: 0 when the tape ended or a child went on, 125 on failure, 126 and 127 as exec says.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "launch.h"
#include "tape.h"

/* What ERROR means, as the middle of a sentence: libc's text begins with a capital. */
const char *error_text(int error)
{
	static char text[128];
	snprintf(text, sizeof(text), "%s", strerror(error));
	if (text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z')
		text[0] = (char)(text[0] - 'A' + 'a');
	return text;
}

/* Note why the operation failed: "what object: errno"; returns -1 with errno set. */
int fail(struct player *p, int error, const char *what, const char *object)
{
	const char *text = error_text(error);
	if (object && *object)
		snprintf(p->reason, sizeof(p->reason), "%s %s: %s", what, object, text);
	else
		snprintf(p->reason, sizeof(p->reason), "%s: %s", what, text);
	errno = error;
	return -1;
}

int fail_text(struct player *p, int error, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(p->reason, sizeof(p->reason), format, args);
	va_end(args);
	errno = error;
	return -1;
}

/* Send one datagram, or less than a stream refuses: TYPE, then DATA, with a descriptor if FD is not -1. */
int send_with_fd(int socket, char type, const void *data, size_t size, int fd)
{
	struct iovec io[2] = {{&type, 1}, {(void *)data, size}};
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = {.msg_iov = io, .msg_iovlen = size ? 2 : 1};
	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		message.msg_control = control.buffer;
		message.msg_controllen = sizeof(control.buffer);
		struct cmsghdr *c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	ssize_t sent;
	do
		sent = sendmsg(socket, &message, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -1 : 0;
}

/* The same to the supervisor.  No supervisor: nothing. */
int send_message(struct player *p, char type, const void *data, size_t size, int fd)
{
	return p->status_fd < 0 ? 0 : send_with_fd(p->status_fd, type, data, size, fd);
}

/* Write DATA in a single write(2), as the files of /proc want it. */
int write_file(const char *path, const void *data, size_t size)
{
	cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, data, size);
	if (n >= 0 && (size_t)n != size)
		errno = EIO;
	return n >= 0 && (size_t)n == size ? 0 : -1;
}

static void report(struct player *p, const struct op *op, int error)
{
	char message[sizeof(p->reason) + 16];
	uint32_t head[3] = {op->index, op->code, (uint32_t)error};
	size_t size = strlen(p->reason);
	if (p->status_fd < 0) {
		char line[sizeof(p->reason) + 64];
		int n = snprintf(line, sizeof(line), "launch: %s: %s\n", op->info ? op->info->name : "tape", p->reason);
		if (n > 0 && write(2, line, (size_t)n) < 0)
			return;
		return;
	}
	memcpy(message, head, sizeof(head));
	memcpy(message + sizeof(head), p->reason, size);
	send_message(p, 'E', message, sizeof(head) + size, -1);
}

static int read_tape(struct player *p, int fd)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -1;
	if (st.st_size <= 0 || st.st_size > TAPE_MAX) {
		errno = EBADMSG;
		return -1;
	}
	p->size = (size_t)st.st_size;
	p->tape = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->tape == MAP_FAILED)
		return -1;
	for (size_t done = 0; done < p->size;) {
		ssize_t n = pread(fd, p->tape + done, p->size - done, (off_t)done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			errno = n ? errno : EBADMSG;
			return -1;
		}
		done += (size_t)n;
	}
	return tape_check(p);
}

static int play(struct player *p)
{
	struct op op = {0};
	size_t offset = 32;
	for (uint32_t index = 0; tape_next(p, &offset, &op) > 0; index++) {
		op.index = index;
		p->reason[0] = '\0';
		if (op.info->run(p, &op) == 0)
			continue;
		int error = errno;
		if (!p->reason[0])
			fail(p, error, "cannot go on", "");
		report(p, &op, error);
		return p->exit_code;
	}
	return 0;
}

static int number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	return *text && !*end && value >= -1 && value < 65536 ? (int)value : -2;
}

int main(int argc, char **argv)
{
	static struct player p = {.root_fd = -1,
				  .console_fd = -1,
				  .owner_fd = -1,
				  .connect_fd = -1,
				  .attach = {.connection = -1, .namespace = -1, .door = -1},
				  .program_control = -1,
				  .program_ready = -1,
				  .exit_code = 125};
	struct op none = {.index = UINT32_MAX};
	if (argc != 3 || number(argv[1]) < 0 || number(argv[2]) < -1) {
		static const char usage[] = "usage: launch TAPE_FD STATUS_FD\n";
		return write(2, usage, sizeof(usage) - 1) < 0 ? 125 : 125;
	}
	p.umask = umask(0);
	p.status_fd = number(argv[2]);
	if (p.status_fd >= 0 && fcntl(p.status_fd, F_SETFD, FD_CLOEXEC) < 0)
		return 125;
	int tape = number(argv[1]);
	if (read_tape(&p, tape) < 0) {
		fail(&p, errno, "cannot read the tape", "");
		report(&p, &none, errno);
		return 125;
	}
	close(tape);
	return play(&p);
}
