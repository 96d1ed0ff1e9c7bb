// timer_create and its kin: by signal, to a thread, silent, in a new thread; overruns, settings, errors; alarm and setitimer.
#include "check.h"
#include <sys/syscall.h>
#include <sys/time.h>
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
static volatile sig_atomic_t hits, value, code, on_helper; static pid_t helper_tid;
static void rich(int s, siginfo_t *i, void *c) { (void)s; (void)c; hits++; value = i->si_value.sival_int; code = i->si_code; on_helper = gettid() == helper_tid; }
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; static pthread_cond_t cv = PTHREAD_COND_INITIALIZER; static int calls, got, stack_ok, mask_clear;
static void in_thread(union sigval v) { sigset_t s; pthread_sigmask(SIG_BLOCK, 0, &s); pthread_attr_t a; size_t bytes; pthread_getattr_np(pthread_self(), &a); pthread_attr_getstacksize(&a, &bytes); pthread_attr_destroy(&a);
    pthread_mutex_lock(&m); calls++; got = v.sival_int; stack_ok = bytes >= 500000 && bytes <= 600000; mask_clear = !sigismember(&s, SIGUSR1); pthread_cond_signal(&cv); pthread_mutex_unlock(&m); }
static void *waits(void *p) { helper_tid = gettid(); *(volatile int *)p = 1; while (!on_helper) usleep(1000); return 0; }
static struct itimerspec in_ms(long first, long period) { return (struct itimerspec){.it_value = {first / 1000, first % 1000 * 1000000}, .it_interval = {period / 1000, period % 1000 * 1000000}}; }
int main(void) {
    struct sigaction a = {.sa_sigaction = rich, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0); sigaction(SIGALRM, &a, 0);
    timer_t t, u; struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42}; struct itimerspec s = in_ms(20, 0), left;
    SAY("create %d", timer_create(CLOCK_MONOTONIC, &e, &t)); SAY("set %d", timer_settime(t, 0, &s, 0)); timer_gettime(t, &left); SAY("left %d", left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 20000000);
    while (!hits) pause();
    SAY("signal %d value %d code %d", hits, value, code == SI_TIMER); timer_gettime(t, &left); SAY("disarmed %d", left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0); usleep(40000); SAY("once %d", hits);
    hits = 0; s = in_ms(10, 10); timer_settime(t, 0, &s, 0); while (hits < 4) pause(); s = in_ms(0, 0); timer_settime(t, 0, &s, &left); SAY("period %ld", left.it_interval.tv_nsec); hits = 0; usleep(40000); SAY("stopped %d", hits);
    sigset_t b, old; sigemptyset(&b); sigaddset(&b, SIGUSR1); sigprocmask(SIG_BLOCK, &b, &old); s = in_ms(10, 10); timer_settime(t, 0, &s, 0); usleep(105000); s = in_ms(0, 0);
    sigprocmask(SIG_SETMASK, &old, 0); SAY("blocked: overruns %d", timer_getoverrun(t) >= 3); timer_settime(t, 0, &s, 0); SAY("deleted %d", timer_delete(t)); SAY("gone %s", strerror(ERR(timer_settime(t, 0, &s, 0))));
    hits = 0; SAY("default event %d", timer_create(CLOCK_REALTIME, 0, &t)); struct timespec at = soon(CLOCK_REALTIME, 20); s = (struct itimerspec){.it_value = at}; timer_settime(t, TIMER_ABSTIME, &s, 0); while (!hits) pause(); SAY("absolute %d not early %d", hits, now_ns(CLOCK_REALTIME) >= at.tv_sec * 1000000000LL + at.tv_nsec);
    s.it_value = (struct timespec){1, 0}; hits = 0; timer_settime(t, TIMER_ABSTIME, &s, 0); while (!hits) usleep(1000); SAY("past fires %d", hits); timer_delete(t);
    e.sigev_notify = SIGEV_NONE; timer_create(CLOCK_MONOTONIC, &e, &t); s = in_ms(10, 0); hits = 0; timer_settime(t, 0, &s, 0); usleep(30000); timer_gettime(t, &left); SAY("silent %d left %d", hits, left.it_value.tv_nsec > 1); timer_delete(t);
    pthread_t w; volatile int ready = 0; pthread_create(&w, 0, waits, (void *)&ready); while (!ready) usleep(1000);
    e.sigev_notify = SIGEV_THREAD_ID; e.sigev_notify_thread_id = helper_tid; SAY("to a thread %d", timer_create(CLOCK_MONOTONIC, &e, &t)); s = in_ms(10, 0); timer_settime(t, 0, &s, 0); pthread_join(w, 0); SAY("it took it %d", on_helper); timer_delete(t);
    pthread_attr_t at2; pthread_attr_init(&at2); pthread_attr_setstacksize(&at2, 512 * 1024); struct sigevent th = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 7, .sigev_notify_function = in_thread, .sigev_notify_attributes = &at2};
    SAY("in a thread %d", timer_create(CLOCK_MONOTONIC, &th, &t)); pthread_attr_destroy(&at2); th.sigev_notify_attributes = 0; th.sigev_value.sival_int = 8; SAY("another %d", timer_create(CLOCK_REALTIME, &th, &u));
    s = in_ms(10, 10); timer_settime(t, 0, &s, 0); pthread_mutex_lock(&m); while (calls < 3) pthread_cond_wait(&cv, &m); SAY("called back with %d stack %d mask %d", got, stack_ok, mask_clear); pthread_mutex_unlock(&m); SAY("delete %d", timer_delete(t));
    usleep(20000); pthread_mutex_lock(&m); calls = 0; s = in_ms(10, 0); timer_settime(u, 0, &s, 0); while (!calls) pthread_cond_wait(&cv, &m); SAY("the other %d", got); pthread_mutex_unlock(&m); timer_delete(u);
    SAY("bad clock %s", strerror(ERR(timer_create(99, 0, &t)))); e.sigev_notify = SIGEV_SIGNAL; e.sigev_signo = 99; SAY("bad signal %s", strerror(ERR(timer_create(CLOCK_REALTIME, &e, &t)))); s.it_value.tv_nsec = -1; timer_create(CLOCK_REALTIME, 0, &t); SAY("bad time %s", strerror(ERR(timer_settime(t, 0, &s, 0))));
    int st; pid_t c = fork(); if (!c) { s = in_ms(10, 0); int inherited = timer_settime(t, 0, &s, 0) == 0; calls = 0; timer_create(CLOCK_MONOTONIC, &th, &u); timer_settime(u, 0, &s, 0); pthread_mutex_lock(&m); while (!calls) pthread_cond_wait(&cv, &m); _exit(10 * inherited + calls); } waitpid(c, &st, 0); SAY("not inherited, own ones work %d", WEXITSTATUS(st));
    int id = -1; SAY("system call %ld", syscall(SYS_timer_create, CLOCK_MONOTONIC, 0, &id)); SAY("number %d", id >= 0); SAY("by system call %ld", syscall(SYS_timer_delete, id));
    struct itimerval v = {.it_value = {0, 20000}, .it_interval = {0, 10000}}, ov; hits = 0; SAY("setitimer %d", setitimer(ITIMER_REAL, &v, 0)); while (hits < 3) pause(); getitimer(ITIMER_REAL, &ov); SAY("getitimer %ld code %d", (long)ov.it_interval.tv_usec, code == SI_KERNEL);
    SAY("alarm returns the rest %u", alarm(100)); hits = 0; usleep(30000); SAY("replaced %d", hits); SAY("alarm off %u", alarm(0)); SAY("which %s", strerror(ERR(setitimer(9, &v, 0)))); return 0;
}
