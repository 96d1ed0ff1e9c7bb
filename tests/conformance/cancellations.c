// pthread_cancel: at waiting calls of all kinds, before a call, disabled, cleanup handlers, joins, the type, oneself.
#include "check.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
static int fds[2], ls, ep, locked; static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t cv = PTHREAD_COND_INITIALIZER; static sem_t sem; static volatile int about, stage, count; static pthread_t forever; static volatile unsigned long spins;
static void say(void *p) { printf("  cleanup %s\n", (char *)p); fflush(stdout); }
static void unlocks(void *p) { SAY("  cleanup holds the mutex %d", pthread_mutex_trylock(p) == EBUSY); pthread_mutex_unlock(p); }
#define WAITER(name, ...) static void *name(void *p) { pthread_cleanup_push(say, #name); about = 1; for (;;) { __VA_ARGS__; } pthread_cleanup_pop(0); return p; }
WAITER(in_read, char b; if (read(fds[0], &b, 1)) {})
WAITER(in_readv, char b; recv(fds[0], &b, 1, 0))
WAITER(in_poll, struct pollfd f = {fds[0], POLLIN, 0}; poll(&f, 1, -1))
WAITER(in_select, fd_set s; FD_ZERO(&s); FD_SET(fds[0], &s); select(fds[0] + 1, &s, 0, 0, 0))
WAITER(in_epoll, struct epoll_event e; epoll_wait(ep, &e, 1, -1))
WAITER(in_accept, accept(ls, 0, 0))
WAITER(in_sleep, sleep(100))
WAITER(in_usleep, usleep(100000000))
WAITER(in_nanosleep, struct timespec t = {100, 0}; nanosleep(&t, 0))
WAITER(in_sem, sem_wait(&sem))
WAITER(in_pause, pause())
WAITER(in_sigwait, sigset_t s; int n; sigemptyset(&s); sigaddset(&s, SIGUSR2); pthread_sigmask(SIG_BLOCK, &s, 0); sigwait(&s, &n))
WAITER(in_sigsuspend, sigset_t s; sigemptyset(&s); sigsuspend(&s))
WAITER(in_waitpid, int st; waitpid(-1, &st, 0))
WAITER(in_join, pthread_join(forever, 0))
WAITER(in_testcancel, pthread_testcancel(); sched_yield())
WAITER(in_lock, struct flock l = {.l_type = F_WRLCK}; fcntl(locked, F_OFD_SETLKW, &l))
WAITER(in_stdio, FILE *f = fdopen(dup(fds[0]), "r"); fgetc(f); fclose(f))
static void *in_cond(void *p) { pthread_mutex_lock(&m); pthread_cleanup_push(unlocks, &m); about = 1; for (;;) pthread_cond_wait(&cv, &m); pthread_cleanup_pop(0); return p; }
static void *in_timed_cond(void *p) { struct timespec t = soon(CLOCK_REALTIME, 100000); pthread_mutex_lock(&m); pthread_cleanup_push(unlocks, &m); about = 1; for (;;) pthread_cond_timedwait(&cv, &m, &t); pthread_cleanup_pop(0); return p; }
static void *sleeps(void *p) { sleep(100); return p; }
static void *nested(void *p) { pthread_cleanup_push(say, "outer"); pthread_cleanup_push(say, "popped"); pthread_cleanup_pop(1); pthread_cleanup_push(say, "inner"); about = 1; pause(); pthread_cleanup_pop(0); pthread_cleanup_pop(0); return p; }
static void *disabled(void *p) { int old; pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old); SAY("  was enabled %d", old == PTHREAD_CANCEL_ENABLE); about = 1; while (!stage) usleep(1000); usleep(1000); SAY("  survived %d", 1); pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, 0); stage = 2; usleep(1000); SAY("  not reached %d", 1); return p; }
static void *deferred(void *p) { about = 1; while (!stage) sched_yield(); stage = 2; pthread_testcancel(); return p; }
static void *asynchronous(void *p) { int old; pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, 0); pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old); SAY("  was deferred %d", old == PTHREAD_CANCEL_DEFERRED); pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, 0); about = 1; for (;;) usleep(1000); return p; }
static void *self(void *p) { pthread_cancel(pthread_self()); stage = 7; pthread_testcancel(); stage = 8; return p; }
static void *exits(void *p) { (void)p; pthread_cleanup_push(say, "on exit"); pthread_exit((void *)5L); pthread_cleanup_pop(0); }
static void *returns(void *p) { return p; }
static void *done_first(void *p) { char b; about = 1; ssize_t n = read(fds[0], &b, 1); stage = (int)n; (void)p; return (void *)9L; }
static void *reads_again(void *p) { char b[8]; for (;;) { ssize_t n = read(fds[0], b, 8); count += (int)n; } return p; }
static void key_gone(void *p) { SAY("  key destructor %ld", (long)p); }
static void *with_key(void *p) { pthread_setspecific(*(pthread_key_t *)p, (void *)3L); about = 1; pause(); return p; }
static void run(const char *name, void *(*f)(void *), void *p) { pthread_t t; void *r; about = 0; MUST(pthread_create(&t, 0, f, p) == 0); while (!about) usleep(1000); usleep(5000); int e = pthread_cancel(t), j = pthread_join(t, &r); SAY("%s: %d %d %s", name, e, j, r == PTHREAD_CANCELED ? "cancelled" : "ended"); }
#define RUN(f) run(#f, f, 0)
int main(void) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0); ls = socket(AF_INET, SOCK_STREAM, 0); listen(ls, 4); ep = epoll_create1(0); sem_init(&sem, 0, 0); pid_t child = fork(); if (!child) { pause(); _exit(0); } pthread_create(&forever, 0, sleeps, 0);
    RUN(in_read); RUN(in_readv); RUN(in_poll); RUN(in_select); RUN(in_epoll); RUN(in_accept); RUN(in_sleep); RUN(in_usleep); RUN(in_nanosleep); RUN(in_sem); RUN(in_pause); RUN(in_sigwait); RUN(in_sigsuspend); RUN(in_waitpid); RUN(in_join); RUN(in_testcancel); char name[] = "/tmp/cancel-XXXXXX"; int holder = mkstemp(name); locked = open(name, O_RDWR); unlink(name); struct flock l = {.l_type = F_WRLCK}; MUST(fcntl(holder, F_OFD_SETLKW, &l) == 0); RUN(in_lock); close(holder); SAY("free again %d", fcntl(locked, F_OFD_SETLK, &l)); RUN(in_stdio); RUN(in_cond); RUN(in_timed_cond);
    SAY("the mutex is free %d", pthread_mutex_trylock(&m)); pthread_mutex_unlock(&m); RUN(nested); pthread_key_t k; pthread_key_create(&k, key_gone); run("with_key", with_key, &k);
    pthread_t t; void *r; about = stage = 0; pthread_create(&t, 0, disabled, 0); while (!about) usleep(1000); pthread_cancel(t); stage = 1; pthread_join(t, &r); SAY("disabled: %d %s", stage, r == PTHREAD_CANCELED ? "cancelled" : "ended");
    about = stage = 0; pthread_create(&t, 0, deferred, 0); while (!about) usleep(1000); pthread_cancel(t); stage = 1; pthread_join(t, &r); SAY("deferred: %d %s", stage, r == PTHREAD_CANCELED ? "cancelled" : "ended");
    RUN(asynchronous); pthread_create(&t, 0, self, 0); pthread_join(t, &r); SAY("self: %d %s", stage, r == PTHREAD_CANCELED ? "cancelled" : "ended"); pthread_create(&t, 0, exits, 0); pthread_join(t, &r); SAY("exit: %ld", (long)r);
    pthread_create(&t, 0, returns, (void *)4L); usleep(10000); SAY("an ended one %d", pthread_cancel(t)); pthread_join(t, &r); SAY("its result %ld", (long)r);
    about = 0; pthread_create(&t, 0, done_first, 0); while (!about) usleep(1000); usleep(5000); MUST(write(fds[1], "x", 1) == 1); pthread_join(t, &r); SAY("uncancelled: %d %ld", stage, (long)r);
    pthread_create(&t, 0, reads_again, 0); for (int i = 0; i < 10; i++) MUST(write(fds[1], "x", 1) == 1); while (count < 10) usleep(1000); pthread_cancel(t); pthread_join(t, &r); SAY("read all first: %d %s", count, r == PTHREAD_CANCELED ? "cancelled" : "ended");
    SAY("still joinable %d", pthread_cancel(forever)); pthread_join(forever, &r); SAY("joined %d", r == PTHREAD_CANCELED); SAY("bad state %d type %d", pthread_setcancelstate(9, 0), pthread_setcanceltype(9, 0)); kill(child, SIGKILL); int st; SAY("child %d", waitpid(child, &st, 0) == child); return 0;
}
