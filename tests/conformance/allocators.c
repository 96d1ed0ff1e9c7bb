// A program with a malloc of its own that locks and asks for the time: libc and the loader call it at any place, also
// before the program begins, in new threads and in children.
#include "check.h"
#include <sys/mman.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *next, *end;
static long calls;
static long long last;

void *malloc(size_t size) {
    pthread_mutex_lock(&lock);
    long long now = now_ns(CLOCK_MONOTONIC);
    if (now < last) abort();
    last = now;
    calls++;
    size = (size + 31) & ~(size_t)15;
    if (!next || size > (size_t)(end - next)) {
        size_t room = size > 1 << 20 ? size : 1 << 20;
        next = mmap(0, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = next + room;
    }
    char *got = next;
    *(size_t *)got = size - 16;
    next += size;
    pthread_mutex_unlock(&lock);
    return got + 16;
}

void free(void *old) {
    if (!old) return;
    pthread_mutex_lock(&lock);
    calls++;
    pthread_mutex_unlock(&lock);
}

void *calloc(size_t count, size_t size) {
    void *got = malloc(count * size);
    return memset(got, 0, count * size);
}

void *realloc(void *old, size_t size) {
    void *got = malloc(size);
    if (old) {
        size_t had = ((size_t *)old)[-2];
        memcpy(got, old, had < size ? had : size);
        free(old);
    }
    return got;
}

static pthread_key_t key;

static void *body(void *p) {
    // Beyond what a thread's descriptor holds, libc allocates.
    for (int i = 0; i < 200; i++) {
        char *text = malloc(100 + (size_t)i), *copy = strdup("some text");
        snprintf(text, 50, "%d", i);
        pthread_setspecific(key, p);
        if (strcmp(copy, "some text")) abort();
        free(text);
        free(copy);
        if (i % 50 == 0) sched_yield();
    }
    return p;
}

int main(void) {
    SAY("calls before %d", calls >= 0);
    for (int i = 0; i < 40; i++) MUST(pthread_key_create(&key, 0) == 0);
    long before = calls;
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) MUST(pthread_create(&thread[i], 0, body, &lock) == 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], 0);
    SAY("calls %d", calls - before >= 4 * 200 * 4);
    witness((uint64_t)calls);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        before = calls;
        body(&lock);
        _exit(calls - before >= 200 * 4);
    }
    int status;
    waitpid(child, &status, 0);
    SAY("child %d", WEXITSTATUS(status));
    FILE *file = fopen("/proc/self/cmdline", "r");
    char *line = 0;
    size_t room = 0;
    SAY("line %d", getline(&line, &room, file) > 0);
    fclose(file);
    return 0;
}
