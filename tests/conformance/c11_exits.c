// thrd_exit: in threads of both kinds, with their destructors and cleanup handlers, and in the first thread.
#include "check.h"
#include <threads.h>

static tss_t key;
static mtx_t lock;
static int destroyed, cleaned;

static void destroy(void *p) {
    mtx_lock(&lock);
    destroyed += (int)(long)p;
    thrd_yield();
    mtx_unlock(&lock);
}

static void cleanup(void *p) {
    mtx_lock(&lock);
    cleaned += (int)(long)p;
    mtx_unlock(&lock);
}

static int body(void *p) {
    tss_set(key, p);
    thrd_exit((int)(long)p + 1);
}

static void *plain(void *p) {
    tss_set(key, p);
    pthread_cleanup_push(cleanup, p);
    thrd_exit(5);
    pthread_cleanup_pop(0);
    return 0;
}

static int last(void *first) {
    int result = 0;
    SAY("first ended %d", thrd_join(*(thrd_t *)first, &result) == thrd_success);
    SAY("with %d", result);
    return 0;
}

int main(void) {
    thrd_t thread[3];
    int sum = 0, result;
    tss_create(&key, destroy);
    mtx_init(&lock, mtx_plain);
    for (long i = 0; i < 3; i++) MUST(thrd_create(&thread[i], body, (void *)(i + 1)) == thrd_success);
    for (int i = 0; i < 3; i++) {
        thrd_join(thread[i], &result);
        sum += result;
    }
    SAY("sum %d destroyed %d", sum, destroyed);
    pthread_t other;
    void *value;
    pthread_create(&other, 0, plain, (void *)9);
    pthread_join(other, &value);
    SAY("value %ld destroyed %d cleaned %d", (long)value, destroyed, cleaned);
    static thrd_t first;
    first = thrd_current();
    MUST(thrd_create(&thread[0], last, &first) == thrd_success);
    thrd_detach(thread[0]);
    thrd_exit(17);
}
