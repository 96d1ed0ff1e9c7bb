// Users, groups, sessions: who a signal says it comes from, signals to process groups, a join of the main thread.
#include "check.h"
static volatile sig_atomic_t from_uid = -2, from_self, count;
static void rich(int s, siginfo_t *i, void *c) { (void)s; (void)c; from_uid = (int)i->si_uid; from_self = i->si_pid == getpid(); count++; }
static void plain(int s) { (void)s; count++; }
static pthread_t first;
static void *joins(void *p) { void *r; int e = pthread_join(first, &r); SAY("main thread joined %d %ld", e, (long)r); (void)p; exit(0); }
int main(void) {
    struct sigaction a = {.sa_sigaction = rich, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0);
    raise(SIGUSR1); SAY("own uid %d from self %d", from_uid == (int)getuid(), from_self);
    int st; pid_t c = fork();
    if (!c) { if (getuid() == 0) MUST(setgid(1234) == 0 && setuid(1234) == 0); kill(getpid(), SIGUSR1); _exit(from_uid == (int)getuid() && from_self ? 1 : 0); }
    waitpid(c, &st, 0); SAY("changed uid %d", WEXITSTATUS(st));
    signal(SIGUSR2, plain); int p[2], q[2]; char b; MUST(pipe(p) == 0 && pipe(q) == 0);
    pid_t g[2]; for (int i = 0; i < 2; i++) { g[i] = fork(); if (!g[i]) { setpgid(0, i ? g[0] : 0); MUST(write(p[1], "r", 1) == 1); while (!count) pause(); _exit(40 + i); } setpgid(g[i], g[0]); MUST(read(p[0], &b, 1) == 1); }
    SAY("group %d", getpgid(g[1]) == g[0]); count = 0; SAY("killpg %d", killpg(g[0], SIGUSR2)); SAY("not us %d", (int)count);
    for (int i = 0; i < 2; i++) { SAY("wait for the group %d", waitpid(-g[0], &st, 0) > 0); SAY("code %d", WEXITSTATUS(st) / 10); } SAY("group is gone %s", strerror(ERR(waitpid(-g[0], &st, 0))));
    SAY("killpg nobody %s", strerror(ERR(killpg(g[0], SIGUSR2))));
    c = fork(); if (!c) { pid_t s = setsid(); SAY("session %d leader %d", s == getpid(), getsid(0) == getpid() && getpgrp() == getpid()); SAY("again %s", strerror(ERR(setsid()))); _exit(0); } waitpid(c, &st, 0);
    MUST(write(q[1], "x", 1) == 1); first = pthread_self(); pthread_t t; MUST(pthread_create(&t, 0, joins, 0) == 0); pthread_exit((void *)77);
}
