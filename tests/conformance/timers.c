// timerfd, eventfd, sleeps, clocks, interval timers.
#include "check.h"
#include <sys/eventfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
static volatile sig_atomic_t ticks; static void tick(int s) { (void)s; ticks++; }
int main(void) {
    int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK); uint64_t n = 0; SAY("unarmed %s", strerror(ERR(read(t, &n, 8)))); struct itimerspec s = {{0, 10000000}, {0, 10000000}}, o; SAY("set %d", timerfd_settime(t, 0, &s, 0)); timerfd_gettime(t, &o); SAY("interval %ld", o.it_interval.tv_nsec);
    usleep(55000); SAY("read %zd at least five %d", read(t, &n, 8), n >= 5); fcntl(t, F_SETFL, 0); SAY("blocking %zd", read(t, &n, 8)); memset(&s, 0, sizeof s); timerfd_settime(t, 0, &s, &o); SAY("disarmed, was %ld", o.it_interval.tv_nsec); close(t);
    int e = eventfd(3, EFD_NONBLOCK); SAY("eventfd %zd %lu", read(e, &n, 8), (unsigned long)n); SAY("empty %s", strerror(ERR(read(e, &n, 8)))); n = 5; MUST(write(e, &n, 8) == 8); MUST(write(e, &n, 8) == 8); SAY("sum %zd %lu", read(e, &n, 8), (unsigned long)n); n = ~0ULL; SAY("too much %s short %s", strerror(ERR(write(e, &n, 8))), strerror(ERR(write(e, &n, 4)))); e = eventfd(2, EFD_SEMAPHORE); MUST(read(e, &n, 8) == 8); SAY("semaphore %lu", (unsigned long)n);
    long long a = now_ns(CLOCK_MONOTONIC); usleep(10000); struct timespec d = {0, 10000000}; nanosleep(&d, 0); clock_nanosleep(CLOCK_REALTIME, 0, &d, 0); d = soon(CLOCK_MONOTONIC, 10); clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &d, 0); SAY("slept %d", now_ns(CLOCK_MONOTONIC) - a >= 40000000); d.tv_nsec = 2000000000; SAY("bad %s", strerror(ERR(nanosleep(&d, 0))));
    struct timeval tv; gettimeofday(&tv, 0); time_t now = time(0); SAY("clocks agree %d", now - tv.tv_sec <= 1 && now_ns(CLOCK_REALTIME) / 1000000000 - now <= 1); SAY("monotonic %d", now_ns(CLOCK_MONOTONIC) <= now_ns(CLOCK_MONOTONIC)); SAY("bad clock %s", strerror(ERR(clock_gettime(77, &d))));
    signal(SIGALRM, tick); struct itimerval it = {{0, 5000}, {0, 5000}}; setitimer(ITIMER_REAL, &it, 0); while (ticks < 3) usleep(1000); SAY("interval timer %d", ticks >= 3); memset(&it, 0, sizeof it); setitimer(ITIMER_REAL, &it, 0); return 0;
}
