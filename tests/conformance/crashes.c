// Processes that crash: the parent sees the same death, whatever the fault and whichever thread it is in.
#include "check.h"
#include <sys/mman.h>
static void crash(int kind) {
    volatile int zero = 0;
    switch (kind) {
    case 0: *(volatile int *)8 = 1; break;
    case 1: zero = 1000 / zero; break;
    case 2: __asm__ volatile("ud2"); break;
    case 3: __asm__ volatile("int3"); break;
    case 4: {
        FILE *f = tmpfile();
        *(volatile char *)mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(f), 0) = 1;
        break;
    }
    case 5: abort();
    case 6: ((void (*)(void))(uintptr_t)0x123400000000)(); break;
    case 7: raise(SIGSEGV); break;
    case 8: raise(SIGFPE); break;
    }
}
static void *in_thread(void *kind) { crash((int)(intptr_t)kind); return 0; }
static void on_fault(int signal, siginfo_t *info, void *c) { (void)c; SAY("handler of %d, code %d", signal, info->si_code > 0); _exit(signal); }
static void child(const char *how, int kind, int threads, int handled) {
    fflush(stdout);
    pid_t c = fork();
    if (!c) {
        struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
        for (int s = 1; handled && s < 32; s++) sigaction(s, &a, 0);
        if (handled) { signal(SIGFPE, SIG_DFL); sigaction(SIGFPE, &a, 0); }
        pthread_t t;
        if (threads) { pthread_create(&t, 0, in_thread, (void *)(intptr_t)kind); pthread_join(t, 0); } else crash(kind);
        _exit(99);
    }
    int st;
    waitpid(c, &st, 0);
    SAY("%s %d: signal %d, code %d", how, kind, WIFSIGNALED(st) ? WTERMSIG(st) : 0, WIFEXITED(st) ? WEXITSTATUS(st) : 0);
}
int main(void) {
    for (int kind = 0; kind < 9; kind++) { child("plain", kind, 0, 0); child("in a thread", kind, 1, 0); child("handled", kind, 0, 1); }
    // The default action is set again, and ignoring a fault does not help.
    pid_t c = fork();
    if (!c) { signal(SIGFPE, SIG_IGN); crash(1); _exit(99); }
    int st; waitpid(c, &st, 0); SAY("ignored: signal %d", WTERMSIG(st));
    return 0;
}
