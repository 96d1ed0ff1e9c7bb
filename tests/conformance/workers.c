// What a server of processes is made of: a pid file with a lock, a scoreboard in anonymous shared memory, workers with a
// listener each (SO_REUSEPORT) and one that they share (EPOLLEXCLUSIVE), a pipe that tells them to go, and a crash.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define WORKERS 3
#define CLIENTS 12
struct board { _Atomic int ready, served[WORKERS], accepted_own[WORKERS], going; pthread_mutex_t lock; int sum; };
static struct board *board;

static int listener(int reuse, int *port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t n = sizeof a;
    MUST(fd >= 0);
    if (reuse) MUST(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one) == 0);
    MUST(bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, 64) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void worker(int me, int shared, int own, int death) {
    int e = epoll_create1(EPOLL_CLOEXEC), open = 1;
    struct epoll_event exclusive = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = shared}, plain = {.events = EPOLLIN, .data.fd = own}, pod = {.events = EPOLLIN, .data.fd = death}, got;
    MUST(epoll_ctl(e, EPOLL_CTL_ADD, shared, &exclusive) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, own, &plain) == 0 && epoll_ctl(e, EPOLL_CTL_ADD, death, &pod) == 0);
    MUST(epoll_ctl(e, EPOLL_CTL_MOD, shared, &exclusive) == -1 && errno == EINVAL);
    board->ready++;
    while (open) {
        MUST(epoll_wait(e, &got, 1, -1) == 1);
        char b; int fd = got.data.fd;
        if (fd == death) { ssize_t n = read(death, &b, 1); if (n == 1 && b == 'c') *(volatile int *volatile)NULL = 0; if (n == 1) open = 0; continue; }
        int c = accept4(fd, NULL, NULL, 0);
        if (c < 0) { MUST(errno == EAGAIN); continue; }
        int x; MUST(read(c, &x, sizeof x) == sizeof x);
        pthread_mutex_lock(&board->lock); board->sum += x; pthread_mutex_unlock(&board->lock);
        board->served[me]++; if (fd == own) board->accepted_own[me]++;
        x *= 2; MUST(write(c, &x, sizeof x) == sizeof x); close(c);
    }
    board->going++;
    _exit(40 + me);
}

static int ask(int port, int x) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), y = 0;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    MUST(connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && write(fd, &x, sizeof x) == sizeof x && read(fd, &y, sizeof y) == sizeof y);
    close(fd);
    return y;
}

int main(void) {
    char text[16]; int pid = open("workers.pid", O_CREAT | O_RDWR | O_TRUNC, 0644), st, death[2], shared_port = 0, own_port = 0, sum = 0;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    MUST(pid >= 0 && fcntl(pid, F_SETLK, &lock) == 0 && dprintf(pid, "%d\n", getpid()) > 0 && pread(pid, text, sizeof text, 0) > 0);
    SAY("pid file %d", atoi(text) == getpid());
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); MUST(board != MAP_FAILED);
    pthread_mutexattr_t a; pthread_mutexattr_init(&a); pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED); pthread_mutex_init(&board->lock, &a);
    MUST(pipe2(death, O_NONBLOCK) == 0);
    int shared = listener(0, &shared_port), own[WORKERS]; pid_t workers[WORKERS];
    for (int k = 0; k < WORKERS; k++) own[k] = listener(1, &own_port);
    for (int k = 0; k < WORKERS; k++) if (!(workers[k] = fork())) worker(k, shared, own[k], death[0]);
    for (int k = 0; k < WORKERS; k++) close(own[k]);
    while (board->ready < WORKERS) usleep(1000);
    struct flock who = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    pid_t c = fork(); if (!c) { MUST(fcntl(pid, F_GETLK, &who) == 0); _exit(who.l_type == F_WRLCK && who.l_pid == getppid()); }
    waitpid(c, &st, 0); SAY("the lock is the parent's %d", WEXITSTATUS(st));
    for (int k = 0; k < CLIENTS; k++) { MUST(ask(k % 2 ? shared_port : own_port, k) == 2 * k); sum += k; }
    int served = 0, by_own = 0; for (int k = 0; k < WORKERS; k++) { served += board->served[k]; by_own += board->accepted_own[k]; }
    SAY("served %d, by own listeners %d, sum right %d", served, by_own, board->sum == sum);
    MUST(write(death[1], "c", 1) == 1); c = waitpid(-1, &st, 0); SAY("crashed: a worker %d by %s", c == workers[0] || c == workers[1] || c == workers[2], sigabbrev_np(WTERMSIG(st)));
    for (int k = 0; k < CLIENTS; k++) MUST(ask(shared_port, k) == 2 * k);
    MUST(write(death[1], "gg", 2) == 2); int codes = 0; while (wait(&st) > 0) codes += WIFEXITED(st) && WEXITSTATUS(st) >= 40;
    served = 0; for (int k = 0; k < WORKERS; k++) served += board->served[k];
    SAY("gone %d, said so %d, served %d", codes, board->going, served);
    return 0;
}
