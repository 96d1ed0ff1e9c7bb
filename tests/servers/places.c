// A small TCP server that answers with all that it can see of where its memory lies and what was left in it: addresses of
// heap, mappings, stacks and environment, and the bytes below the stack pointer after calls of every kind. For the test
// that a traced replay leaves a program nothing that an untraced one does not.
//
// usage: places PORT. Answers each line with one line.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;
extern void __register_frame(void *);

// Bytes below the stack pointer that are looked at.
enum { BELOW = 24 * 1024 };

static int client;

// The answer in pieces: each is an operation of its own, so the one that differs is named.
__attribute__((noinline)) static void tell(const char *what, unsigned long value)
{
    char text[64];
    int length = snprintf(text, sizeof text, "%s=%lx ", what, value);
    if (write(client, text, (size_t)length) != length)
        exit(4);
}

// A sum of what lies below the stack pointer, as it was left.
__attribute__((noinline)) static unsigned long left(void)
{
    unsigned long sum = 0;
    for (const volatile char *at = (char *)__builtin_frame_address(0) - 64; at > (char *)__builtin_frame_address(0) - BELOW; at -= 8)
        sum = (sum ^ *(const volatile unsigned long *)((unsigned long)at & ~7ul)) * 0x9e3779b97f4a7c15ul + (sum >> 29);
    return sum;
}

// Memory that somebody else had before, as malloc gives it.
__attribute__((noinline)) static unsigned long heap(void)
{
    unsigned long sum = 0;
    for (size_t bytes = 24; bytes < 70000; bytes = bytes * 3 / 2) {
        unsigned long *piece = malloc(bytes);
        sum = sum * 31 + (unsigned long)piece;
        for (size_t at = 0; at < bytes / 8; at++)
            sum = sum * 31 + ((volatile unsigned long *)piece)[at];
        free(piece);
    }
    return sum * 31 + (unsigned long)sbrk(0);
}

static unsigned long mapping(void)
{
    void *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(at, 8192);
    return (unsigned long)at;
}

static unsigned long surroundings(void)
{
    unsigned long sum = 0;
    for (char **at = environ; *at; at++)
        for (const char *c = *at; *c; c++)
            sum = sum * 31 + (unsigned char)*c;
    return sum * 31 + (unsigned long)environ + (unsigned long)*environ;
}

// What the kernel says is mapped, and what is open.
static unsigned long content(const char *path)
{
    unsigned long sum = 0;
    char text[4096];
    int file = open(path, O_RDONLY);
    for (ssize_t bytes; (bytes = read(file, text, sizeof text)) > 0;)
        while (bytes > 0)
            sum = sum * 31 + (unsigned char)text[--bytes];
    close(file);
    return sum * 31 + (unsigned)file;
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore;
static int turn, word;

static void *worker(void *sum)
{
    for (int number = 0; number < 3; number++) {
        pthread_mutex_lock(&mutex);
        while (turn != 1)
            pthread_cond_wait(&cond, &mutex);
        turn = 0;
        *(unsigned long *)sum = *(unsigned long *)sum * 31 + left() + (unsigned long)&number;
        pthread_cond_broadcast(&cond);
        pthread_mutex_unlock(&mutex);
        struct timespec pause = {0, 1000};
        nanosleep(&pause, NULL);
        syscall(SYS_gettid);
        *(unsigned long *)sum = *(unsigned long *)sum * 31 + left();
    }
    unsigned long *last = malloc(100);
    *(unsigned long *)sum += (unsigned long)last;
    free(last);
    // By the unwinder, which prepares itself when it is first used.
    pthread_exit(NULL);
}

static unsigned long threads(void)
{
    unsigned long sums[2] = {0, 0};
    pthread_t all[2];
    for (int at = 0; at < 2; at++)
        pthread_create(&all[at], NULL, worker, &sums[at]);
    for (int number = 0; number < 6; number++) {
        pthread_mutex_lock(&mutex);
        turn = 1;
        pthread_cond_broadcast(&cond);
        while (turn != 0)
            pthread_cond_wait(&cond, &mutex);
        pthread_mutex_unlock(&mutex);
    }
    for (int at = 0; at < 2; at++)
        pthread_join(all[at], NULL);
    return sums[0] * 31 + sums[1] + left();
}

static volatile unsigned long handled;

static void on_signal(int signal)
{
    struct stat of;
    handled = handled * 31 + (unsigned long)&signal + left();
    stat("/", &of);
    access("/", R_OK);
    syscall(SYS_getppid);
    handled = handled * 31 + left();
}

static unsigned long child(void)
{
    int ends[2];
    unsigned long sum = 0;
    if (pipe(ends) != 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0) {
        sum = left() + heap() + mapping();
        _exit(write(ends[1], &sum, sizeof sum) != sizeof sum);
    }
    if (read(ends[0], &sum, sizeof sum) != sizeof sum)
        return 2;
    close(ends[0]);
    close(ends[1]);
    waitpid(pid, NULL, 0);
    return sum + left();
}

// A function made at run time, with a table for unwinders that is registered as compilers at run time do.
static int (*made(void))(int (*)(void))
{
    static const unsigned char code[] = {0x48, 0x83, 0xec, 0x08, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x08, 0xc3};
    static const unsigned char common[] = {20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1, 0, 0, 0, 0, 0, 0};
    unsigned char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *table = at + 1024, *one = table + sizeof common;
    unsigned long start = (unsigned long)at, bytes = sizeof code;
    unsigned length = 28, back = sizeof common + 4;
    static const unsigned char moves[] = {0x44, 0x0e, 16, 0, 0, 0, 0, 0};
    memcpy(at, code, sizeof code);
    memcpy(table, common, sizeof common);
    memcpy(one, &length, 4);
    memcpy(one + 4, &back, 4);
    memcpy(one + 8, &start, 8);
    memcpy(one + 16, &bytes, 8);
    memcpy(one + 24, moves, sizeof moves);
    __register_frame(table);
    return (int (*)(int (*)(void)))at;
}

static int yields(void)
{
    return sched_yield();
}

static void files(void)
{
    char text[256];
    struct stat of;
    struct statfs system;
    struct iovec pieces[2] = {{text, 16}, {text + 16, 16}};
    int file = open("/etc/passwd", O_RDONLY);
    tell("open", left());
    tell("read", (unsigned long)read(file, text, 100) + left());
    tell("readv", (unsigned long)readv(file, pieces, 2) + left());
    tell("pread", (unsigned long)pread(file, text, 8, 0) + left());
    tell("lseek", (unsigned long)lseek(file, 0, SEEK_SET) + left());
    tell("stat", (unsigned long)stat("/etc/passwd", &of) + left());
    tell("fstat", (unsigned long)fstat(file, &of) + left());
    tell("access", (unsigned long)access("/none", R_OK) + (unsigned long)errno + left());
    tell("readlink", (unsigned long)readlink("/proc/self/exe", text, sizeof text) + left());
    tell("getcwd", (unsigned long)(getcwd(text, sizeof text) != NULL) + left());
    tell("statfs", (unsigned long)statfs("/", &system) + left());
    close(file);
    tell("close", left());
    tell("fails", (unsigned long)open("/none", O_RDONLY) + (unsigned long)errno + left());
}

static void calls(void)
{
    char text[64];
    struct timespec now, pause = {0, 1000};
    struct utsname name;
    struct pollfd none = {-1, POLLIN, 0};
    tell("gettid", (unsigned long)syscall(SYS_gettid) + left());
    tell("wake", (unsigned long)syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) + left());
    tell("wait", (unsigned long)syscall(SYS_futex, &word, FUTEX_WAIT, 1, &pause, NULL, 0) + (unsigned long)errno + left());
    tell("clock", (unsigned long)clock_gettime(CLOCK_MONOTONIC, &now) + left());
    tell("random", (unsigned long)getrandom(text, 16, 0) + left());
    tell("uname", (unsigned long)uname(&name) + left());
    tell("poll", (unsigned long)poll(&none, 1, 1) + left());
    tell("sleep", (unsigned long)nanosleep(&pause, NULL) + left());
    tell("yield", (unsigned long)sched_yield() + left());
    tell("mutex", (unsigned long)pthread_mutex_lock(&mutex) + left());
    tell("unlock", (unsigned long)pthread_mutex_unlock(&mutex) + left());
    tell("post", (unsigned long)sem_post(&semaphore) + left());
    tell("down", (unsigned long)sem_wait(&semaphore) + left());
    int event = eventfd(1, 0);
    tell("event", (unsigned long)read(event, text, 8) + (unsigned)event + left());
    close(event);
    kill(getpid(), SIGUSR1);
    tell("signal", handled + left());
}

static void answer(int (*through)(int (*)(void)))
{
    files();
    calls();
    tell("made", (unsigned long)through(yields) + left());
    tell("threads", threads());
    tell("child", child());
    tell("heap", heap());
    tell("mapping", mapping());
    tell("environ", surroundings());
    tell("stack", (unsigned long)__builtin_frame_address(0));
    tell("maps", content("/proc/self/maps"));
    if (write(client, "\n", 1) != 1)
        exit(4);
}

int main(int count, char **arguments)
{
    if (count < 2)
        return 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0)
        return 1;
    signal(SIGUSR1, on_signal);
    sem_init(&semaphore, 0, 0);
    int (*through)(int (*)(void)) = made();
    for (;;) {
        client = accept(listener, NULL, NULL);
        char byte;
        while (client >= 0 && read(client, &byte, 1) == 1)
            if (byte == '\n')
                answer(through);
        close(client);
    }
}
