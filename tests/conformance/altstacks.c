// Alternate signal stacks, and threads that run on stacks of their own making with no room for a signal frame.
#include "check.h"
#include <sys/syscall.h>
static long raw(long n, long a, long b, long c) { long r; __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory"); return r; }
static void show(const char *when) { stack_t s; MUST(sigaltstack(0, &s) == 0); SAY("%s: size %zu flags %d", when, s.ss_size, s.ss_flags); }
static void on_signal(int signal) {
    stack_t s, other = {.ss_sp = malloc(65536), .ss_size = 65536};
    MUST(sigaltstack(0, &s) == 0);
    SAY("handler of %d: flags %d, change %d", signal, s.ss_flags, ERR(sigaltstack(&other, 0)));
    char here;
    SAY("on it %d, pipe %d", &here >= (char *)s.ss_sp && &here < (char *)s.ss_sp + s.ss_size, ERR(raw(SYS_close, 777, 0, 0)));
}
// A stack as small as a coroutine's, with known bytes around it.
enum { GUARD = 16384, ROOM = 1024 };
static _Thread_local char field[GUARD + ROOM + GUARD] __attribute__((aligned(64)));
static void *small(void *x) {
    stack_t own = {.ss_sp = malloc(32768), .ss_size = 32768};
    MUST(sigaltstack(&own, 0) == 0);
    memset(field, 0x5a, sizeof field);
    struct timespec t = {0, 2000000};
    long r, number[] = {SYS_clock_gettime, SYS_sched_yield, SYS_nanosleep, SYS_gettimeofday};
    for (int i = 0; i < 40; i++) {
        long n = number[i % 4], first = n == SYS_clock_gettime ? 1 : (long)&t, second = n == SYS_clock_gettime ? (long)&t : 0;
        __asm__ volatile("mov %%rsp, %%rbx; mov %4, %%rsp; syscall; mov %%rbx, %%rsp" : "=a"(r) : "a"(n), "D"(first), "S"(second), "r"(field + GUARD + ROOM) : "rbx", "rcx", "r11", "r10", "memory");
        MUST(r == 0);
        t = (struct timespec){0, 100000};
    }
    for (size_t i = 0; i < sizeof field; i++) MUST(field[i] == 0x5a);
    stack_t off = {.ss_flags = SS_DISABLE};
    MUST(sigaltstack(&off, 0) == 0);
    free(own.ss_sp);
    return x;
}
static void *threads(void *x) {
    for (int i = 0; i < 3; i++) {
        pthread_t t[4];
        for (int k = 0; k < 4; k++) pthread_create(t + k, 0, small, 0);
        for (int k = 0; k < 4; k++) pthread_join(t[k], 0);
    }
    return x;
}
static void *reporter(void *x) {
    stack_t s = {.ss_sp = malloc(16384), .ss_size = 16384};
    show("thread");
    MUST(sigaltstack(&s, 0) == 0);
    show("thread, set");
    pthread_kill(pthread_self(), SIGUSR1);
    show("thread, after");
    return x;
}
int main(void) {
    show("start");
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK}; sigaction(SIGUSR1, &a, 0);
    stack_t little = {.ss_sp = malloc(1024), .ss_size = 1024}, usual = {.ss_sp = malloc(8192), .ss_size = 8192}, old;
    SAY("too small %d", ERR(sigaltstack(&little, 0)));
    stack_t odd = usual; odd.ss_flags = 99; SAY("odd flags %d", ERR(sigaltstack(&odd, 0)));
    SAY("set %d", ERR(sigaltstack(&usual, &old))); SAY("was %d", old.ss_flags); show("set"); raise(SIGUSR1); show("after the handler");
    pid_t c = fork(); if (!c) { show("child"); raise(SIGUSR1); exit(3); } int st; waitpid(c, &st, 0); SAY("child %d", WEXITSTATUS(st));
    stack_t large = {.ss_sp = malloc(65536), .ss_size = 65536}; SAY("larger %d", ERR(sigaltstack(&large, &old))); SAY("was %zu, %d", old.ss_size, old.ss_sp == usual.ss_sp); raise(SIGUSR1);
    stack_t off = {.ss_flags = SS_DISABLE}; SAY("off %d", ERR(sigaltstack(&off, 0))); show("off");
    for (int i = 0; i < 3; i++) { pthread_t t; pthread_create(&t, 0, reporter, 0); pthread_join(t, 0); }
    threads(0); SAY("small stacks are whole %d", 1); return 0;
}
