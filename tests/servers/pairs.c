// Says that it begins, and locks and unlocks a mutex that nobody else wants, again and again. Who looks on knows a pair by two symbols.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { PAIRS = 1000000 };
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

// With one thread alone, libc does without atomic instructions.
static void *other(void *unused) {
    for (;;) pause();
    return unused;
}

static void __attribute__((noinline, noclone)) pair(void) {
    __asm__ volatile(".globl pair_begins\npair_begins:" ::: "memory");
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    __asm__ volatile(".globl pair_ends\npair_ends:" ::: "memory");
}

int main(void) {
    pthread_t thread;
    pthread_create(&thread, NULL, other, NULL);
    puts("begins");
    fflush(stdout);
    struct timespec rest = {0, 1000000};
    for (;;) {
        for (int i = 0; i < PAIRS; i++) pair();
        nanosleep(&rest, NULL);
    }
}
