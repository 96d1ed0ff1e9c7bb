// Readers share, writers exclude; try and timed forms.
#include "check.h"
static pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER;
static long value, bad;
static void *reader(void *p) { for (int i = 0; i < 500; i++) { pthread_rwlock_rdlock(&l); long a = value; sched_yield(); if (a != value) bad++; pthread_rwlock_unlock(&l); } return p; }
static void *writer(void *p) { for (int i = 0; i < 500; i++) { pthread_rwlock_wrlock(&l); long a = value; sched_yield(); value = a + 1; pthread_rwlock_unlock(&l); } return p; }
static void *try_read(void *p) { (void)p; int e = pthread_rwlock_tryrdlock(&l); if (!e) pthread_rwlock_unlock(&l); return (void *)(long)e; }
static void *try_write(void *p) { (void)p; int e = pthread_rwlock_trywrlock(&l); if (!e) pthread_rwlock_unlock(&l); return (void *)(long)e; }
static void *timed(void *p) { (void)p; struct timespec t = soon(CLOCK_REALTIME, 20); return (void *)(long)pthread_rwlock_timedwrlock(&l, &t); }
static const char *in_thread(void *(*f)(void *)) { pthread_t t; void *r; pthread_create(&t, 0, f, 0); pthread_join(t, &r); return strerror((long)r); }
int main(void) {
    pthread_t t[5];
    for (int i = 0; i < 5; i++) pthread_create(&t[i], 0, i < 3 ? reader : writer, 0);
    for (int i = 0; i < 5; i++) pthread_join(t[i], 0);
    SAY("value %ld torn %ld", value, bad);
    pthread_rwlock_rdlock(&l);
    SAY("reader held: read %s", in_thread(try_read));
    SAY("reader held: write %s", in_thread(try_write));
    SAY("reader held: timed write %s", in_thread(timed));
    pthread_rwlock_unlock(&l);
    pthread_rwlock_wrlock(&l);
    SAY("writer held: read %s", in_thread(try_read));
    pthread_rwlock_unlock(&l);
    SAY("free: write %s", in_thread(try_write));
    SAY("destroy %d", pthread_rwlock_destroy(&l));
    return 0;
}
