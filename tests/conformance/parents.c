// Signals that children get when their parent ends, by itself, by a signal, and after they have executed another program.
#include "check.h"
#include <poll.h>
#include <sys/prctl.h>
static int told[2];
static volatile sig_atomic_t from;
static void heard(int signal, siginfo_t *info, void *context) { (void)signal; (void)context; from = info->si_pid; }
static void say(const char *what, int value) { char line[64]; int count = snprintf(line, sizeof line, "%s %d\n", what, value); MUST(write(told[1], line, count) == count); }
// In a child of a child: waits for the end of its parent, and says whether the signal named it.
static void wait_for_it(pid_t parent) {
    sigset_t none; sigemptyset(&none); struct timespec limit = {10, 0};
    if (!from) ppoll(NULL, 0, &limit, &none);
    say("signal of the parent", from == parent); _exit(0);
}
static void line(void) { char text[64]; int count = 0; while (count < 63 && read(told[0], text + count, 1) == 1 && text[count] != '\n') count++; text[count] = 0; SAY("%s", text); }
static void family(int ends_by, int executes) {
    int ready[2]; MUST(pipe(ready) == 0); pid_t parent = fork(); char byte;
    if (!parent) {
        pid_t me = getpid();
        if (fork() == 0) {
            struct sigaction act = {.sa_sigaction = heard, .sa_flags = SA_SIGINFO}; sigset_t usr1; sigemptyset(&usr1); sigaddset(&usr1, SIGUSR1); sigprocmask(SIG_BLOCK, &usr1, NULL); sigaction(SIGUSR1, &act, NULL);
            MUST(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
            int signal = -1; prctl(PR_GET_PDEATHSIG, &signal); say("set", signal == SIGUSR1);
            pid_t child = fork(); if (!child) { prctl(PR_GET_PDEATHSIG, &signal); say("not in a child", signal); _exit(0); } waitpid(child, NULL, 0);
            if (executes) { char number[3][16]; snprintf(number[0], 16, "%d", told[1]); snprintf(number[1], 16, "%d", ready[1]); snprintf(number[2], 16, "%d", me); execl("/proc/self/exe", "parents", number[0], number[1], number[2], (char *)0); _exit(9); }
            MUST(write(ready[1], "x", 1) == 1); wait_for_it(me);
        }
        read(ready[0], &byte, 1); if (ends_by) { raise(ends_by); } _exit(0);
    }
    int status; waitpid(parent, &status, 0); SAY("parent %d", status); for (int i = 0; i < 3; i++) line(); close(ready[0]); close(ready[1]);
}
int main(int count, char **words) {
    if (count > 3) { // executed by a child: the signal is still set
        struct sigaction act = {.sa_sigaction = heard, .sa_flags = SA_SIGINFO}; sigaction(SIGUSR1, &act, NULL); told[1] = atoi(words[1]); MUST(write(atoi(words[2]), "x", 1) == 1); wait_for_it(atoi(words[3]));
    }
    MUST(pipe(told) == 0); family(0, 0); family(SIGKILL, 0); family(0, 1);
    SAY("no such signal %s", strerror(ERR(prctl(PR_SET_PDEATHSIG, 99)))); SAY("none %d", prctl(PR_SET_PDEATHSIG, 0)); return 0;
}
