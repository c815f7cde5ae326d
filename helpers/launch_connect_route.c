/* Connections made in the host's network namespace: the device that leads to an address. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launch.h"
#include "launch_connect.h"

struct question {
	struct nlmsghdr head;
	struct rtmsg route;
	struct rtattr attribute;
	unsigned char bytes[16];
};

/* The device of an answer, if that is a way to a neighbour; 0 if it is an error, or leads to the host itself. */
static int device_of(const struct nlmsghdr *head, size_t size)
{
	const struct rtmsg *route = NLMSG_DATA(head);
	if (!NLMSG_OK(head, size) || head->nlmsg_type != RTM_NEWROUTE ||
	    head->nlmsg_len < NLMSG_LENGTH(sizeof(*route)) || route->rtm_type != RTN_UNICAST)
		return 0;
	size_t left = RTM_PAYLOAD(head);
	for (const struct rtattr *a = RTM_RTA(route); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == RTA_OIF && RTA_PAYLOAD(a) == sizeof(int)) {
			int index;
			memcpy(&index, RTA_DATA(a), sizeof(index));
			return index;
		}
	return 0;
}

/* The index of the device through which TARGET is a neighbour, or behind one; 0 if there is none. */
int connect_device(const struct connect_target *target)
{
	static int fd = -1;
	union {
		struct nlmsghdr head;
		char room[4096];
	} answer;
	struct question q = {.head = {.nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST}};
	unsigned short size = target->four ? 4 : 16;
	if (fd < 0)
		fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	q.route.rtm_family = target->four ? AF_INET : AF_INET6;
	q.route.rtm_dst_len = (unsigned char)(size * 8);
	q.attribute.rta_type = RTA_DST;
	q.attribute.rta_len = (unsigned short)RTA_LENGTH(size);
	memcpy(q.bytes, target->bytes, size);
	q.head.nlmsg_len = (uint32_t)(NLMSG_LENGTH(sizeof(q.route)) + RTA_LENGTH(size));
	if (fd < 0 || send(fd, &q, q.head.nlmsg_len, 0) < 0)
		return 0;
	ssize_t n = recv(fd, &answer, sizeof(answer), 0);
	return n < (ssize_t)sizeof(answer.head) ? 0 : device_of(&answer.head, (size_t)n);
}
