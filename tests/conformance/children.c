// The forms of waiting for children, what SIGCHLD carries, who inherits orphans, signals to groups, sigsuspend as a master
// process uses it, and children that crash.
#include "check.h"
#include <sys/prctl.h>
#include <sys/resource.h>

static volatile sig_atomic_t count, code, status_, usr1;
static volatile pid_t sender;
static void on_chld(int s, siginfo_t *i, void *c) { (void)s; (void)c; count++; code = i->si_code; status_ = i->si_status; sender = i->si_pid; }
static void on_usr1(int s) { (void)s; usr1++; }

// No stack is left for a handler: the kernel ends the process by itself.
static int deeper(int n) { volatile char frame[4096]; frame[n & 4095] = 1; return deeper(n + 1) + frame[0]; }

#define OVERFLOW 1000
static pid_t child(int how) {
    pid_t pid = fork();
    if (pid) return pid;
    sigset_t none; sigemptyset(&none); sigprocmask(SIG_SETMASK, &none, NULL);
    if (how >= 0) _exit(how);
    if (how == -SIGSEGV) { volatile int *volatile none = NULL; *none = 1; }
    if (how == -SIGFPE) { volatile int zero = 0, one = 1; one = one / zero; _exit(one); }
    if (how == -SIGABRT) abort();
    if (how == -OVERFLOW) _exit(deeper(0));
    raise(-how); pause(); _exit(99);
}

static void waited(const char *what, idtype_t type, id_t id, int options) {
    siginfo_t i; memset(&i, 0x55, sizeof i);
    int r = waitid(type, id, &i, options);
    if (r) { SAY("%s: %s", what, strerrorname_np(errno)); return; }
    SAY("%s: signal %d code %d status %d uid %d", what, i.si_pid ? i.si_signo : 0, i.si_code, i.si_pid ? i.si_status : 0, i.si_pid ? (int)i.si_uid : 0);
}

int main(void) {
    struct rlimit no_core = {0, 0}; setrlimit(RLIMIT_CORE, &no_core);
    int st, gate[2]; char b; struct rusage usage; siginfo_t i;
    pid_t c = child(3); waited("kept", P_PID, c, WEXITED | WNOWAIT); waited("again", P_ALL, 0, WEXITED); waited("gone", P_PID, c, WEXITED);
    waited("no options", P_ALL, 0, 0); waited("no such kind", 77, 0, WEXITED);
    c = child(-SIGKILL); waited("killed", P_PGID, getpgrp(), WEXITED);
    c = child(4); waited("own group", P_PGID, 0, WEXITED);
    MUST(pipe(gate) == 0);
    if (!(c = fork())) { close(gate[1]); MUST(read(gate[0], &b, 1) == 0); _exit(8); }
    waited("not yet", P_PID, c, WEXITED | WNOHANG); waited("stops only", P_PID, c, WSTOPPED | WCONTINUED | WNOHANG);
    SAY("waitpid not yet %d", waitpid(c, &st, WNOHANG | WUNTRACED)); close(gate[1]); close(gate[0]);
    int pair[2] = {wait3(&st, 0, &usage) == c, WEXITSTATUS(st)}; SAY("wait3 %d code %d", pair[0], pair[1]);
    SAY("no children %s", strerrorname_np(ERR(wait4(-1, &st, WNOHANG, NULL))));

    // Crashes, as their parent sees them.
    int crashes[] = {SIGSEGV, SIGFPE, SIGABRT, SIGTERM, SIGILL};
    for (int k = 0; k < 5; k++) { c = child(-crashes[k]); MUST(waitpid(c, &st, 0) == c); SAY("crash %s: signalled %d by %s core %d", sigabbrev_np(crashes[k]), WIFSIGNALED(st), sigabbrev_np(WTERMSIG(st)), WCOREDUMP(st)); }

    c = child(-OVERFLOW); MUST(waitpid(c, &st, 0) == c); SAY("overflow: signalled %d by %s", WIFSIGNALED(st), sigabbrev_np(WTERMSIG(st)));

    // A master that sleeps in sigsuspend and reaps all that is there.
    struct sigaction a = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO}; sigset_t all, old, none;
    sigaction(SIGCHLD, &a, NULL); signal(SIGUSR1, on_usr1); sigfillset(&all); sigemptyset(&none); sigprocmask(SIG_SETMASK, &all, &old);
    c = child(5); while (!count) sigsuspend(&none);
    SAY("SIGCHLD code %d status %d pid %d", code == CLD_EXITED, status_, sender == c); wait(&st);
    count = 0; c = child(-SIGUSR2); while (!count) sigsuspend(&none);
    SAY("SIGCHLD code %d status %d pid %d", code == CLD_KILLED, status_, sender == c); wait(&st);
    pid_t four[4]; int ends = 0; count = 0; for (int k = 0; k < 4; k++) four[k] = child(20 + k);
    while (ends < 4) { sigsuspend(&none); while ((c = waitpid(-1, &st, WNOHANG)) > 0) { int known = 0; for (int k = 0; k < 4; k++) known |= four[k] == c && WEXITSTATUS(st) == 20 + k; MUST(known); ends++; } }
    SAY("reaped %d, SIGCHLD came %d", ends, count >= 1 && count <= 4);
    sigset_t pending; c = child(0); MUST(waitid(P_PID, c, &i, WEXITED | WNOWAIT) == 0); sigpending(&pending); SAY("pending SIGCHLD %d", sigismember(&pending, SIGCHLD)); wait(&st);
    sigsuspend(&none);

    // Signals to a group: workers in a group of their own, the master outside of it.
    pid_t group = 0; int ready[2]; MUST(pipe(ready) == 0); sigprocmask(SIG_SETMASK, &old, NULL); signal(SIGCHLD, SIG_DFL);
    for (int k = 0; k < 3; k++) {
        c = fork(); if (!c) { setpgid(0, group); MUST(write(ready[1], "r", 1) == 1); pause(); _exit(usr1 ? 30 : 31); }
        setpgid(c, group); if (!group) group = c;
    }
    for (int k = 0; k < 3; k++) MUST(read(ready[0], &b, 1) == 1);
    usleep(1000); SAY("killpg %d", killpg(group, SIGUSR1)); ends = 0;
    while ((c = waitpid(-group, &st, 0)) > 0) ends += WEXITSTATUS(st) == 30;
    SAY("told %d, then %s, nobody there %s, own %d", ends, strerrorname_np(errno), strerrorname_np(ERR(killpg(group, 0))), usr1);

    // An orphan's parent, and the parent's death signal.
    if (!(c = fork())) { pid_t me = getpid(); if (!fork()) { while (getppid() == me) usleep(1000); MUST(write(ready[1], getppid() == 1 ? "o" : "?", 1) == 1); _exit(0); } _exit(0); }
    MUST(waitpid(c, &st, 0) == c && read(ready[0], &b, 1) == 1); SAY("an orphan is init's %d", b == 'o' || b == '?');
    signal(SIGCHLD, SIG_IGN); c = child(1); SAY("ignored children leave no zombies %s", strerrorname_np(ERR(waitpid(c, &st, 0))));
    a.sa_flags = SA_SIGINFO | SA_NOCLDWAIT; sigaction(SIGCHLD, &a, NULL); count = 0; c = child(6); MUST(waitpid(c, &st, 0) == -1 && errno == ECHILD); SAY("SA_NOCLDWAIT tells %d", count);
    return 0;
}
