// Pipes that are opened anew by the names of descriptors, as shells do for substituted processes.
#include "check.h"
#include <sys/socket.h>
static void shell(const char *command) { char *const a[] = {"bash", "-c", (char *)command, 0}; fflush(stdout); pid_t p = fork(); if (!p) { execvp("bash", a); _exit(127); } int status; waitpid(p, &status, 0); SAY("exit %d", status); }
int main(void) {
    int p[2]; MUST(pipe(p) == 0); char name[40], b[20] = ""; snprintf(name, sizeof name, "/proc/self/fd/%d", p[1]); int w = open(name, O_WRONLY); MUST(w >= 0); snprintf(name, sizeof name, "/dev/fd/%d", p[0]); int r = open(name, O_RDONLY | O_CLOEXEC); MUST(r >= 0);
    SAY("write %zd", write(w, "hello", 5)); SAY("read %zd", read(r, b, 3)); SAY("%s", b); SAY("the first %zd", read(p[0], b, 10)); SAY("flags %d %d %d", fcntl(r, F_GETFL) & O_ACCMODE, fcntl(w, F_GETFL) & O_ACCMODE, fcntl(r, F_GETFD));
    close(p[1]); SAY("still open %zd", write(w, "x", 1)); SAY("read %zd", read(r, b, 10)); close(w); SAY("end %zd", read(r, b, 1)); close(p[0]); close(r);
    int s[2]; MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0); snprintf(name, sizeof name, "/proc/self/fd/%d", s[0]); SAY("a socket %s", strerror(ERR(open(name, O_RDWR))));
    shell("cat <(echo substituted)"); shell("diff <(echo a) <(echo b)"); shell("echo from stdin | cat /dev/stdin"); shell("echo through | cat /proc/self/fd/0"); shell("echo to stdout | tee /dev/stderr 2>&1 >/dev/null | cat"); shell("(echo x > /dev/fd/1) | cat"); shell("echo out > >(cat); wait $!"); return 0;
}
