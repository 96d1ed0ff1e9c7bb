// Threads may ask for a processor and get what there is; where they really run is nobody's business.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

static void *bound(void *argument) {
    cpu_set_t *first = argument;
    cpu_set_t now;
    CPU_ZERO(&now);
    int set = pthread_setaffinity_np(pthread_self(), sizeof *first, first);
    int got = pthread_getaffinity_np(pthread_self(), sizeof now, &now);
    printf("thread: %d %d, only the first: %d\n", set, got, CPU_EQUAL(&now, first));
    return NULL;
}

int main(void) {
    cpu_set_t first, none, now;
    CPU_ZERO(&none);
    CPU_ZERO(&now);
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    printf("first: %d\n", sched_setaffinity(0, sizeof first, &first));
    int asked = sched_getaffinity(0, sizeof now, &now);
    printf("ask: %d, %d of them\n", asked, CPU_COUNT(&now));
    int refused = sched_setaffinity(0, sizeof none, &none);
    printf("none: %d, %s\n", refused, errno == EINVAL ? "EINVAL" : "?");
    pthread_t thread;
    pthread_create(&thread, NULL, bound, &first);
    pthread_join(thread, NULL);
    printf("at %d\n", sched_getcpu());
    return 0;
}
