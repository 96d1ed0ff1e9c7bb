// Pipes: order, blocking, non-blocking, end of file, EPIPE, across fork, writev/readv.
#include "check.h"
#include <sys/uio.h>
static int p[2];
static void *filler(void *x) { char b[1000]; memset(b, 'x', sizeof b); for (int i = 0; i < 200; i++) MUST(write(p[1], b, sizeof b) == sizeof b); close(p[1]); return x; }
int main(void) {
    MUST(pipe(p) == 0);
    struct iovec w[2] = {{"hello ", 6}, {"world", 5}};
    SAY("writev %zd", writev(p[1], w, 2));
    char a[4], b[20] = ""; struct iovec r[2] = {{a, 4}, {b, 19}};
    SAY("readv %zd %.4s|%s", readv(p[0], r, 2), a, b);
    pthread_t t; pthread_create(&t, 0, filler, 0);
    long total = 0; char buf[4096]; ssize_t n;
    while ((n = read(p[0], buf, sizeof buf)) > 0) total += n;
    pthread_join(t, 0);
    SAY("total %ld end %zd", total, n);
    close(p[0]);
    MUST(pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0);
    SAY("empty %s", strerror(ERR(read(p[0], buf, 1))));
    total = 0; while ((n = write(p[1], buf, sizeof buf)) > 0) total += n;
    SAY("full after %ld %s", total, strerror(errno));
    SAY("flags %d %d", (fcntl(p[0], F_GETFL) & O_NONBLOCK) != 0, fcntl(p[0], F_GETFD));
    SAY("write to the reading end %s", strerror(ERR(write(p[0], "x", 1))));
    SAY("seek %s", strerror(ERR(lseek(p[0], 0, SEEK_SET))));
    signal(SIGPIPE, SIG_IGN); close(p[0]);
    SAY("no reader %s", strerror(ERR(write(p[1], "x", 1))));
    close(p[1]);
    MUST(pipe(p) == 0);
    pid_t c = fork();
    if (!c) { close(p[0]); dprintf(p[1], "from the child"); _exit(3); }
    close(p[1]); n = 0; ssize_t k; while ((k = read(p[0], buf + n, sizeof buf - n)) > 0) n += k; int st; waitpid(c, &st, 0);
    SAY("%.*s, exit %d", (int)n, buf, WEXITSTATUS(st));
    int d = dup(p[0]); close(p[0]);
    SAY("dup at end %zd", read(d, buf, 1));
    return 0;
}
