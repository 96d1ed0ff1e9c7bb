// Looks at bytes of the stack that nobody set: they choose which mutex is locked, so that a difference between replicas
// becomes one of operations.
#ifndef UNSET_H
#define UNSET_H
#include <pthread.h>

enum { MUTEXES = 256, AREA = 16384 };
static pthread_mutex_t mutexes[MUTEXES];

__attribute__((noinline)) static void look(void) {
    volatile unsigned char area[AREA];
    unsigned hash = 0;
    for (int i = 0; i < AREA; i++) { hash = hash * 31 + area[i]; }
    pthread_mutex_t *chosen = &mutexes[hash % MUTEXES];
    pthread_mutex_lock(chosen);
    pthread_mutex_unlock(chosen);
}
#endif
