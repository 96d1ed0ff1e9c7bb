// Masks that libc changes inside itself: siglongjmp, sighold, posix_spawn, swapcontext; and what a program inherits over exec.
// cc: -Wno-deprecated-declarations
#include "check.h"
#include <setjmp.h>
#include <ucontext.h>
#include <spawn.h>
static sigjmp_buf back; static volatile sig_atomic_t hits;
static void jumps(int s) { (void)s; hits++; siglongjmp(back, 1); }
static void plain(int s) { (void)s; hits++; }
static unsigned long mask(void) { sigset_t s; sigprocmask(SIG_BLOCK, 0, &s); return *(unsigned long *)&s; }
static ucontext_t here, there; static void other(void) { sigset_t s; sigemptyset(&s); sigaddset(&s, SIGTERM); sigprocmask(SIG_BLOCK, &s, 0); SAY("there %lx", mask()); swapcontext(&there, &here); }
static pthread_barrier_t both;
static void *blocks(void *p) {
    sigset_t s; sigemptyset(&s); sigaddset(&s, SIGALRM); pthread_sigmask(SIG_BLOCK, &s, 0); pthread_barrier_wait(&both); pthread_barrier_wait(&both);
    SAY("the other thread has %lx", mask()); return p;
}
// Threads have masks of their own, also while others change theirs; what a thread blocks at its end is nobody else's.
static void of_threads(sigset_t *usr2) {
    pthread_t t; sigset_t old; pthread_barrier_init(&both, 0, 2); pthread_create(&t, 0, blocks, 0); pthread_barrier_wait(&both); SAY("this thread has %lx", mask());
    pthread_sigmask(SIG_BLOCK, usr2, &old); SAY("had %d and has %lx", sigismember(&old, SIGALRM), mask()); pthread_barrier_wait(&both); pthread_join(t, 0); SAY("afterwards %lx", mask());
    pthread_sigmask(SIG_SETMASK, &old, 0); hits = 0; signal(SIGALRM, plain); raise(SIGALRM); SAY("hits %d", hits);
}
int main(int argc, char **argv) {
    if (argc > 1) { struct sigaction a; sigaction(SIGHUP, 0, &a); SAY("%s: mask %lx hup ignored %d", argv[1], mask(), a.sa_handler == SIG_IGN); sigaction(SIGUSR2, 0, &a); SAY("usr2 ignored %d", a.sa_handler == SIG_IGN); return 0; }
    sigset_t none; sigemptyset(&none); sigprocmask(SIG_SETMASK, &none, 0);
    signal(SIGUSR1, jumps); sigset_t usr2; sigemptyset(&usr2); sigaddset(&usr2, SIGUSR2);
    for (int i = 0; i < 2; i++) { if (!sigsetjmp(back, 1)) raise(SIGUSR1); SAY("back %d mask %lx", hits, mask()); }
    sigprocmask(SIG_BLOCK, &usr2, 0); SAY("blocked %lx", mask()); if (!sigsetjmp(back, 1)) raise(SIGUSR1); SAY("hits %d mask %lx", hits, mask()); sigprocmask(SIG_UNBLOCK, &usr2, 0);
    of_threads(&usr2);
    sighold(SIGQUIT); SAY("held %lx", mask()); sigrelse(SIGQUIT); SAY("released %lx", mask()); int old = sigblock(sigmask(SIGTERM)); SAY("block %x mask %lx", old, mask()); sigsetmask(old); SAY("set %lx", mask());
    getcontext(&there); static char stack[65536]; there.uc_stack.ss_sp = stack; there.uc_stack.ss_size = sizeof stack; makecontext(&there, other, 0); swapcontext(&here, &there); SAY("here %lx", mask());
    posix_spawnattr_t a; posix_spawnattr_init(&a); posix_spawnattr_setsigmask(&a, &usr2); posix_spawnattr_setflags(&a, POSIX_SPAWN_SETSIGMASK); signal(SIGHUP, SIG_IGN); extern char **environ; pid_t p; MUST(posix_spawn(&p, "/proc/self/exe", 0, &a, (char *[]){argv[0], "spawned", 0}, environ) == 0); waitpid(p, 0, 0);
    posix_spawnattr_setsigdefault(&a, &usr2); posix_spawnattr_setflags(&a, POSIX_SPAWN_SETSIGDEF); signal(SIGUSR2, SIG_IGN); MUST(posix_spawn(&p, "/proc/self/exe", 0, &a, (char *[]){argv[0], "with a default", 0}, environ) == 0); waitpid(p, 0, 0);
    if (!fork()) { sighold(SIGTERM); signal(SIGUSR2, plain); execl("/proc/self/exe", argv[0], "executed", (char *)0); } wait(0);
    return 0;
}
