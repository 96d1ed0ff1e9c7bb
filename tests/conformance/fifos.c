// Named pipes: both ends wait for each other, among threads, processes and programs; non-blocking ends; ends that come and go.
#include "check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
static char path[100];
static int ready(int fd, int events) { struct pollfd p = {fd, events, 0}; poll(&p, 1, 0); return p.revents; }
static void *writer(void *text) { int fd = open(path, O_WRONLY); MUST(fd >= 0); dprintf(fd, "%s", (char *)text); close(fd); return 0; }
static void *reader(void *into) { int fd = open(path, O_RDONLY); MUST(fd >= 0); ssize_t n, all = 0; while ((n = read(fd, (char *)into + all, 100)) > 0) all += n; close(fd); return (void *)all; }
static void interrupted(int signal) { (void)signal; }
int main(void) {
    snprintf(path, sizeof path, "/tmp/fifo-%d", getpid()); unlink(path); SAY("make %d", mkfifo(path, 0640)); SAY("again %s", strerror(ERR(mkfifo(path, 0640))));
    struct stat s, f; stat(path, &s); SAY("mode %o", s.st_mode & (S_IFMT | 0600));
    char into[20000] = ""; pthread_t t; void *got; pthread_create(&t, 0, reader, into); writer("to a thread"); pthread_join(t, &got); SAY("%s, %ld bytes", into, (long)got);
    pthread_create(&t, 0, writer, "from a thread"); memset(into, 0, sizeof into); got = reader(into); pthread_join(t, 0); SAY("%s, %ld bytes", into, (long)got);
    pid_t c = fork(); if (!c) { writer("from a child"); _exit(4); } memset(into, 0, sizeof into); reader(into); int st; waitpid(c, &st, 0); SAY("%s, exit %d", into, WEXITSTATUS(st));
    char command[300]; snprintf(command, sizeof command, "cat %s & echo from a shell > %s; wait", path, path); fflush(stdout); SAY("shell %d", system(command));

    SAY("no reader yet %s", strerror(ERR(open(path, O_WRONLY | O_NONBLOCK)))); int r = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); MUST(r >= 0); fstat(r, &f); SAY("same file %d, mode %o", f.st_ino == s.st_ino && f.st_dev == s.st_dev, f.st_mode & (S_IFMT | 0600));
    SAY("flags %o %d", fcntl(r, F_GETFL), fcntl(r, F_GETFD)); SAY("no writer yet %d, read %zd", ready(r, POLLIN), read(r, into, 1));
    int w = open(path, O_WRONLY | O_NONBLOCK); MUST(w >= 0); SAY("empty %s", strerror(ERR(read(r, into, 1)))); SAY("reader %d writer %d", ready(r, POLLIN), ready(w, POLLOUT)); SAY("wrong way %s", strerror(ERR(write(r, "x", 1)))); SAY("wrong way %s", strerror(ERR(read(w, into, 1)))); SAY("seek %s", strerror(ERR(lseek(r, 0, SEEK_SET))));
    int e = epoll_create1(0); struct epoll_event v = {.events = EPOLLIN | EPOLLET, .data.u32 = 7}; SAY("epoll %d %d", epoll_ctl(e, EPOLL_CTL_ADD, r, &v), epoll_wait(e, &v, 1, 0)); SAY("write %zd", write(w, "hello", 5)); v.data.u32 = 0; int n = epoll_wait(e, &v, 1, 100); SAY("epoll %d %d %d", n, v.data.u32, v.events); ioctl(r, FIONREAD, &n); SAY("waiting %d", n);
    memset(into, 0, sizeof into); SAY("read %zd", read(r, into, 3)); SAY("%s %d", into, ready(r, POLLIN)); int w2 = open(path, O_WRONLY); MUST(w2 >= 0); SAY("other writer %zd", write(w2, "!", 1)); close(w); memset(into, 0, sizeof into); SAY("read %zd", read(r, into, 10)); SAY("%s", into); SAY("one is left %s", strerror(ERR(read(r, into, 1)))); close(w2); SAY("none is left %d, read %zd", ready(r, POLLIN), read(r, into, 1));
    w = open(path, O_WRONLY); SAY("a new one %d %s", ready(r, POLLIN), strerror(ERR(read(r, into, 1)))); fcntl(w, F_SETFL, O_NONBLOCK); long all = 0; ssize_t k; while ((k = write(w, into, 4096)) > 0) all += k; SAY("full %ld %s", all, strerror(errno)); SAY("room %d", ready(w, POLLOUT)); SAY("small %s", strerror(ERR(write(w, into, 100)))); while (read(r, into, sizeof into) > 0) {} SAY("room %d", ready(w, POLLOUT));
    signal(SIGPIPE, SIG_IGN); close(r); SAY("reader is gone %d %s", ready(w, POLLOUT), strerror(ERR(write(w, "x", 1)))); close(w);
    int b = open(path, O_RDWR); MUST(b >= 0); SAY("both %d, write %zd", ready(b, POLLIN | POLLOUT), write(b, "self", 4)); memset(into, 0, sizeof into); SAY("read %zd", read(b, into, 10)); SAY("%s", into); SAY("kept %zd", write(b, "lost", 4)); close(b); r = open(path, O_RDONLY | O_NONBLOCK); SAY("after all were closed %zd", read(r, into, 10)); close(r);

    struct sigaction a = {.sa_handler = interrupted}; sigaction(SIGALRM, &a, 0); alarm(1); SAY("nobody comes: %s", strerror(ERR(open(path, O_RDONLY)))); alarm(1); SAY("nobody comes: %s", strerror(ERR(open(path, O_WRONLY))));
    SAY("exclusive %s", strerror(ERR(open(path, O_CREAT | O_EXCL | O_WRONLY, 0600)))); SAY("unlink %d", unlink(path)); return 0;
}
