// Unnamed and named semaphores between threads and processes.
#include "check.h"
#include <semaphore.h>
#include <sys/mman.h>
static sem_t items, ends;
static int taken;
static void *taker(void *p) { for (int i = 0; i < 100; i++) { sem_wait(&items); __atomic_add_fetch(&taken, 1, __ATOMIC_RELAXED); } sem_post(&ends); return p; }
int main(void) {
    sem_init(&items, 0, 0); sem_init(&ends, 0, 0);
    pthread_t t[3];
    for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, taker, 0);
    for (int i = 0; i < 300; i++) sem_post(&items);
    for (int i = 0; i < 3; i++) sem_wait(&ends);
    for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
    int v; sem_getvalue(&items, &v);
    SAY("taken %d left %d", taken, v);
    SAY("trywait %s", strerror(ERR(sem_trywait(&items))));
    struct timespec at = soon(CLOCK_REALTIME, 20);
    SAY("timedwait %s", strerror(ERR(sem_timedwait(&items, &at))));
    sem_post(&items); sem_getvalue(&items, &v);
    SAY("value %d trywait %d", v, sem_trywait(&items));
    char name[64]; snprintf(name, sizeof name, "/conformance-%d", getpid());
    sem_t *s = sem_open(name, O_CREAT | O_EXCL, 0600, 2); MUST(s != SEM_FAILED);
    SAY("named %d %d %s", sem_wait(s), sem_wait(s), strerror(ERR(sem_trywait(s))));
    sem_close(s); sem_unlink(name);
    sem_t *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(shared, 1, 0); sem_init(shared + 1, 1, 0);
    pid_t child = fork();
    if (!child) { for (int i = 0; i < 10; i++) { sem_wait(shared); sem_post(shared + 1); } _exit(0); }
    for (int i = 0; i < 10; i++) { sem_post(shared); sem_wait(shared + 1); }
    int status; waitpid(child, &status, 0);
    SAY("between processes %d", status);
    return 0;
}
