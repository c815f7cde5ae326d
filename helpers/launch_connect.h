/* Connections made in the host's network namespace: what its parts share.  See launch_connect.c. */
#ifndef ROOTLESS_LAUNCH_CONNECT_H
#define ROOTLESS_LAUNCH_CONNECT_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define CONNECT_RULES_MAX 4096
#define CONNECT_LOCK_MAX 16 /* instructions; 15 for IPv6 */
#define CONNECT_WATCHES_MAX 8
#define CONNECT_ADDRESS_MAX 128 /* the kernel's limit, sizeof(struct sockaddr_storage) */

/* How a rule lets connections go through the host's namespace, by what holds the socket to its peer: see
 * launch_connect_socket.c. */
enum connect_way { CONNECT_OWN, CONNECT_LOCKED, CONNECT_BOUND };

enum connect_call { CONNECT_DIRECT, CONNECT_SOCKETCALL };

/* Where a call wants to go. */
struct connect_target {
	int family;		 /* of the address: AF_INET or AF_INET6 */
	bool four;		 /* it is an IPv4 address, in the first four bytes of bytes */
	unsigned char bytes[16]; /* network order */
	uint16_t port;
};

/* One line of the policy, as the engine writes it (rootless/plan/fastconnect.py): the first that matches decides. */
struct connect_rule {
	uint8_t version, prefix, way, zero;
	uint16_t first, last; /* ports */
	unsigned char bytes[16];
};

/* A registration of the caller's socket in an epoll instance of the caller's. */
struct connect_watch {
	int epoll;
	uint32_t events;
	uint64_t data;
};

/* launch_connect_rules.c: pure */
int connect_call(const char *calls, size_t size, uint32_t arch, uint32_t number);
bool connect_target(const unsigned char *address, size_t size, struct connect_target *out);
enum connect_way connect_way(const struct connect_rule *rules, size_t count, const struct connect_target *target);
bool connect_rules_check(const struct connect_rule *rules, size_t size);
size_t connect_lock(const struct connect_target *target, struct sock_filter out[CONNECT_LOCK_MAX]);
bool connect_watch(const char *line, int fd, uint64_t inode, struct connect_watch *out);
bool connect_flags(const char *fdinfo, unsigned int *flags);

/* launch_connect_socket.c */
bool connect_replaceable(int fd, int family, bool *ours);
int connect_start(int like, const struct connect_target *target, enum connect_way way, int *made);

/* launch_connect_route.c */
int connect_device(const struct connect_target *target);

/* launch_connect_watch.c */
int connect_watches(pid_t pid, int fd, uint64_t inode, struct connect_watch out[CONNECT_WATCHES_MAX]);
bool connect_move_watches(int process, int number, int socket, const struct connect_watch *watches, int count);

/* launch_connect.c */
int connect_take(int process, int number);

#endif
