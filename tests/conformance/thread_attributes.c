// Attributes that libc gives a thread after it began: a processor, a scheduling policy. The new thread waits for that in libc, before its
// first turn, and gets through; where it is refused, the thread ends there, and its creator waits for that.
#include "check.h"
#include <sched.h>

enum { THREADS = 40, ROUNDS = 5, NO_PROCESSOR = 1000 };

static void *add(void *sum) {
    __atomic_fetch_add((int *)sum, 1, __ATOMIC_RELAXED);
    return NULL;
}

// Makes threads with these attributes, and says what came of them.
static void make(const char *what, pthread_attr_t *attributes) {
    int made = 0, ran = 0, error = 0;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t threads[THREADS];
        int count = 0;
        for (int i = 0; i < THREADS; i++) {
            int result = pthread_create(&threads[count], attributes, add, &ran);
            if (result == 0) count++;
            else error = result;
        }
        for (int i = 0; i < count; i++) MUST(pthread_join(threads[i], NULL) == 0);
        made += count;
    }
    SAY("%s: %d made, %d ran, error %d", what, made, ran, error);
}

static void processor(pthread_attr_t *attributes, int number) {
    size_t bytes = CPU_ALLOC_SIZE(NO_PROCESSOR + 1);
    cpu_set_t *set = CPU_ALLOC(NO_PROCESSOR + 1);
    CPU_ZERO_S(bytes, set);
    CPU_SET_S(number, bytes, set);
    MUST(pthread_attr_setaffinity_np(attributes, bytes, set) == 0);
    CPU_FREE(set);
}

int main(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    struct sched_param none = {0};
    MUST(pthread_attr_setschedpolicy(&attributes, SCHED_OTHER) == 0);
    MUST(pthread_attr_setschedparam(&attributes, &none) == 0);
    MUST(pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED) == 0);
    make("a policy", &attributes);
    pthread_attr_destroy(&attributes);

    pthread_attr_init(&attributes);
    processor(&attributes, 0);
    make("a processor", &attributes);
    processor(&attributes, NO_PROCESSOR);
    make("no processor", &attributes);
    pthread_attr_destroy(&attributes);
    return 0;
}
