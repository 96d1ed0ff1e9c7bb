// What all conformance programs share: each prints lines that must be the same natively and under brolga.
#ifndef CHECK_H
#define CHECK_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// Prints a line. Unlike those of a plain call, the arguments are evaluated from left to right.
#define SAY(...) do { SAY_(__VA_ARGS__, 7, 6, 5, 4, 3, 2, 1, 0)(__VA_ARGS__); putchar('\n'); fflush(stdout); } while (0)
#define SAY_(f, a, b, c, d, e, g, h, n, ...) SAY##n
#define LET(n, v) __auto_type say_##n = (v)
#define SAY0(f) printf(f)
#define SAY1(f, a) LET(1, a); printf(f, say_1)
#define SAY2(f, a, b) LET(1, a); LET(2, b); printf(f, say_1, say_2)
#define SAY3(f, a, b, c) LET(1, a); LET(2, b); LET(3, c); printf(f, say_1, say_2, say_3)
#define SAY4(f, a, b, c, d) LET(1, a); LET(2, b); LET(3, c); LET(4, d); printf(f, say_1, say_2, say_3, say_4)
#define SAY5(f, a, b, c, d, e) \
    LET(1, a); LET(2, b); LET(3, c); LET(4, d); LET(5, e); printf(f, say_1, say_2, say_3, say_4, say_5)
// The value of an expression that is an errno after failure.
#define ERR(e) ((e) < 0 ? errno : 0)
#define MUST(e) do { if (!(e)) { printf("line %d: %s failed: %s\n", __LINE__, #e, strerror(errno)); exit(1); } } while (0)

// Programs sleep where another thread or process has said that it is about to block, and is given time to do so: that it
// waits shows only in what the test does next. In a replica it runs while this one sleeps, however long that takes;
// natively it is a matter of the machine's speed, so a test must not tell more by it than that somebody waits.
static inline struct timespec soon(clockid_t clock, long ms) {
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += ms * 1000000L;
    t.tv_sec += t.tv_nsec / 1000000000L;
    t.tv_nsec %= 1000000000L;
    return t;
}

// Makes a value that no two runs natively share a part of what replicas compare: they agree on how long each sleep is.
static inline void witness(uint64_t value) {
    struct timespec t = {0, (long)(value % 100003)};
    nanosleep(&t, 0);
}

static inline uint64_t hashed(uint64_t hash, const void *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3;
    return hash;
}

static inline long long now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
#endif
