// Normal, recursive, error-checking, robust mutexes; trylock and timed lock.
#include "check.h"
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER, robust;
static long counter;
static void *add(void *p) { (void)p; for (int i = 0; i < 2000; i++) { pthread_mutex_lock(&m); long x = counter; if (i % 64 == 0) sched_yield(); counter = x + 1; pthread_mutex_unlock(&m); } return 0; }
static void *die_with_lock(void *p) { (void)p; pthread_mutex_lock(&robust); return 0; }
static void *try_it(void *p) { return (void *)(long)pthread_mutex_trylock(p); }
static void *time_it(void *p) { struct timespec t = soon(CLOCK_REALTIME, 20); return (void *)(long)pthread_mutex_timedlock(p, &t); }
static void *clock_it(void *p) { struct timespec t = soon(CLOCK_MONOTONIC, 20); return (void *)(long)pthread_mutex_clocklock(p, CLOCK_MONOTONIC, &t); }
static long in_thread(void *(*f)(void *), void *p) { pthread_t t; void *r; pthread_create(&t, 0, f, p); pthread_join(t, &r); return (long)r; }
int main(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, add, 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    SAY("counter %ld", counter);
    pthread_mutex_lock(&m);
    SAY("trylock %s", strerror(in_thread(try_it, &m)));
    SAY("timedlock %s", strerror(in_thread(time_it, &m)));
    SAY("clocklock %s", strerror(in_thread(clock_it, &m)));
    pthread_mutex_unlock(&m);
    pthread_mutexattr_t a; pthread_mutexattr_init(&a);
    pthread_mutex_t r, e;
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE); pthread_mutex_init(&r, &a);
    SAY("recursive %d %d %d", pthread_mutex_lock(&r), pthread_mutex_lock(&r), pthread_mutex_trylock(&r));
    SAY("other %s", strerror(in_thread(try_it, &r)));
    SAY("unlocks %d %d %d %s", pthread_mutex_unlock(&r), pthread_mutex_unlock(&r), pthread_mutex_unlock(&r), strerror(pthread_mutex_unlock(&r)));
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK); pthread_mutex_init(&e, &a);
    SAY("errorcheck %d %s %d %s", pthread_mutex_lock(&e), strerror(pthread_mutex_lock(&e)), pthread_mutex_unlock(&e), strerror(pthread_mutex_unlock(&e)));
    pthread_mutexattr_init(&a); pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST); pthread_mutex_init(&robust, &a);
    in_thread(die_with_lock, 0);
    int got = pthread_mutex_lock(&robust);
    SAY("robust %s", strerror(got));
    SAY("consistent %d unlock %d again %d", pthread_mutex_consistent(&robust), pthread_mutex_unlock(&robust), pthread_mutex_lock(&robust));
    pthread_mutex_unlock(&robust);
    SAY("destroy %d %d", pthread_mutex_destroy(&r), pthread_mutex_destroy(&e));
    return 0;
}
