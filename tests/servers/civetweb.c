// A ledger over HTTP, built around the embedded server civetweb with a pool of threads; ledger.py says what it does.
#define _GNU_SOURCE
#include <civetweb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST = 256 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *text;
static size_t used, room;
static int count;
static FILE *file;

static int answer(struct mg_connection *c, const char *body, size_t bytes) {
    mg_printf(c, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: keep-alive\r\n\r\n", bytes);
    mg_write(c, body, bytes);
    return 200;
}

static int add(struct mg_connection *c, void *unused) {
    char line[LONGEST + 1], number[32];
    int bytes = mg_read(c, line, LONGEST);
    (void)unused;
    if (bytes < 0) return 500;
    line[bytes++] = '\n';
    pthread_mutex_lock(&lock);
    if (used + (size_t)bytes > room) text = realloc(text, room = 2 * room + LONGEST + 1);
    memcpy(text + used, line, (size_t)bytes);
    used += (size_t)bytes;
    fwrite(line, 1, (size_t)bytes, file);
    fflush(file);
    int own = ++count;
    pthread_mutex_unlock(&lock);
    return answer(c, number, (size_t)sprintf(number, "%d", own));
}

static int list(struct mg_connection *c, void *unused) {
    (void)unused;
    pthread_mutex_lock(&lock);
    size_t bytes = used;
    char *copy = malloc(bytes + 1);
    memcpy(copy, text ? text : "", bytes);
    pthread_mutex_unlock(&lock);
    int code = answer(c, copy, bytes);
    free(copy);
    return code;
}

static int chance(struct mg_connection *c, void *unused) {
    char body[LONGEST];
    struct timespec now;
    (void)unused;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int bytes = snprintf(body, sizeof body, "%d %ld %ld.%09ld %p %lx %d", rand(), (long)time(0), (long)now.tv_sec,
                         now.tv_nsec, (void *)body, (unsigned long)pthread_self(), gettid());
    return answer(c, body, (size_t)bytes);
}

static int work(struct mg_connection *c, void *unused) {
    char body[32];
    unsigned sum = 0;
    (void)unused;
    for (unsigned n = 0; n < 200000; n++) sum = sum * 31 + n % 977;
    return answer(c, body, (size_t)sprintf(body, "%u", sum));
}

int main(int words, char **word) {
    if (words != 2) return 2;
    const char *options[] = {"listening_ports", word[1], "num_threads", "8", "enable_keep_alive", "yes",
                             "keep_alive_timeout_ms", "10000", NULL};
    file = fopen("ledger", "a");
    mg_init_library(0);
    struct mg_context *server = mg_start(NULL, NULL, options);
    if (!file || !server) return 1;
    mg_set_request_handler(server, "/add", add, NULL);
    mg_set_request_handler(server, "/list", list, NULL);
    mg_set_request_handler(server, "/chance", chance, NULL);
    mg_set_request_handler(server, "/work", work, NULL);
    for (;;) pause();
}
