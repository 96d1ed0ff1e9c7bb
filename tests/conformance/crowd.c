// epoll with more TCP connections ready than one wait reports: none is missed, none starves, an edge comes once.
#include "check.h"
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
enum { CROWD = 50, ROUNDS = 20 };
static int ends[CROWD], seen[CROWD];
// Takes what is ready, in as many waits as it takes until `enough` reports came; returns 1 if all of them were for reading.
static int take(int ep, int enough) {
    struct epoll_event events[128]; int right = 1;
    while (enough > 0) {
        int n = epoll_wait(ep, events, 128, 1000); MUST(n > 0);
        for (int i = 0; i < n; i++) { seen[events[i].data.u32]++; right &= events[i].events == EPOLLIN; }
        enough -= n;
    }
    return right;
}
static int fewest(void) { int f = seen[0]; for (int i = 1; i < CROWD; i++) if (seen[i] < f) f = seen[i]; return f; }
int main(void) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; socklen_t len = sizeof a;
    MUST(bind(listener, (void *)&a, len) == 0 && listen(listener, CROWD) == 0 && getsockname(listener, (void *)&a, &len) == 0);
    for (int i = 0; i < CROWD; i++) {
        int client = socket(AF_INET, SOCK_STREAM, 0); MUST(connect(client, (void *)&a, sizeof a) == 0);
        ends[i] = accept(listener, 0, 0); MUST(ends[i] >= 0 && write(client, "x", 1) == 1);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i}; MUST(epoll_ctl(ep, EPOLL_CTL_ADD, ends[i], &e) == 0);
    }
    SAY("level: all for reading %d", take(ep, CROWD * ROUNDS)); SAY("nobody starves %d", fewest() >= ROUNDS / 2);
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < CROWD; i++) { struct epoll_event e = {.events = EPOLLIN | EPOLLET, .data.u32 = i}; MUST(epoll_ctl(ep, EPOLL_CTL_MOD, ends[i], &e) == 0); }
    SAY("edge: all for reading %d", take(ep, CROWD)); SAY("each of them %d", fewest() == 1);
    struct epoll_event e; SAY("and once %d", epoll_wait(ep, &e, 1, 0));
    return 0;
}
