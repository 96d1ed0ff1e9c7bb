// Job control: processes that are stopped and go on, and what their parent hears of it.
#include "check.h"
#include <poll.h>
#include <sys/select.h>

static volatile sig_atomic_t chlds, code, status_, conts, tstps, usr1s;
static void on_chld(int s, siginfo_t *i, void *c) { (void)s; (void)c; chlds++; code = i->si_code; status_ = i->si_status; }
static void on_cont(int s) { (void)s; conts++; }
static void on_tstp(int s) { (void)s; tstps++; }
static void on_usr1(int s) { (void)s; usr1s++; }

static char state(pid_t pid) {
    char path[64], text[512]; snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r"); MUST(f && fgets(text, sizeof text, f)); fclose(f);
    return strrchr(text, ')')[2];
}

static void told(const char *what, pid_t pid, int options) {
    int st = 0; pid_t r = waitpid(pid, &st, options);
    if (r < 0) { SAY("%s: %s", what, strerrorname_np(errno)); return; }
    if (r == 0) { SAY("%s: nothing", what); return; }
    MUST(pid < 0 || r == pid);
    if (WIFSTOPPED(st)) { SAY("%s: stopped by %s", what, sigabbrev_np(WSTOPSIG(st))); return; }
    if (WIFCONTINUED(st)) { SAY("%s: continued", what); return; }
    if (WIFSIGNALED(st)) { SAY("%s: killed by %s", what, sigabbrev_np(WTERMSIG(st))); return; }
    SAY("%s: exit %d", what, WEXITSTATUS(st));
}

static void info(const char *what, pid_t pid, int options) {
    siginfo_t i; memset(&i, 0, sizeof i);
    if (waitid(P_PID, pid, &i, options)) { SAY("%s: %s", what, strerrorname_np(errno)); return; }
    if (!i.si_pid) { SAY("%s: nothing", what); return; }
    SAY("%s: code %d status %s", what, i.si_code, i.si_code == CLD_EXITED ? "exit" : sigabbrev_np(i.si_status));
}

// A child that answers each byte with one; it ends when the pipe does.
static int ask[2], answer[2];
static pid_t echo(void) {
    MUST(pipe(ask) == 0 && pipe(answer) == 0);
    pid_t pid = fork();
    if (pid) { close(ask[0]); close(answer[1]); return pid; }
    close(ask[1]); close(answer[0]); char b;
    while (read(ask[0], &b, 1) == 1) MUST(write(answer[1], &b, 1) == 1);
    _exit(conts ? 40 + conts : 40);
}
static int answers(int ms) {
    struct timespec limit = {ms / 1000, ms % 1000 * 1000000L}; fd_set set; FD_ZERO(&set); FD_SET(answer[0], &set); char b;
    if (pselect(answer[0] + 1, &set, 0, 0, &limit, 0) != 1) return 0;
    return read(answer[0], &b, 1) == 1;
}
// Waits until it stands, and leaves that to be told. The kernel sends SIGCHLD for a continuation a moment after it can be waited for.
static void stands(pid_t pid) { siginfo_t i; MUST(waitid(P_PID, pid, &i, WSTOPPED | WNOWAIT) == 0); }
static void heard(int n) { while (chlds < n) usleep(1000); }
static void closed(void) { close(ask[1]); close(answer[0]); }

// Threads of one process count; all of them stand still.
static volatile long counts[3]; static volatile int over;
static void *counter(void *n) { while (!over) { counts[(long)n]++; usleep(1000); } return 0; }

int main(void) {
    pid_t c; int st, gate[2]; char b;
    struct sigaction a = {.sa_sigaction = on_chld, .sa_flags = SA_SIGINFO | SA_RESTART}; sigaction(SIGCHLD, &a, NULL);

    // Another process stops it, asks, lets it go on.
    c = echo(); MUST(write(ask[1], "a", 1) == 1); SAY("answers %d", answers(5000));
    told("lives", c, WNOHANG | WUNTRACED | WCONTINUED);
    MUST(kill(c, SIGSTOP) == 0); told("stop", c, WUNTRACED); heard(1); SAY("SIGCHLD %d code %d status %s, state %c", chlds, code == CLD_STOPPED, sigabbrev_np(status_), state(c));
    told("told once", c, WNOHANG | WUNTRACED); MUST(kill(c, SIGSTOP) == 0); told("stop again", c, WNOHANG | WUNTRACED);
    MUST(write(ask[1], "b", 1) == 1); SAY("answers while stopped %d", answers(100));
    MUST(kill(c, SIGCONT) == 0); told("continue", c, WCONTINUED); heard(2); SAY("SIGCHLD %d code %d status %s", chlds, code == CLD_CONTINUED, sigabbrev_np(status_));
    told("told once", c, WNOHANG | WCONTINUED); SAY("answers %d", answers(5000));
    MUST(kill(c, SIGCONT) == 0); told("it runs already", c, WNOHANG | WCONTINUED);
    closed(); told("end", c, WUNTRACED | WCONTINUED); heard(3); SAY("SIGCHLD %d code %d", chlds, code == CLD_EXITED);

    // waitid, what is kept, and a parent that does not ask for stops.
    c = echo(); MUST(kill(c, SIGSTOP) == 0); info("kept", c, WSTOPPED | WNOWAIT); info("kept", c, WSTOPPED | WEXITED | WNOWAIT); info("taken", c, WSTOPPED); info("gone", c, WSTOPPED | WNOHANG);
    MUST(kill(c, SIGCONT) == 0); info("kept", c, WCONTINUED | WNOWAIT); info("not asked for", c, WEXITED | WSTOPPED | WNOHANG); info("taken", c, WCONTINUED);
    MUST(kill(c, SIGSTOP) == 0); stands(c); told("not asked for", c, WNOHANG); MUST(kill(c, SIGCONT) == 0); info("overtaken", c, WSTOPPED | WNOHANG); info("taken", c, WCONTINUED);
    closed(); info("end", c, WEXITED); SAY("bad option %s", strerrorname_np(ERR(waitpid(-1, &st, WNOWAIT))));
    chlds = 0; a.sa_flags |= SA_NOCLDSTOP; sigaction(SIGCHLD, &a, NULL);
    c = echo(); MUST(kill(c, SIGSTOP) == 0); told("SA_NOCLDSTOP", c, WUNTRACED); MUST(kill(c, SIGCONT) == 0); told("SA_NOCLDSTOP", c, WCONTINUED); SAY("SIGCHLD %d", chlds); closed(); told("end", c, 0);

    // By itself: raise, abort to a stopped one, SIGKILL and SIGTERM of one.
    if (!(c = fork())) { raise(SIGSTOP); kill(getpid(), SIGSTOP); _exit(7); }
    told("raise", c, WUNTRACED); kill(c, SIGCONT); told("kill itself", c, WUNTRACED); kill(c, SIGCONT); told("end", c, WUNTRACED);
    c = echo(); kill(c, SIGSTOP); told("stop", c, WUNTRACED); kill(c, SIGTERM); told("SIGTERM waits", c, WNOHANG); kill(c, SIGCONT); told("end", c, 0); closed();
    c = echo(); kill(c, SIGSTOP); told("stop", c, WUNTRACED); kill(c, SIGKILL); told("SIGKILL does not", c, WUNTRACED | WCONTINUED); closed();

    // Handlers. SIGCONT's runs; it lets the process go on if it is blocked, too, or ignored.
    sigset_t set, old; signal(SIGCONT, on_cont);
    c = echo(); kill(c, SIGSTOP); told("stop", c, WUNTRACED); kill(c, SIGCONT); told("handled", c, WCONTINUED); MUST(write(ask[1], "c", 1) == 1 && answers(5000)); closed(); told("handler ran", c, 0);
    sigemptyset(&set); sigaddset(&set, SIGCONT); sigprocmask(SIG_BLOCK, &set, &old);
    c = echo(); kill(c, SIGSTOP); told("stop", c, WUNTRACED); kill(c, SIGCONT); told("blocked", c, WCONTINUED); closed(); told("handler waits", c, 0); sigprocmask(SIG_SETMASK, &old, 0);
    signal(SIGCONT, SIG_IGN); c = echo(); kill(c, SIGSTOP); told("stop", c, WUNTRACED); kill(c, SIGCONT); told("ignored", c, WCONTINUED); closed(); told("end", c, 0); signal(SIGCONT, SIG_DFL);

    // The signals of terminals, in a group whose parent is outside of it: by default, handled, ignored, blocked.
    int terminals[] = {SIGTSTP, SIGTTIN, SIGTTOU};
    for (int k = 0; k < 3; k++) { c = echo(); MUST(setpgid(c, c) == 0); kill(-c, terminals[k]); told(sigabbrev_np(terminals[k]), c, WUNTRACED); kill(c, SIGCONT); told("go on", c, WCONTINUED); closed(); told("end", c, WUNTRACED); }
    signal(SIGTSTP, on_tstp); c = echo(); setpgid(c, c); MUST(write(ask[1], "d", 1) == 1 && answers(5000)); kill(c, SIGTSTP); MUST(write(ask[1], "e", 1) == 1 && answers(5000)); told("handled", c, WNOHANG | WUNTRACED); kill(c, SIGKILL); told("end", c, 0); closed();
    signal(SIGTSTP, SIG_IGN); c = echo(); setpgid(c, c); kill(c, SIGTSTP); MUST(write(ask[1], "f", 1) == 1 && answers(5000)); told("ignored", c, WNOHANG | WUNTRACED); closed(); told("end", c, 0); signal(SIGTSTP, SIG_DFL);
    MUST(pipe(gate) == 0); sigemptyset(&set); sigaddset(&set, SIGTSTP); sigprocmask(SIG_BLOCK, &set, &old);
    if (!(c = fork())) { setpgid(0, 0); MUST(read(gate[0], &b, 1) == 1); sigset_t now; sigpending(&now); st = sigismember(&now, SIGTSTP); sigprocmask(SIG_SETMASK, &old, 0); _exit(st ? 8 : 9); }
    setpgid(c, c); kill(c, SIGTSTP); told("blocked", c, WNOHANG | WUNTRACED); MUST(write(gate[1], "g", 1) == 1); told("unblocked", c, WUNTRACED); kill(c, SIGCONT); told("end", c, WUNTRACED);
    if (!(c = fork())) { setpgid(0, 0); MUST(read(gate[0], &b, 1) == 1); sigset_t now; sigpending(&now); st = sigismember(&now, SIGTSTP); sigprocmask(SIG_SETMASK, &old, 0); _exit(st ? 8 : 9); }
    setpgid(c, c); kill(c, SIGTSTP); kill(c, SIGCONT); MUST(write(gate[1], "h", 1) == 1); told("cancelled by SIGCONT", c, WUNTRACED);
    if (!(c = fork())) { setpgid(0, 0); struct timespec t = {5, 0}; sigdelset(&old, SIGTSTP); MUST(ppoll(0, 0, &t, &old) == 0 || errno == EINTR); _exit(3); }
    setpgid(c, c); kill(c, SIGTSTP); told("unblocked by ppoll", c, WUNTRACED); kill(c, SIGKILL); told("end", c, 0); sigprocmask(SIG_SETMASK, &old, 0);

    // In an orphaned group nobody could let it go on: a session of its own, and a group that loses its parent while stopped.
    if (!(c = fork())) { setsid(); kill(getpid(), SIGTSTP); raise(SIGTTIN); raise(SIGTTOU); _exit(11); }
    told("orphaned", c, WUNTRACED); if (!(c = fork())) { setsid(); raise(SIGSTOP); _exit(12); } told("but SIGSTOP", c, WUNTRACED); kill(c, SIGCONT); told("end", c, WUNTRACED);
    int hup[2]; MUST(pipe(hup) == 0);
    if (!(c = fork())) {
        setsid(); pid_t job = fork();
        if (!job) { setpgid(0, 0); signal(SIGHUP, on_usr1); signal(SIGCONT, on_cont); raise(SIGSTOP); b = '0' + usr1s + 2 * conts; MUST(write(hup[1], &b, 1) == 1); _exit(0); }
        MUST(waitpid(job, &st, WUNTRACED) == job && WIFSTOPPED(st)); _exit(0);
    }
    told("its parent ends", c, 0); MUST(read(hup[0], &b, 1) == 1); SAY("hung up and continued %c", b);

    // Who waits goes on waiting, and a signal that came meanwhile is taken afterwards.
    signal(SIGUSR1, on_usr1);
    if (!(c = fork())) { struct timespec t = {0, 20000000}; int r = nanosleep(&t, 0); _exit(r == 0 ? 5 : 6); }
    kill(c, SIGSTOP); told("in a sleep", c, WUNTRACED); usleep(50000); told("it is over", c, WNOHANG); kill(c, SIGCONT); told("end", c, 0);
    sigemptyset(&set); sigaddset(&set, SIGUSR1); sigprocmask(SIG_BLOCK, &set, &old);
    if (!(c = fork())) { MUST(sigsuspend(&old) < 0 && errno == EINTR); _exit(20 + usr1s); }
    sigprocmask(SIG_SETMASK, &old, 0);
    kill(c, SIGSTOP); told("in sigsuspend", c, WUNTRACED); kill(c, SIGUSR1); kill(c, SIGUSR1); kill(c, SIGCONT); told("end", c, 0);

    // Threads.
    if (!(c = fork())) {
        pthread_t t[3]; for (long k = 0; k < 3; k++) pthread_create(&t[k], 0, counter, (void *)k);
        while (!counts[0] || !counts[1] || !counts[2]) usleep(1000);
        MUST(write(gate[1], "t", 1) == 1); long before = counts[0]; struct timespec from, to; clock_gettime(CLOCK_MONOTONIC, &from);
        do { usleep(1000); clock_gettime(CLOCK_MONOTONIC, &to); } while (to.tv_sec - from.tv_sec < 1 && !conts);
        over = 1; for (int k = 0; k < 3; k++) pthread_join(t[k], 0);
        _exit(before > 0 ? 50 : 51);
    }
    MUST(read(gate[0], &b, 1) == 1); for (int k = 0; k < 5; k++) { kill(c, SIGSTOP); MUST(waitpid(c, &st, WUNTRACED) == c && WIFSTOPPED(st) && state(c) == 'T'); usleep(3000); kill(c, SIGCONT); MUST(waitpid(c, &st, WCONTINUED) == c && WIFCONTINUED(st)); }
    told("threads", c, WUNTRACED);
    return 0;
}
