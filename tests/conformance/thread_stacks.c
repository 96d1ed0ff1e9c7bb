// Detached threads end all at once. libc keeps the stacks of some for the next threads and gives the others back, depending on
// which of them the kernel has already let go: addresses afterwards must not.
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/mman.h>

enum { THREADS = 12, ROUNDS = 20 };

static sem_t go, gone;

static void *thread(void *argument) {
    (void)argument;
    // The address of what stands on a stack goes into the digest.
    pthread_mutex_t here = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&here);
    sem_wait(&go);
    pthread_mutex_unlock(&here);
    sem_post(&gone);
    return NULL;
}

int main(void) {
    sem_init(&go, 0, 0);
    sem_init(&gone, 0, 0);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int made = 0;
    for (int round = 0; round < ROUNDS; round++) {
        // Another size now and then, so that kept stacks do not always fit.
        pthread_attr_setstacksize(&attributes, (8 + round % 3) << 20);
        for (int i = 0; i < THREADS; i++) {
            pthread_t id;
            made += pthread_create(&id, &attributes, thread, NULL) == 0;
        }
        for (int i = 0; i < THREADS; i++) sem_post(&go);
        for (int i = 0; i < THREADS; i++) sem_wait(&gone);
        // The address of a new mapping goes into the digest, too.
        pthread_mutex_t *mapped = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        pthread_mutex_init(mapped, NULL);
        pthread_mutex_lock(mapped);
        pthread_mutex_unlock(mapped);
        if (round % 2) munmap(mapped, 4 << 20);
    }
    printf("%d threads\n", made);
    return 0;
}
