// Netlink sockets: questions and answers, and waiting for them by every route.
#include "check.h"
#include <ifaddrs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
typedef struct { struct nlmsghdr h; struct ifinfomsg i; } Question;
static Question ask_for(int kind, int flags, unsigned seq) {
    Question q; memset(&q, 0, sizeof q);
    q.h = (struct nlmsghdr){.nlmsg_len = sizeof q, .nlmsg_type = kind, .nlmsg_flags = NLM_F_REQUEST | flags, .nlmsg_seq = seq};
    return q;
}
// Reads an answer to its end; tells what it is made of.
static void answer(const char *of, int s, unsigned seq) {
    int links = 0, others = 0, over = 0, error = 0, foreign = 0; _Alignas(8) char room[32768];
    struct sockaddr_nl own; socklen_t len = sizeof own; getsockname(s, (void *)&own, &len);
    while (!over) {
        struct sockaddr_nl from; struct iovec v = {room, sizeof room}; struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1};
        ssize_t peeked = recv(s, 0, 0, MSG_PEEK | MSG_TRUNC); ssize_t got = recvmsg(s, &m, 0);
        if (got < 0) { SAY("%s: errno %d", of, errno); return; }
        MUST(peeked == got && m.msg_namelen == sizeof from && from.nl_family == AF_NETLINK && from.nl_pid == 0 && from.nl_groups == 0);
        for (struct nlmsghdr *h = (void *)room; NLMSG_OK(h, got); h = NLMSG_NEXT(h, got)) {
            foreign += h->nlmsg_seq != seq || h->nlmsg_pid != own.nl_pid;
            if (h->nlmsg_type == NLMSG_DONE) over = 1;
            else if (h->nlmsg_type == NLMSG_ERROR) { over = 1; error = ((struct nlmsgerr *)NLMSG_DATA(h))->error; }
            else if (h->nlmsg_type == RTM_NEWLINK) { links++; over = !(h->nlmsg_flags & NLM_F_MULTI); }
            else others++;
        }
    }
    SAY("%s: links %d others %d error %d foreign %d", of, links > 0, others > 0, error, foreign);
}
static int netlink(int flags) { int s = socket(AF_NETLINK, SOCK_RAW | flags, NETLINK_ROUTE); MUST(s >= 0); return s; }
static int polled(int s, int ms) { struct pollfd p = {s, POLLIN | POLLOUT, 0}; int n = poll(&p, 1, ms); return n * 1000 + p.revents; }
static void *reader(void *s) { answer("in a thread", *(int *)s, 7); return 0; }
int main(void) {
    struct ifaddrs *all, *a; int loopback = 0; MUST(getifaddrs(&all) == 0);
    for (a = all; a; a = a->ifa_next) loopback |= !strcmp(a->ifa_name, "lo") && a->ifa_addr && a->ifa_addr->sa_family == AF_INET;
    freeifaddrs(all); SAY("getifaddrs loopback %d index %d", loopback, if_nametoindex("lo"));

    int s = netlink(SOCK_CLOEXEC); struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR}; socklen_t len = sizeof own;
    SAY("bind %d", bind(s, (void *)&own, sizeof own)); MUST(getsockname(s, (void *)&own, &len) == 0); SAY("name %d %d %d", len, own.nl_family, own.nl_pid == (unsigned)getpid());
    int group = RTNLGRP_IPV6_IFADDR; SAY("join %d leave %d", setsockopt(s, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group), setsockopt(s, SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, &group, sizeof group));
    int value = 0; len = sizeof value; SAY("type %d %d", getsockopt(s, SOL_SOCKET, SO_TYPE, &value, &len), value); SAY("domain %d %d", getsockopt(s, SOL_SOCKET, SO_DOMAIN, &value, &len), value); SAY("protocol %d %d", getsockopt(s, SOL_SOCKET, SO_PROTOCOL, &value, &len), value);
    value = 1 << 20; SAY("buffer %d", setsockopt(s, SOL_SOCKET, SO_RCVBUF, &value, sizeof value));

    SAY("quiet %d", polled(s, 20)); int e = epoll_create1(0); struct epoll_event v = {.events = EPOLLIN, .data.u32 = 5}; SAY("add %d", epoll_ctl(e, EPOLL_CTL_ADD, s, &v)); SAY("epoll %d", epoll_wait(e, &v, 1, 20));
    char none[16]; SAY("nothing %zd %d", recv(s, none, sizeof none, MSG_DONTWAIT), errno);
    Question q = ask_for(RTM_GETLINK, NLM_F_DUMP, 1); SAY("send %zd", send(s, &q, sizeof q, 0)); SAY("asked %d", polled(s, 1000));
    v.data.u32 = 0; int n = epoll_wait(e, &v, 1, 1000); SAY("epoll %d %d %d", n, v.events, v.data.u32); answer("all links", s, 1); SAY("after %d %d", polled(s, 0), epoll_wait(e, &v, 1, 0));

    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK}; q = ask_for(RTM_GETLINK, 0, 2); q.i.ifi_index = 1; SAY("sendto %zd", sendto(s, &q, sizeof q, 0, (void *)&kernel, sizeof kernel)); answer("one link", s, 2);
    q = ask_for(RTM_GETLINK, 0, 3); q.i.ifi_index = 12345; SAY("write %zd", write(s, &q, sizeof q)); answer("no link", s, 3);
    q = ask_for(RTM_GETROUTE, NLM_F_DUMP, 4); struct iovec w = {&q, sizeof q}; struct msghdr m = {.msg_name = &kernel, .msg_namelen = sizeof kernel, .msg_iov = &w, .msg_iovlen = 1}; SAY("sendmsg %zd", sendmsg(s, &m, 0)); answer("routes", s, 4);
    q = ask_for(RTM_GETADDR, NLM_F_DUMP, 5); SAY("connect %d", connect(s, (void *)&kernel, sizeof kernel)); SAY("send %zd", send(s, &q, sizeof q, 0)); fd_set f; FD_ZERO(&f); FD_SET(s, &f); struct timeval t = {1, 0}; SAY("select %d", select(s + 1, &f, 0, 0, &t)); answer("addresses", s, 5);

    t = (struct timeval){0, 20000}; SAY("timeout %d", setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t)); SAY("in vain %zd %d", recv(s, none, sizeof none, 0), errno); t.tv_usec = 0; setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
    pthread_t p; pthread_create(&p, 0, reader, &s); usleep(20000); q = ask_for(RTM_GETLINK, NLM_F_DUMP, 7); SAY("send %zd", send(s, &q, sizeof q, 0)); pthread_join(p, 0);
    int d = dup(s); q = ask_for(RTM_GETLINK, NLM_F_DUMP, 8); SAY("send by the other %zd", send(d, &q, sizeof q, 0)); close(d); pid_t child = fork(); if (!child) { answer("in a child", s, 8); _exit(0); } int status; waitpid(child, &status, 0); SAY("child %d, left %d", status, polled(s, 0));
    // The number of a process's second socket, in every message to it, is the kernel's choice.
    int second = netlink(0), third = netlink(0); q = ask_for(RTM_GETLINK, NLM_F_DUMP, 9); SAY("send by a second %zd", send(second, &q, sizeof q, 0)); answer("a second socket", second, 9);
    own = (struct sockaddr_nl){.nl_family = AF_NETLINK}; SAY("bind a third %d", bind(third, (void *)&own, sizeof own)); len = sizeof own; getsockname(third, (void *)&own, &len); SAY("named %d", (int)own.nl_pid < -4095);
    own.nl_pid = 0; SAY("bind again %d %d", bind(third, (void *)&own, sizeof own), errno); q = ask_for(RTM_GETADDR, NLM_F_DUMP, 10); SAY("send by a third %zd", send(third, &q, sizeof q, 0)); answer("a third socket", third, 10); close(second); close(third);
    SAY("listen %d %d", listen(s, 1), errno); SAY("shutdown %d %d", shutdown(s, SHUT_RD), errno); close(s); SAY("closed %d", epoll_wait(e, &v, 1, 0));
    s = netlink(SOCK_NONBLOCK); SAY("nonblocking %zd %d", recv(s, none, sizeof none, 0), errno); return 0;
}
