// Threads and calls before main and after it, in a library (libraries/constructors.c) and in the program, also one that lives on.
#include "check.h"
#include <semaphore.h>

extern int library_state;
static sem_t asked, answered;
static int state;
static pthread_t helper;

static void *help(void *p) {
    for (int i = 0; i < 3; i++) {
        while (sem_wait(&asked)) {}
        state += library_state;
        sem_post(&answered);
    }
    return p;
}

static void ask(void) {
    sem_post(&asked);
    while (sem_wait(&answered)) {}
}

__attribute__((constructor)) static void begin(void) {
    sem_init(&asked, 0, 0);
    sem_init(&answered, 0, 0);
    MUST(pthread_create(&helper, 0, help, 0) == 0);
    ask();
    SAY("program begins %d", state);
    fflush(stdout);
    pid_t child = fork();
    if (!child) _exit(state);
    int status;
    waitpid(child, &status, 0);
    SAY("child %d", WEXITSTATUS(status));
}

__attribute__((destructor)) static void end(void) {
    ask();
    pthread_join(helper, 0);
    SAY("program ends %d", state);
}

int main(void) {
    ask();
    SAY("main %d", state);
    return 3;
}
