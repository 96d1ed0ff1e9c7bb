// Barriers, once, spin locks.
#include "check.h"
static pthread_barrier_t b;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_spinlock_t s;
static int inits, serial, phase[3], n;
static void init(void) { inits++; sched_yield(); }
static void *run(void *p) {
    for (int i = 0; i < 3; i++) {
        pthread_once(&once, init);
        __atomic_add_fetch(&phase[i], 1, __ATOMIC_SEQ_CST);
        if (pthread_barrier_wait(&b) == PTHREAD_BARRIER_SERIAL_THREAD) __atomic_add_fetch(&serial, 1, __ATOMIC_SEQ_CST);
        if (phase[i] != 5) SAY("someone is missing in phase %d", i);
        for (int k = 0; k < 100; k++) { pthread_spin_lock(&s); int x = n; if (k % 32 == 0) sched_yield(); n = x + 1; pthread_spin_unlock(&s); }
    }
    return p;
}
int main(void) {
    pthread_barrier_init(&b, 0, 5); pthread_spin_init(&s, 0);
    pthread_t t[5];
    for (int i = 0; i < 5; i++) pthread_create(&t[i], 0, run, 0);
    for (int i = 0; i < 5; i++) pthread_join(t[i], 0);
    SAY("inits %d serial %d n %d", inits, serial, n);
    pthread_spin_lock(&s);
    SAY("trylock %s", strerror(pthread_spin_trylock(&s)));
    pthread_spin_unlock(&s);
    SAY("trylock %d", pthread_spin_trylock(&s));
    SAY("destroy %d bad %s", pthread_barrier_destroy(&b), strerror(pthread_barrier_init(&b, 0, 0)));
    return 0;
}
