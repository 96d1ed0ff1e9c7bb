// As leftovers.c: what waits of all kinds, the other side of which is a thread, a timer or a child, leave on the stack.
#include "check.h"
#include "unset.h"
#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

enum { ROUNDS = 12, PATIENCE_MS = 60000 };
static int pair[2], event;
static sem_t posted;
static volatile sig_atomic_t signals;

static void on_signal(int signal) {
    (void)signal;
    signals++;
    look();
}

static void *answer(void *argument) {
    struct timespec pause = {0, 1000000};
    uint64_t one = 1;
    char byte;
    while (read(pair[1], &byte, 1) == 1) {
        nanosleep(&pause, NULL);
        if (byte == 's') {
            sem_post(&posted);
        } else if (byte == 'e') {
            MUST(write(event, &one, sizeof one) == sizeof one);
        } else {
            MUST(write(pair[1], &byte, 1) == 1);
        }
    }
    return argument;
}

static void ask(char what) {
    MUST(write(pair[0], &what, 1) == 1);
    look();
}

static void take(void) {
    char byte;
    look();
    MUST(read(pair[0], &byte, 1) == 1);
    look();
}

static void files_become_ready(int epoll) {
    ask('r');
    take();
    struct pollfd polled = {.fd = pair[0], .events = POLLIN};
    ask('p');
    MUST(poll(&polled, 1, PATIENCE_MS) == 1);
    take();
    struct epoll_event got;
    ask('w');
    MUST(epoll_wait(epoll, &got, 1, PATIENCE_MS) == 1);
    take();
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[0], &set);
    struct timeval patience = {PATIENCE_MS / 1000, 0};
    ask('t');
    MUST(select(pair[0] + 1, &set, NULL, NULL, &patience) == 1);
    take();
    MUST(poll(NULL, 0, 2) == 0);
    look();
    MUST(epoll_wait(epoll, &got, 1, 2) == 0);
    look();
}

static void others_post(void) {
    uint64_t count;
    ask('s');
    sem_wait(&posted);
    look();
    ask('e');
    MUST(read(event, &count, sizeof count) == sizeof count);
    look();
    struct timespec late = soon(CLOCK_REALTIME, 2);
    look();
    MUST(sem_timedwait(&posted, &late) == -1);
    look();
    sched_yield();
    look();
}

static void time_passes(timer_t timer, int file) {
    struct itimerspec once = {.it_value = {0, 1500000}};
    int before = signals;
    uint64_t count;
    timer_settime(timer, 0, &once, NULL);
    look();
    while (signals == before) { usleep(1000); }
    look();
    timerfd_settime(file, 0, &once, NULL);
    look();
    while (read(file, &count, sizeof count) != sizeof count) { MUST(errno == EINTR); }
    look();
}

static void files_are_written(void) {
    char name[] = "/tmp/leftoversXXXXXX";
    int fd = mkstemp(name);
    look();
    MUST(write(fd, "abc", 3) == 3);
    look();
    struct stat found;
    fstat(fd, &found);
    look();
    stat("/etc/passwd", &found);
    look();
    close(fd);
    unlink(name);
    look();
}

static void a_child_ends(void) {
    pid_t child = fork();
    if (child == 0) {
        look();
        usleep(1000);
        look();
        _exit(3);
    }
    look();
    int status;
    while (waitpid(child, &status, 0) < 0) { MUST(errno == EINTR); }
    look();
}

int main(void) {
    for (int i = 0; i < MUTEXES; i++) { pthread_mutex_init(&mutexes[i], NULL); }
    sem_init(&posted, 0, 0);
    event = eventfd(0, 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    pthread_t thread;
    pthread_create(&thread, NULL, answer, NULL);
    look();
    int epoll = epoll_create1(0);
    struct epoll_event want = {.events = EPOLLIN, .data.fd = pair[0]};
    epoll_ctl(epoll, EPOLL_CTL_ADD, pair[0], &want);
    signal(SIGUSR1, on_signal);
    signal(SIGCHLD, on_signal);
    struct sigevent notify = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    timer_t timer;
    timer_create(CLOCK_MONOTONIC, &notify, &timer);
    int file = timerfd_create(CLOCK_MONOTONIC, 0);
    for (int round = 0; round < ROUNDS; round++) {
        files_become_ready(epoll);
        others_post();
        time_passes(timer, file);
        files_are_written();
        if (round % 4 == 0) { a_child_ends(); }
    }
    close(pair[0]);
    pthread_join(thread, NULL);
    look();
    SAY("signals %d", signals > 0);
    return 0;
}
