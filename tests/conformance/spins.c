// Threads that wait by reading memory in a loop: for each other, with a limit, for a lock, with all signals blocked.
#include "check.h"
#include <signal.h>
#include <stdatomic.h>
enum { ROUNDS = 300, JOBS = 200, THREADS = 3 };
static atomic_long ball, held, counter;
static atomic_long pending[THREADS + 1];
static atomic_int over;
static pthread_mutex_t gate[THREADS + 1];
static void spin_until(long wanted) { while (atomic_load_explicit(&ball, memory_order_relaxed) != wanted) { } }
static void *player(void *p) {
    sigset_t all; sigfillset(&all); pthread_sigmask(SIG_SETMASK, &all, 0);
    long me = (long)p;
    for (long round = 0; round < ROUNDS; round++) { spin_until(2 * round + me); atomic_fetch_add(&ball, 1); }
    return 0;
}
// The way in which redis-server hands work to its I/O threads, with a shorter patience.
static void *worker(void *p) {
    long me = (long)p, done = 0;
    for (;;) {
        for (int i = 0; i < 2000; i++) if (atomic_load_explicit(&pending[me], memory_order_relaxed)) break;
        if (!atomic_load(&pending[me])) {
            pthread_mutex_lock(&gate[me]); pthread_mutex_unlock(&gate[me]);
            if (atomic_load(&over)) return (void *)done;
            continue;
        }
        done += atomic_load(&pending[me]);
        atomic_store(&pending[me], 0);
    }
}
static void *locker(void *p) {
    for (int i = 0; i < 300; i++) {
        while (atomic_exchange_explicit(&held, 1, memory_order_acquire)) { }
        long before = counter; if (i % 50 == 0) sched_yield(); counter = before + 1;
        atomic_store(&held, 0);
    }
    return p;
}
static long distribute(void) {
    pthread_t t[THREADS + 1]; long sum = 0; void *r;
    for (long i = 1; i <= THREADS; i++) { pthread_mutex_init(&gate[i], 0); pthread_create(&t[i], 0, worker, (void *)i); }
    for (long job = 1; job <= JOBS; job++) {
        for (int i = 1; i <= THREADS; i++) atomic_store(&pending[i], job);
        for (long left = 1; left;) { left = 0; for (int i = 1; i <= THREADS; i++) left += atomic_load_explicit(&pending[i], memory_order_relaxed); }
    }
    atomic_store(&over, 1);
    for (int i = 1; i <= THREADS; i++) { pthread_join(t[i], &r); sum += (long)r; }
    return sum;
}
int main(void) {
    pthread_t t[2];
    for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, player, (void *)i);
    for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
    SAY("ball %ld", atomic_load(&ball));
    SAY("work %ld", distribute());
    for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, locker, (void *)i);
    for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
    SAY("counter %ld", atomic_load(&counter));
    return 0;
}
