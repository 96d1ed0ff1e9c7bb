// epoll: level, edge, one-shot, modification, deletion, nesting, time-outs, user data.
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
static int ep;
static int wait_for(int ms) { struct epoll_event e[4]; int n = epoll_wait(ep, e, 4, ms); if (n > 0) printf("[%x:%llx]", e[0].events, (unsigned long long)e[0].data.u64); return n; }
static int ctl(int op, int fd, uint32_t ev, uint64_t data) { struct epoll_event e = {.events = ev, .data.u64 = data}; return epoll_ctl(ep, op, fd, &e); }
static void *later(void *p) { usleep(20000); uint64_t one = 1; MUST(write(*(int *)p, &one, 8) == 8); return 0; }
int main(void) {
    ep = epoll_create1(EPOLL_CLOEXEC); int p[2], q[2]; char b[8]; MUST(pipe(p) == 0 && pipe(q) == 0);
    SAY("add %d twice %s", ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 11), strerror(ERR(ctl(EPOLL_CTL_ADD, p[0], EPOLLIN, 11))));
    SAY("nothing %d", wait_for(0));
    MUST(write(p[1], "ab", 2) == 2);
    SAY("level %d", wait_for(-1)); SAY("level again %d", wait_for(0));
    MUST(read(p[0], b, 1) == 1); SAY("level, one left %d", wait_for(0));
    MUST(read(p[0], b, 1) == 1); SAY("level, none left %d", wait_for(0));
    SAY("mod edge %d", ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLET, 12));
    MUST(write(p[1], "a", 1) == 1); SAY("edge %d", wait_for(0)); SAY("edge again %d", wait_for(0));
    MUST(write(p[1], "b", 1) == 1); SAY("edge, new data %d", wait_for(0));
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 13);
    SAY("oneshot %d", wait_for(0)); SAY("oneshot spent %d", wait_for(0));
    ctl(EPOLL_CTL_MOD, p[0], EPOLLIN | EPOLLONESHOT, 14); SAY("oneshot armed %d", wait_for(0));
    SAY("del %d again %s", ctl(EPOLL_CTL_DEL, p[0], 0, 0), strerror(ERR(ctl(EPOLL_CTL_DEL, p[0], 0, 0))));
    SAY("out %d", ctl(EPOLL_CTL_ADD, q[1], EPOLLOUT, 15)); SAY("writable %d", wait_for(0)); ctl(EPOLL_CTL_DEL, q[1], 0, 0);
    ctl(EPOLL_CTL_ADD, q[0], EPOLLIN, 16); close(q[1]); SAY("hang-up %d", wait_for(0)); close(q[0]); SAY("closed %d", wait_for(0));
    int ev = eventfd(0, EFD_NONBLOCK); ctl(EPOLL_CTL_ADD, ev, EPOLLIN | EPOLLET, 17);
    pthread_t t; pthread_create(&t, 0, later, &ev); SAY("from a thread %d", wait_for(-1)); pthread_join(t, 0);
    int outer = epoll_create(1), inner = ep; struct epoll_event e = {.events = EPOLLIN, .data.u64 = 18};
    SAY("nest %d", epoll_ctl(outer, EPOLL_CTL_ADD, inner, &e));
    ctl(EPOLL_CTL_MOD, ev, EPOLLIN, 19); ep = outer; SAY("nested %d", wait_for(0));
    SAY("itself %s", strerror(ERR(ctl(EPOLL_CTL_ADD, outer, EPOLLIN, 0))));
    int file = open("/dev/null", O_RDONLY), plain = open("/etc/passwd", O_RDONLY); (void)file;
    SAY("plain file %s", strerror(ERR(ctl(EPOLL_CTL_ADD, plain, EPOLLIN, 0))));
    SAY("bad fd %s no epoll %s", strerror(ERR(ctl(EPOLL_CTL_ADD, 999, EPOLLIN, 0))), strerror(ERR(epoll_wait(ev, &e, 1, 0))));
    SAY("no room %s", strerror(ERR(epoll_wait(ep, &e, 0, 0))));
    epoll_ctl(outer, EPOLL_CTL_DEL, inner, 0); long long a = now_ns(CLOCK_MONOTONIC);
    SAY("time-out %d not early %d", wait_for(20), now_ns(CLOCK_MONOTONIC) - a >= 19000000);
    int s[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, s); ctl(EPOLL_CTL_ADD, s[0], EPOLLIN | EPOLLRDHUP, 20); shutdown(s[1], SHUT_WR); SAY("half closed %d", wait_for(0));
    return 0;
}
