// C11 threads.
#include "check.h"
#include <threads.h>
static mtx_t m; static cnd_t c; static once_flag f = ONCE_FLAG_INIT; static int inits, ready;
static void init(void) { inits++; }
static int body(void *p) { call_once(&f, init); mtx_lock(&m); ready++; cnd_signal(&c); mtx_unlock(&m); thrd_yield(); return (int)(long)p * 3; }
int main(void) {
    mtx_init(&m, mtx_timed); cnd_init(&c);
    thrd_t t[4]; int r, sum = 0;
    for (long i = 0; i < 4; i++) MUST(thrd_create(&t[i], body, (void *)i) == thrd_success);
    mtx_lock(&m); while (ready < 4) cnd_wait(&c, &m);
    SAY("busy %d", mtx_trylock(&m) == thrd_busy);
    mtx_unlock(&m);
    for (int i = 0; i < 4; i++) { thrd_join(t[i], &r); sum += r; }
    SAY("sum %d inits %d", sum, inits);
    mtx_lock(&m);
    struct timespec at = soon(CLOCK_REALTIME, 20);
    SAY("timed out %d", cnd_timedwait(&c, &m, &at) == thrd_timedout);
    struct timespec d = {0, 1000000};
    SAY("sleep %d", thrd_sleep(&d, 0));
    return 0;
}
