// Create, join, results, detach, many generations of threads, main thread's identity.
#include "check.h"
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t c = PTHREAD_COND_INITIALIZER;
static int done;
static void *square(void *p) { long n = (long)p; return (void *)(n * n); }
static void *lone(void *p) { (void)p; pthread_mutex_lock(&m); done++; pthread_cond_signal(&c); pthread_mutex_unlock(&m); return 0; }
static void *leaver(void *p) { pthread_exit(p); }
int main(void) {
    long sum = 0;
    for (int round = 0; round < 20; round++) {
        pthread_t t[8];
        for (long i = 0; i < 8; i++) MUST(pthread_create(&t[i], 0, square, (void *)i) == 0);
        for (int i = 0; i < 8; i++) { void *r; MUST(pthread_join(t[i], &r) == 0); sum += (long)r; }
    }
    SAY("sum %ld", sum);
    for (int i = 0; i < 10; i++) { pthread_t t; MUST(pthread_create(&t, 0, lone, 0) == 0); pthread_detach(t); }
    pthread_mutex_lock(&m);
    while (done < 10) pthread_cond_wait(&c, &m);
    pthread_mutex_unlock(&m);
    SAY("detached %d", done);
    pthread_attr_t a; pthread_attr_init(&a); pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED); pthread_attr_setstacksize(&a, 256 * 1024);
    pthread_t t; MUST(pthread_create(&t, &a, lone, 0) == 0);
    pthread_mutex_lock(&m);
    while (done < 11) pthread_cond_wait(&c, &m);
    pthread_mutex_unlock(&m);
    SAY("born detached %d", done);
    void *r; pthread_create(&t, 0, leaver, (void *)77); pthread_join(t, &r);
    SAY("pthread_exit %ld", (long)r);
    SAY("main is its process %d", gettid() == getpid());
    SAY("equal %d", pthread_equal(pthread_self(), pthread_self()) != 0);
    return 0;
}
