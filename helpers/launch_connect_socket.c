/* Connections made in the host's network namespace: the socket that takes the place of the caller's.
 *
 * A socket of the host's namespace is not given away just so: with a connect to AF_UNSPEC it could be made free again,
 * and then with connect, MSG_FASTOPEN, listen or io_uring be turned to other peers, the host's loopback among them.
 * No filter of system calls can keep that back, as calls read their descriptors and addresses again.  So the
 * socket itself is held, in the best way that the kernel allows:
 *
 *     CONNECT_LOCKED  a locked socket filter: it hears the peer that the policy has agreed to and nobody else
 *     CONNECT_BOUND   where the kernel wants CAP_NET_ADMIN over the host for that (commit 5d39580f68e6 of 2026, also in
 *                     updates of older kernels): bound to the device that leads to the peer, which takes CAP_NET_RAW
 *                     to undo.  It can be turned to others behind that device, but not to the loopback.
 *
 * Rules say which of them will do (enum connect_way).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launch.h"
#include "launch_connect.h"

#ifndef SIOCGSKNS
#define SIOCGSKNS 0x894C /* Linux 4.10 */
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62
#endif

/* What a program may have set before it connects.  A buffer's size is doubled by the kernel when it is set. */
static const struct {
	int level, name;
	bool doubled;
} options[] = {
    {SOL_SOCKET, SO_SNDBUF, true},
    {SOL_SOCKET, SO_RCVBUF, true},
    {SOL_SOCKET, SO_KEEPALIVE, false},
    {SOL_SOCKET, SO_OOBINLINE, false},
    {SOL_SOCKET, SO_PRIORITY, false},
    {SOL_SOCKET, SO_RCVLOWAT, false},
    {SOL_SOCKET, SO_REUSEADDR, false},
    {SOL_SOCKET, SO_TIMESTAMP, false},
    {SOL_SOCKET, SO_ZEROCOPY, false},
    {IPPROTO_IP, IP_TOS, false},
    {IPPROTO_IP, IP_TTL, false},
    {IPPROTO_IP, IP_MTU_DISCOVER, false},
    {IPPROTO_IP, IP_RECVERR, false},
    {IPPROTO_TCP, TCP_NODELAY, false},
    {IPPROTO_TCP, TCP_CORK, false},
    {IPPROTO_TCP, TCP_KEEPIDLE, false},
    {IPPROTO_TCP, TCP_KEEPINTVL, false},
    {IPPROTO_TCP, TCP_KEEPCNT, false},
    {IPPROTO_TCP, TCP_SYNCNT, false},
    {IPPROTO_TCP, TCP_LINGER2, false},
    {IPPROTO_TCP, TCP_WINDOW_CLAMP, false},
    {IPPROTO_TCP, TCP_QUICKACK, false},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, false},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, false},
    {IPPROTO_IPV6, IPV6_V6ONLY, false},
    {IPPROTO_IPV6, IPV6_TCLASS, false},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, false},
    {IPPROTO_IPV6, IPV6_MTU_DISCOVER, false},
    {IPPROTO_IPV6, IPV6_RECVERR, false},
};

static int number_of(int fd, int level, int name, int missing)
{
	int value = 0;
	socklen_t size = sizeof(value);
	return getsockopt(fd, level, name, &value, &size) < 0 ? missing : value;
}

/* Whether FD has no address of its own yet. */
static bool unbound(int fd)
{
	unsigned char name[CONNECT_ADDRESS_MAX] = {0};
	static const unsigned char nothing[16];
	socklen_t size = sizeof(name);
	struct connect_target own;
	if (getsockname(fd, (struct sockaddr *)name, &size) < 0 || !connect_target(name, size, &own))
		return false;
	return own.port == 0 && memcmp(own.bytes, nothing, sizeof(nothing)) == 0;
}

/* Whether FD is of our own namespace, or one in which we have no say, as it is mostly with the host's.  The container's
 * belongs to a user namespace below ours. */
static bool of_host(int fd)
{
	static struct stat own;
	struct stat other;
	cleanup_fd int namespace = ioctl(fd, SIOCGSKNS);
	if (namespace < 0)
		return errno == EPERM;
	if (!own.st_ino && stat("/proc/self/ns/net", &own) < 0)
		return true;
	return fstat(namespace, &other) < 0 || own.st_ino == other.st_ino;
}

/* Whether FD is a TCP socket that has not been used and that another of FAMILY can stand in for.  *OURS: one of
 * ours that failed to connect, and whose failure has been told. */
bool connect_replaceable(int fd, int family, bool *ours)
{
	struct tcp_info info;
	socklen_t size = sizeof(info), none = 0;
	struct pollfd state = {fd, 0, 0};
	*ours = false;
	if (number_of(fd, SOL_SOCKET, SO_TYPE, 0) != SOCK_STREAM || number_of(fd, SOL_SOCKET, SO_DOMAIN, 0) != family ||
	    number_of(fd, SOL_SOCKET, SO_PROTOCOL, 0) != IPPROTO_TCP)
		return false;
	memset(&info, 0, sizeof(info));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 || info.tcpi_state != TCP_CLOSE)
		return false;
	if (of_host(fd)) {
		*ours = true;
		return poll(&state, 1, 0) >= 0 && !(state.revents & POLLERR);
	}
	return unbound(fd) && number_of(fd, SOL_SOCKET, SO_BINDTOIFINDEX, 0) == 0 &&
	       number_of(fd, SOL_SOCKET, SO_MARK, 0) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER /* SO_GET_FILTER */, NULL, &none) == 0 && none == 0;
}

static void copy_value(int from, int to, int level, int name, void *ours, void *theirs, socklen_t room)
{
	socklen_t mine = room, other = room;
	memset(ours, 0, room);
	memset(theirs, 0, room);
	if (getsockopt(from, level, name, theirs, &other) < 0 || getsockopt(to, level, name, ours, &mine) < 0)
		return;
	if (mine != other || memcmp(ours, theirs, mine) != 0)
		setsockopt(to, level, name, theirs, other);
}

/* What the options are of a new socket, which FRESH is. */
static const int *defaults(int fresh, bool four)
{
	static int values[2][sizeof(options) / sizeof(options[0])];
	static bool known[2];
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]) && !known[four]; i++)
		values[four][i] = number_of(fresh, options[i].level, options[i].name, -1);
	known[four] = true;
	return values[four];
}

/* Give TO, a new socket, what was set on FROM; what the kernel will not have is left out, as a program can do without.
 */
static void copy_options(int from, int to, bool four)
{
	const int *values = defaults(to, four);
	union {
		struct timeval time;
		struct linger linger;
		char text[16]; /* TCP_CA_NAME_MAX */
	} a, b;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (four && options[i].level == IPPROTO_IPV6)
			continue;
		int level = options[i].level, name = options[i].name;
		int wanted = number_of(from, level, name, -1);
		if (wanted == values[i] || wanted < 0)
			continue;
		wanted = options[i].doubled ? wanted / 2 : wanted;
		setsockopt(to, level, name, &wanted, sizeof(wanted));
	}
	copy_value(from, to, SOL_SOCKET, SO_RCVTIMEO, &a, &b, sizeof(struct timeval));
	copy_value(from, to, SOL_SOCKET, SO_SNDTIMEO, &a, &b, sizeof(struct timeval));
	copy_value(from, to, SOL_SOCKET, SO_LINGER, &a, &b, sizeof(struct linger));
	copy_value(from, to, IPPROTO_TCP, TCP_CONGESTION, &a, &b, sizeof(a.text));
}

/* From now on FD hears TARGET alone, and nobody can change that. */
static bool lock_to(int fd, const struct connect_target *target)
{
	struct sock_filter code[CONNECT_LOCK_MAX];
	struct sock_fprog program = {0, code};
	int on = 1;
	program.len = (unsigned short)connect_lock(target, code);
	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0 &&
	       setsockopt(fd, SOL_SOCKET, SO_LOCK_FILTER, &on, sizeof(on)) == 0;
}

/* From now on FD uses the device that leads to TARGET alone, and only CAP_NET_RAW over the host can change that. */
static bool bind_towards(int fd, const struct connect_target *target)
{
	int device = connect_device(target);
	return device > 0 && setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, sizeof(device)) == 0;
}

static int connect_to(int fd, const struct connect_target *target)
{
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(target->port)};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(target->port)};
	if (target->family == AF_INET) {
		memcpy(&four.sin_addr, target->bytes, 4);
		return connect(fd, (struct sockaddr *)&four, sizeof(four));
	}
	memcpy(&six.sin6_addr, target->bytes, 16);
	if (target->four) {
		memset(six.sin6_addr.s6_addr, 0, 10);
		memset(six.sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(six.sin6_addr.s6_addr + 12, target->bytes, 4);
	}
	return connect(fd, (struct sockaddr *)&six, sizeof(six));
}

/* Begin to connect a new socket, LIKE the caller's, to TARGET, held in that WAY.  It goes to *MADE: 0 it is connected,
 * -EINPROGRESS it is on its way; another negative errno, and none was made: that of connect, or -ENOSYS without one. */
int connect_start(int like, const struct connect_target *target, enum connect_way way, int *made)
{
	int fd = socket(target->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*made = -1;
	if (fd < 0)
		return -ENOSYS;
	copy_options(like, fd, target->family == AF_INET);
	bool held = lock_to(fd, target) || (way == CONNECT_BOUND && bind_towards(fd, target));
	int result = !held ? -ENOSYS : connect_to(fd, target) < 0 ? -errno : 0;
	if (result == 0 || result == -EINPROGRESS)
		*made = fd;
	else
		close(fd);
	return result;
}
