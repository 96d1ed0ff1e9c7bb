// poll and select, also mixed with plain files and bad descriptors.
#include "check.h"
#include <poll.h>
#include <sys/select.h>
static void *later(void *p) { usleep(20000); MUST(write(*(int *)p, "x", 1) == 1); return 0; }
int main(void) {
    int p[2]; char b; MUST(pipe(p) == 0);
    struct pollfd f[4] = {{p[0], POLLIN, 0}, {p[1], POLLOUT, 0}, {-1, POLLIN, 7}, {500, POLLIN, 0}};
    SAY("poll %d %x %x %x %x", poll(f, 4, 0), f[0].revents, f[1].revents, f[2].revents, f[3].revents);
    SAY("none %d", poll(f, 1, 0));
    pthread_t t; pthread_create(&t, 0, later, &p[1]);
    SAY("wait %d %x", poll(f, 1, -1), f[0].revents); pthread_join(t, 0);
    int file = open("/etc/passwd", O_RDONLY); struct pollfd g = {file, POLLIN | POLLOUT, 0};
    SAY("file %d %x", poll(&g, 1, -1), g.revents);
    long long a = now_ns(CLOCK_MONOTONIC); MUST(read(p[0], &b, 1) == 1);
    SAY("time-out %d not early %d", poll(f, 1, 20), now_ns(CLOCK_MONOTONIC) - a >= 19000000);
    struct timespec ts = {0, 10000000}; SAY("ppoll %d", ppoll(f, 1, &ts, 0)); SAY("only time %d", poll(0, 0, 5));
    fd_set r, w, x; struct timeval tv = {0, 0}; FD_ZERO(&r); FD_ZERO(&w); FD_ZERO(&x); FD_SET(p[0], &r); FD_SET(p[1], &w); FD_SET(file, &r); FD_SET(p[0], &x);
    SAY("select %d %d %d %d %d", select(64, &r, &w, &x, &tv), FD_ISSET(p[0], &r) != 0, FD_ISSET(p[1], &w) != 0, FD_ISSET(file, &r) != 0, FD_ISSET(p[0], &x) != 0);
    FD_ZERO(&r); FD_SET(p[0], &r); pthread_create(&t, 0, later, &p[1]);
    SAY("select waits %d %d", select(p[0] + 1, &r, 0, 0, 0), FD_ISSET(p[0], &r) != 0); pthread_join(t, 0); MUST(read(p[0], &b, 1) == 1);
    FD_SET(50, &r); SAY("bad %s", strerror(ERR(select(51, &r, 0, 0, &tv))));
    FD_ZERO(&r); FD_SET(p[0], &r); tv.tv_usec = 10000; SAY("select time-out %d %d", select(p[0] + 1, &r, 0, 0, &tv), FD_ISSET(p[0], &r) != 0);
    FD_SET(p[0], &r); ts.tv_nsec = 5000000; SAY("pselect %d", pselect(p[0] + 1, &r, 0, 0, &ts, 0));
    close(p[1]); f[0].revents = 0; SAY("hang-up %d %x", poll(f, 1, -1), f[0].revents);
    return 0;
}
