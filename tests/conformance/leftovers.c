// What a program finds in memory that it never set must be the same on all replicas: some write such bytes to files.
#include "check.h"
#include "unset.h"

enum { ROUNDS = 60 };
static volatile sig_atomic_t alarms;

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
    look();
}

static void through_a_pipe(int ends[2], char *bytes, int size) {
    if (write(ends[1], bytes, size) != size) { abort(); }
    look();
    if (read(ends[0], bytes, size) != size) { abort(); }
    look();
}

int main(void) {
    int ends[2];
    static char bytes[4096];
    for (int i = 0; i < MUTEXES; i++) { pthread_mutex_init(&mutexes[i], NULL); }
    if (pipe(ends) != 0) { abort(); }
    signal(SIGALRM, on_alarm);
    for (int round = 0; round < ROUNDS; round++) {
        through_a_pipe(ends, bytes, sizeof bytes);
        if (round % 10 == 0) {
            ualarm(2000, 0);
            usleep(50000);
            look();
        }
        // Long enough for the watchdog to look.
        for (volatile long work = 0; work < 300000; work++) { }
        look();
    }
    pid_t child = fork();
    if (child == 0) {
        through_a_pipe(ends, bytes, sizeof bytes);
        _exit(7);
    }
    int status;
    waitpid(child, &status, 0);
    SAY("alarmed %d child %d", alarms > 0, WEXITSTATUS(status));
    return 0;
}
