// A bounded queue, broadcast, and waits that time out on both clocks.
#include "check.h"
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER, go = PTHREAD_COND_INITIALIZER;
static int queue[4], used, started, released;
static void *producer(void *p) {
    for (int i = 1; i <= 500; i++) { pthread_mutex_lock(&m); while (used == 4) pthread_cond_wait(&not_full, &m); queue[used++] = i; pthread_cond_signal(&not_empty); pthread_mutex_unlock(&m); }
    return p;
}
static void *consumer(void *p) {
    long sum = 0;
    for (int i = 0; i < 500; i++) { pthread_mutex_lock(&m); while (!used) pthread_cond_wait(&not_empty, &m); sum += queue[--used]; pthread_cond_signal(&not_full); pthread_mutex_unlock(&m); }
    (void)p; return (void *)sum;
}
static void *runner(void *p) { pthread_mutex_lock(&m); started++; pthread_cond_signal(&not_full); while (!released) pthread_cond_wait(&go, &m); pthread_mutex_unlock(&m); return p; }
int main(void) {
    pthread_t t[4]; void *r; long sum = 0;
    for (int i = 0; i < 2; i++) { pthread_create(&t[i], 0, producer, 0); pthread_create(&t[2 + i], 0, consumer, 0); }
    for (int i = 0; i < 4; i++) { pthread_join(t[i], &r); sum += (long)r; }
    SAY("sum %ld left %d", sum, used);
    for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, runner, 0);
    pthread_mutex_lock(&m); while (started < 4) pthread_cond_wait(&not_full, &m); released = 1; pthread_cond_broadcast(&go); pthread_mutex_unlock(&m);
    for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
    SAY("broadcast reached %d", started);
    pthread_mutex_lock(&m);
    struct timespec at = soon(CLOCK_REALTIME, 30);
    int e = pthread_cond_timedwait(&go, &m, &at);
    struct timespec now; clock_gettime(CLOCK_REALTIME, &now);
    SAY("timedwait %s, not early %d", strerror(e), now.tv_sec > at.tv_sec || (now.tv_sec == at.tv_sec && now.tv_nsec >= at.tv_nsec));
    at = soon(CLOCK_MONOTONIC, 30);
    SAY("clockwait %s", strerror(pthread_cond_clockwait(&go, &m, CLOCK_MONOTONIC, &at)));
    pthread_condattr_t a; pthread_condattr_init(&a); pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_t mono; pthread_cond_init(&mono, &a);
    at = soon(CLOCK_MONOTONIC, 30);
    SAY("monotonic timedwait %s", strerror(pthread_cond_timedwait(&mono, &m, &at)));
    at.tv_nsec = -1;
    SAY("bad time %s", strerror(pthread_cond_timedwait(&mono, &m, &at)));
    SAY("still locked %s", strerror(pthread_mutex_trylock(&m)));
    pthread_mutex_unlock(&m);
    SAY("destroy %d", pthread_cond_destroy(&mono));
    return 0;
}
