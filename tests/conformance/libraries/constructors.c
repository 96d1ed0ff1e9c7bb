// A library that starts threads, asks for the time and uses sockets before the program has begun, and locks after it has ended.
#include "../check.h"
#include <sys/socket.h>

int library_state;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t began = PTHREAD_COND_INITIALIZER;
static int threads;

static void *body(void *p) {
    pthread_mutex_lock(&mutex);
    library_state++;
    threads++;
    pthread_cond_signal(&began);
    pthread_mutex_unlock(&mutex);
    return p;
}

__attribute__((constructor)) static void begin(void) {
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) MUST(pthread_create(&thread[i], 0, body, 0) == 0);
    pthread_mutex_lock(&mutex);
    while (threads < 3) pthread_cond_wait(&began, &mutex);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], 0);
    int pair[2];
    char byte;
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && write(pair[0], "x", 1) == 1);
    library_state += 10 * (int)read(pair[1], &byte, 1);
    close(pair[0]);
    close(pair[1]);
    witness((uint64_t)now_ns(CLOCK_REALTIME));
    SAY("library begins %d", library_state);
}

static void *last(void *p) {
    pthread_mutex_lock(&mutex);
    library_state++;
    pthread_mutex_unlock(&mutex);
    return p;
}

__attribute__((destructor)) static void end(void) {
    pthread_t thread;
    MUST(pthread_create(&thread, 0, last, 0) == 0);
    pthread_join(thread, 0);
    SAY("library ends %d", library_state);
}
