/* Connections made in the host's network namespace: calls, addresses, policy.  Pure. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch_connect.h"

/* Entries of sixteen bytes: u32 audit architecture, number, kind, zero.  The kind of a call, or -1. */
int connect_call(const char *calls, size_t size, uint32_t arch, uint32_t number)
{
	for (size_t at = 0; at + 16 <= size; at += 16) {
		uint32_t entry[4];
		memcpy(entry, calls + at, sizeof(entry));
		if (entry[0] == arch && entry[1] == number && entry[2] <= CONNECT_SOCKETCALL)
			return (int)entry[2];
	}
	return -1;
}

/* Read a socket address; false if it is of another family, or one that the kernel refuses. */
bool connect_target(const unsigned char *address, size_t size, struct connect_target *out)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	struct sockaddr_in four;
	struct sockaddr_in6 six;
	sa_family_t family;
	memset(out, 0, sizeof(*out));
	if (size < sizeof(family))
		return false;
	memcpy(&family, address, sizeof(family));
	out->family = family;
	if (family == AF_INET && size >= sizeof(four)) {
		memcpy(&four, address, sizeof(four));
		memcpy(out->bytes, &four.sin_addr, 4);
		out->port = ntohs(four.sin_port);
		out->four = true;
		return true;
	}
	if (family != AF_INET6 || size < sizeof(six))
		return false;
	memcpy(&six, address, sizeof(six));
	out->port = ntohs(six.sin6_port);
	out->four = memcmp(&six.sin6_addr, mapped, sizeof(mapped)) == 0;
	if (out->four)
		memcpy(out->bytes, six.sin6_addr.s6_addr + 12, 4);
	else
		memcpy(out->bytes, &six.sin6_addr, 16);
	return true;
}

static bool covers(const struct connect_rule *rule, const struct connect_target *target)
{
	size_t whole = rule->prefix / 8, bits = rule->prefix % 8;
	if (rule->version != (target->four ? 4 : 6) || target->port < rule->first || target->port > rule->last)
		return false;
	if (memcmp(rule->bytes, target->bytes, whole) != 0)
		return false;
	return bits == 0 || ((rule->bytes[whole] ^ target->bytes[whole]) >> (8 - bits)) == 0;
}

/* Which way a connection goes; what no rule knows goes the container's own. */
enum connect_way connect_way(const struct connect_rule *rules, size_t count, const struct connect_target *target)
{
	for (size_t i = 0; i < count; i++)
		if (covers(&rules[i], target))
			return (enum connect_way)rules[i].way;
	return CONNECT_OWN;
}

/* Whether SIZE bytes are rules. */
bool connect_rules_check(const struct connect_rule *rules, size_t size)
{
	if (size % sizeof(*rules))
		return false;
	for (size_t i = 0; i < size / sizeof(*rules); i++)
		if ((rules[i].version != 4 && rules[i].version != 6) || rules[i].way > CONNECT_BOUND || rules[i].zero ||
		    rules[i].prefix > (rules[i].version == 4 ? 32 : 128))
			return false;
	return true;
}

static uint32_t word(const unsigned char *bytes)
{
	uint32_t value;
	memcpy(&value, bytes, sizeof(value));
	return ntohl(value);
}

/* A filter for the socket itself: it hears TARGET and nobody else.  The number of its instructions.
 *
 * Locked to the socket it makes it safe to give away: see launch_connect_socket.c. */
size_t connect_lock(const struct connect_target *target, struct sock_filter out[CONNECT_LOCK_MAX])
{
	const uint32_t net = (uint32_t)SKF_NET_OFF;
	const uint32_t words = target->four ? 1 : 4, from = target->four ? 12 : 8;
	const uint32_t tests = 2 + words; /* each jumps to the last instruction if it fails */
	const unsigned char last = (unsigned char)(3 + 2 * (tests - 1) + 1);
	size_t n = 0;
	out[n++] = (struct sock_filter){BPF_LD | BPF_B | BPF_ABS, 0, 0, net};
	out[n++] = (struct sock_filter){BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf0};
	out[n] = (struct sock_filter){BPF_JMP | BPF_JEQ | BPF_K, 0, (unsigned char)(last - n - 1),
				      target->four ? 0x40u : 0x60u};
	n++;
	for (uint32_t i = 0; i < words; i++) {
		out[n++] = (struct sock_filter){BPF_LD | BPF_W | BPF_ABS, 0, 0, net + from + 4 * i};
		out[n] = (struct sock_filter){BPF_JMP | BPF_JEQ | BPF_K, 0, (unsigned char)(last - n - 1),
					      word(target->bytes + 4 * i)};
		n++;
	}
	out[n++] = (struct sock_filter){BPF_LD | BPF_H | BPF_ABS, 0, 0, 0}; /* the source port: data begins with TCP */
	out[n] = (struct sock_filter){BPF_JMP | BPF_JEQ | BPF_K, 0, (unsigned char)(last - n - 1), target->port};
	n++;
	out[n++] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, 0xffffffffu};
	out[n++] = (struct sock_filter){BPF_RET | BPF_K, 0, 0, 0};
	return n;
}

/* A line "tfd: N events: HEX data: HEX pos:N ino:HEX sdev:HEX" of an epoll instance's fdinfo, if it is about the
 * descriptor FD and the socket with INODE. */
bool connect_watch(const char *line, int fd, uint64_t inode, struct connect_watch *out)
{
	int number;
	unsigned int events;
	unsigned long long data;
	unsigned long found = 0;
	if (sscanf(line, "tfd: %d events: %x data: %llx pos:%*d ino:%lx", &number, &events, &data, &found) != 4 ||
	    number != fd || found != inode)
		return false;
	out->events = events;
	out->data = data;
	return true;
}

/* The flags of a descriptor, those that are its own among them, from its fdinfo. */
bool connect_flags(const char *fdinfo, unsigned int *flags)
{
	const char *at = strstr(fdinfo, "flags:");
	char *end;
	if (!at)
		return false;
	unsigned long value = strtoul(at + 6, &end, 8);
	*flags = (unsigned int)value;
	return end != at + 6 && *end == '\n';
}
