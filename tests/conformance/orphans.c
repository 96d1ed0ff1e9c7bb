// Children that outlive their parent: the signal that they asked for, and the ancestor that takes them in.
#include "check.h"
#include <sys/prctl.h>
static volatile sig_atomic_t got, from; static void told(int s, siginfo_t *i, void *c) { (void)c; got = s; from = i->si_pid; }
static int p[2]; static char b; static pid_t me;
static int asked(void) { int s = -1; MUST(prctl(PR_GET_PDEATHSIG, &s) == 0); return s; }
static int takes(void) { int on = -1; MUST(prctl(PR_GET_CHILD_SUBREAPER, &on) == 0); return on; }
// A parent that ends when its child is ready; what the child says comes before what is said of the parent.
static void outlived(void (*child)(pid_t)) {
    pid_t c = fork(); MUST(c >= 0);
    if (!c) { pid_t parent = getpid(); if (!fork()) { child(parent); MUST(write(p[1], "d", 1) == 1); _exit(21); } MUST(read(p[0], &b, 1) == 1); _exit(20); }
    int st; MUST(waitpid(c, &st, 0) == c); MUST(read(p[0], &b, 1) == 1); SAY("parent %d", WEXITSTATUS(st));
}
static void wants_a_signal(pid_t parent) {
    sigset_t s, old; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, &old);
    MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0); SAY("asked for %d", asked() == SIGUSR1); MUST(write(p[1], "r", 1) == 1);
    while (!got) sigsuspend(&old);
    SAY("told %d by the parent %d", got == SIGUSR1, from == parent); SAY("is an orphan %d", getppid() != parent);
    pid_t c = fork(); if (!c) { SAY("not inherited %d", asked()); _exit(0); } waitpid(c, 0, 0);
}
static void is_adopted(pid_t parent) { MUST(write(p[1], "r", 1) == 1); while (getppid() == parent) usleep(1000); SAY("adopted by the ancestor %d", getppid() == me); }
static volatile sig_atomic_t children; static void child(int s) { (void)s; children++; }
int main(void) {
    me = getpid(); MUST(pipe(p) == 0); struct sigaction a = {.sa_sigaction = told, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &a, 0);
    SAY("no such signal %s", strerror(ERR(prctl(PR_SET_PDEATHSIG, 65)))); SAY("switched off %d", prctl(PR_SET_PDEATHSIG, 0)); SAY("none %d", asked());
    outlived(wants_a_signal); int st; SAY("no child of ours %s", strerror(ERR(waitpid(-1, &st, 0))));
    SAY("takes none %d", takes()); MUST(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); SAY("takes orphans %d", takes());
    signal(SIGCHLD, child); outlived(is_adopted); SAY("waited for %d", waitpid(-1, &st, 0) > 0); SAY("its code %d", WEXITSTATUS(st)); SAY("signals %d", children >= 1);
    pid_t c = fork(); if (!c) { SAY("a child takes none %d", takes()); _exit(0); } waitpid(c, 0, 0);
    // One that has ended before its parent does, and was not waited for.
    c = fork(); if (!c) { pid_t z = fork(); if (!z) _exit(33); siginfo_t i; MUST(waitid(P_PID, z, &i, WEXITED | WNOWAIT) == 0); _exit(0); } MUST(waitpid(c, &st, 0) == c); SAY("a zombie comes along %d", waitpid(-1, &st, 0) > 0); SAY("its code %d", WEXITSTATUS(st));
    SAY("no more %s", strerror(ERR(wait(&st)))); return 0;
}
