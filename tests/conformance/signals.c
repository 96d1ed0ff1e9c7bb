// Handlers, masks, siginfo, raise, kill, sigsuspend, sigwait, interruption and restart, signals to threads, alternate stack.
#include "check.h"
static volatile sig_atomic_t hits, code, value, on_alt; static char alt[65536];
static void plain(int s) { (void)s; hits++; }
static void rich(int s, siginfo_t *i, void *c) { (void)s; (void)c; hits++; code = i->si_code; value = i->si_value.sival_int; char here; on_alt = &here >= alt && &here < alt + sizeof alt; }
static void act(int s, void (*h)(int), int flags) { struct sigaction a = {.sa_handler = h, .sa_flags = flags}; sigemptyset(&a.sa_mask); MUST(sigaction(s, &a, 0) == 0); }
static void *killer(void *p) { usleep(20000); pthread_kill(*(pthread_t *)p, SIGUSR1); return 0; }
static void *waits(void *p) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR2); int got; sigwait(&s, &got); (void)p; return (void *)(long)got; }
int main(void) {
    act(SIGUSR1, plain, 0); raise(SIGUSR1); SAY("raise %d", hits); kill(getpid(), SIGUSR1); SAY("kill %d", hits);
    struct sigaction a = {.sa_sigaction = rich, .sa_flags = SA_SIGINFO | SA_ONSTACK}; stack_t st = {.ss_sp = alt, .ss_size = sizeof alt}; sigaltstack(&st, 0); sigaction(SIGUSR2, &a, 0);
    union sigval v = {.sival_int = 42}; sigqueue(getpid(), SIGUSR2, v); SAY("sigqueue %d code %d value %d alt %d", hits, code == SI_QUEUE, value, on_alt);
    sigset_t s, old, pend; sigemptyset(&s); sigaddset(&s, SIGUSR1); sigprocmask(SIG_BLOCK, &s, &old); raise(SIGUSR1); raise(SIGUSR1); SAY("blocked %d", hits);
    sigpending(&pend); SAY("pending %d", sigismember(&pend, SIGUSR1)); sigprocmask(SIG_SETMASK, &old, 0); SAY("unblocked once %d", hits);
    pthread_t me = pthread_self(), t; pthread_create(&t, 0, killer, &me); int p[2]; char b; MUST(pipe(p) == 0); SAY("read interrupted %s hits %d", strerror(ERR(read(p[0], &b, 1))), hits); pthread_join(t, 0);
    pthread_create(&t, 0, killer, &me); struct timespec d = {5, 0}, left; SAY("sleep interrupted %s left %d", strerror(ERR(nanosleep(&d, &left))), left.tv_sec == 4); pthread_join(t, 0);
    sigprocmask(SIG_BLOCK, &s, &old); pthread_create(&t, 0, killer, &me); sigset_t none; sigemptyset(&none); SAY("sigsuspend %s hits %d", strerror(ERR(sigsuspend(&none))), hits); pthread_join(t, 0); sigprocmask(SIG_SETMASK, &old, 0);
    sigemptyset(&s); sigaddset(&s, SIGUSR2); pthread_sigmask(SIG_BLOCK, &s, 0); pthread_create(&t, 0, waits, 0); kill(getpid(), SIGUSR2); void *r; pthread_join(t, &r); SAY("sigwait %ld", (long)r);
    struct timespec z = {0, 10000000}; siginfo_t info; SAY("sigtimedwait %s", strerror(ERR(sigtimedwait(&s, &info, &z))));
    raise(SIGUSR2); SAY("sigwaitinfo %d", sigwaitinfo(&s, &info)); pthread_sigmask(SIG_UNBLOCK, &s, 0);
    act(SIGALRM, plain, 0); hits = 0; alarm(1); pause(); SAY("alarm %d", hits); act(SIGUSR1, SIG_IGN, 0); raise(SIGUSR1); SAY("ignored %d", hits);
    pid_t c = fork(); if (!c) { act(SIGTERM, SIG_DFL, 0); pause(); _exit(0); } kill(c, SIGTERM); int w; waitpid(c, &w, 0); SAY("child killed %d by %d", WIFSIGNALED(w), WTERMSIG(w));
    SAY("no such process %s", strerror(ERR(kill(999999, 0)))); return 0;
}
