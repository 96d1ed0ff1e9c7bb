// A ledger over HTTP, built around the embedded server libmicrohttpd with a pool of threads that poll by epoll; ledger.py says
// what it does.
#define _GNU_SOURCE
#include <microhttpd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST = 256, THREADS = 4 };
struct request { size_t bytes; char line[LONGEST + 1]; };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *text;
static size_t used, room;
static int count;
static FILE *file;

static enum MHD_Result answer(struct MHD_Connection *c, char *body, size_t bytes, enum MHD_ResponseMemoryMode mode) {
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes, body, mode);
    enum MHD_Result done = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return done;
}

static int add(struct request *r) {
    r->line[r->bytes++] = '\n';
    pthread_mutex_lock(&lock);
    if (used + r->bytes > room) text = realloc(text, room = 2 * room + LONGEST + 1);
    memcpy(text + used, r->line, r->bytes);
    used += r->bytes;
    fwrite(r->line, 1, r->bytes, file);
    fflush(file);
    int own = ++count;
    pthread_mutex_unlock(&lock);
    return own;
}

static enum MHD_Result on_request(void *unused, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *data, size_t *bytes, void **state) {
    (void)unused, (void)method, (void)version;
    struct request *r = *state;
    if (!r) return (*state = calloc(1, sizeof *r)) ? MHD_YES : MHD_NO;
    if (*bytes) {
        size_t take = *bytes < LONGEST - r->bytes ? *bytes : LONGEST - r->bytes;
        memcpy(r->line + r->bytes, data, take);
        r->bytes += take;
        *bytes = 0;
        return MHD_YES;
    }
    char body[LONGEST];
    if (!strcmp(url, "/add")) return answer(c, body, (size_t)sprintf(body, "%d", add(r)), MHD_RESPMEM_MUST_COPY);
    if (!strcmp(url, "/list")) {
        pthread_mutex_lock(&lock);
        size_t all = used;
        char *copy = malloc(all + 1);
        memcpy(copy, text ? text : "", all);
        pthread_mutex_unlock(&lock);
        return answer(c, copy, all, MHD_RESPMEM_MUST_FREE);
    }
    unsigned sum = 0;
    for (unsigned n = 0; n < 200000; n++) sum = sum * 31 + n % 977;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int length = snprintf(body, sizeof body, "%u %d %ld %ld.%09ld %p %lx %d", sum, rand(), (long)time(0), (long)now.tv_sec,
                          now.tv_nsec, (void *)r, (unsigned long)pthread_self(), gettid());
    return answer(c, body, (size_t)length, MHD_RESPMEM_MUST_COPY);
}

static void on_end(void *unused, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code) {
    (void)unused, (void)c, (void)code;
    free(*state);
}

int main(int words, char **word) {
    if (words != 2) return 2;
    file = fopen("ledger", "a");
    struct MHD_Daemon *server = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, (uint16_t)atoi(word[1]), NULL, NULL, on_request, NULL,
        MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS, MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_END);
    if (!file || !server) return 1;
    for (;;) pause();
}
