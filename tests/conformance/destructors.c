// What runs at the end of a thread and of the process: key destructors, cleanup handlers, atexit.
#include "check.h"
static pthread_key_t k; static pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER; static int ran, cleaned;
static void destroy(void *p) { (void)p; pthread_rwlock_wrlock(&l); ran++; sched_yield(); pthread_rwlock_unlock(&l); }
static void cleanup(void *p) { (void)p; pthread_rwlock_wrlock(&l); cleaned++; pthread_rwlock_unlock(&l); }
static void *body(void *p) { pthread_setspecific(k, &k); pthread_cleanup_push(cleanup, 0); if (p) pthread_exit(p); pthread_cleanup_pop(1); return 0; }
static void last(void) { SAY("atexit ran %d", ran); }
int main(void) { atexit(last); pthread_key_create(&k, destroy); pthread_t t[6]; for (long i = 0; i < 6; i++) pthread_create(&t[i], 0, body, (void *)(i % 2)); for (int i = 0; i < 6; i++) pthread_join(t[i], 0); SAY("destructors %d cleanups %d", ran, cleaned); return 0; }
