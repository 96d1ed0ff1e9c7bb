// Raw futexes by syscall(): wait, wake, time-out, wrong value, bit sets, requeue.
#include "check.h"
#include <linux/futex.h>
#include <sys/syscall.h>
static uint32_t word, other;
static long futex(uint32_t *a, int op, uint32_t v, void *t, uint32_t *b, uint32_t v3) { return syscall(SYS_futex, a, op, v, t, b, v3); }
static void *sleeper(void *p) { while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0) futex(&word, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0); return p; }
static int stage;
static void *queued(void *p) { __atomic_add_fetch(&stage, 1, __ATOMIC_SEQ_CST); long r = futex(&other, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0); (void)p; return (void *)r; }
int main(void) {
    SAY("wrong value %s", strerror(ERR(futex(&word, FUTEX_WAIT_PRIVATE, 5, 0, 0, 0))));
    struct timespec t = {0, 20000000};
    SAY("time-out %s", strerror(ERR(futex(&word, FUTEX_WAIT_PRIVATE, 0, &t, 0, 0))));
    struct timespec at = soon(CLOCK_MONOTONIC, 20);
    SAY("bitset time-out %s", strerror(ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &at, 0, ~0u))));
    at = soon(CLOCK_REALTIME, 20);
    SAY("real-time bitset %s", strerror(ERR(futex(&word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, &at, 0, ~0u))));
    pthread_t th[3];
    for (int i = 0; i < 3; i++) pthread_create(&th[i], 0, sleeper, 0);
    usleep(10000);
    __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
    futex(&word, FUTEX_WAKE_PRIVATE, 3, 0, 0, 0);
    for (int i = 0; i < 3; i++) pthread_join(th[i], 0);
    SAY("all woken");
    for (int i = 0; i < 3; i++) pthread_create(&th[i], 0, queued, 0);
    while (__atomic_load_n(&stage, __ATOMIC_SEQ_CST) < 3) usleep(1000);
    usleep(20000);
    word = 0;
    SAY("requeue %ld", futex(&other, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &word, 0));
    SAY("rest %ld", futex(&word, FUTEX_WAKE_PRIVATE, 10, 0, 0, 0));
    for (int i = 0; i < 3; i++) pthread_join(th[i], 0);
    SAY("not aligned %s", strerror(ERR(futex((uint32_t *)((char *)&word + 1), FUTEX_WAKE_PRIVATE, 1, 0, 0, 0))));
    SAY("unknown op %s", strerror(ERR(futex(&word, 99, 0, 0, 0, 0))));
    return 0;
}
