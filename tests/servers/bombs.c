// Starts threads, and then processes, until it is told to stop; says how many there were, and stays.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 100000 };
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void *wait_at_gate(void *unused) {
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    return unused;
}

int main(void) {
    static pthread_t threads[MOST];
    static pid_t children[MOST];
    pthread_attr_t small;
    int count = 0, error = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_mutex_lock(&gate);
    while (count < MOST && !(error = pthread_create(threads + count, &small, wait_at_gate, NULL))) count++;
    printf("threads %d %s\n", count, strerrorname_np(error));
    pthread_mutex_unlock(&gate);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    for (count = 0; count < MOST && (children[count] = fork()) > 0; count++) {}
    if (children[count] == 0) for (;;) pause();
    printf("processes %d %s\n", count, strerrorname_np(errno));
    for (int i = 0; i < count; i++) kill(children[i], SIGKILL);
    for (int i = 0; i < count; i++) waitpid(children[i], NULL, 0);
    // And there is room again.
    pid_t child = fork();
    if (child == 0) _exit(7);
    int status = 0;
    waitpid(child, &status, 0);
    printf("after %d\n", WEXITSTATUS(status));
    fflush(stdout);
    for (;;) pause();
}
