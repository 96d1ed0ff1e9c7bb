// Open files of the disk over unix sockets: one open file on both sides, whoever sends, dies, forgets or looks twice.
#include "check.h"
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
static ssize_t give(int s, const int *fds, int n) {
    char room[CMSG_SPACE(100 * sizeof(int))] = {0}; struct iovec v = {"m", 1};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m); c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(c), fds, n * sizeof(int));
    return sendmsg(s, &m, 0);
}
static int cut;
static int take(int s, int *fds, int room_for, int flags) {
    char room[CMSG_SPACE(100 * sizeof(int))], b[8]; struct iovec v = {b, 1}; int n = 0;
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = room_for ? CMSG_LEN(room_for * sizeof(int)) : 0};
    if (recvmsg(s, &m, flags) < 0) return -errno;
    cut = m.msg_flags & MSG_CTRUNC;
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c) { n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)); memcpy(fds, CMSG_DATA(c), n * sizeof(int)); }
    return n;
}
static const char *content(int fd) { static char b[64]; ssize_t n = pread(fd, b, sizeof b - 1, 0); b[n < 0 ? 0 : n] = 0; return b; }
static int file(const char *text) { char name[] = "/tmp/passing-XXXXXX"; int fd = mkstemp(name); MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text)); unlink(name); return fd; }
int main(void) {
    int s[2], fds[100], st; MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    int f = file("one"); SAY("give %zd", give(s[0], &f, 1)); close(f); SAY("take %d", take(s[1], fds, 4, 0)); SAY("the lowest number %d", fds[0] == f); SAY("content %s", content(fds[0])); SAY("cloexec %d", fcntl(fds[0], F_GETFD)); close(fds[0]);
    f = file("two"); give(s[0], &f, 1); SAY("cloexec %d", take(s[1], fds, 4, MSG_CMSG_CLOEXEC)); SAY("flag %d", fcntl(fds[0], F_GETFD)); MUST(lseek(f, 1, SEEK_SET) == 1); SAY("one offset %ld", (long)lseek(fds[0], 0, SEEK_CUR)); MUST(write(fds[0], "WO!", 3) == 3); SAY("written %s", content(f)); close(fds[0]); close(f);
    int g = file("g"), h = file("h"), p[2]; MUST(pipe(p) == 0); int three[3] = {g, p[1], h}; give(s[0], three, 3); SAY("files and a pipe %d", take(s[1], fds, 9, 0)); SAY("%s", content(fds[0])); SAY("%s", content(fds[2])); MUST(write(fds[1], "p", 1) == 1); for (int i = 0; i < 3; i++) close(fds[i]);
    give(s[0], three, 3); SAY("room for one %d", take(s[1], fds, 1, 0)); SAY("cut %d", cut == MSG_CTRUNC); SAY("%s", content(fds[0])); close(fds[0]); give(s[0], three, 3); SAY("no room %d", take(s[1], fds, 0, 0)); SAY("cut %d", cut == MSG_CTRUNC);
    int t[2]; MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, t) == 0); give(s[0], &g, 1); give(t[0], &h, 1); SAY("in any order %d", take(t[1], fds, 4, 0)); SAY("%s", content(fds[0])); close(fds[0]); SAY("and %d", take(s[1], fds, 4, 0)); SAY("%s", content(fds[0])); close(fds[0]);
    give(t[0], &g, 1); SAY("looked at %d", take(t[1], fds, 4, MSG_PEEK)); SAY("%s", content(fds[0])); close(fds[0]); SAY("taken %d", take(t[1], fds, 4, 0)); SAY("%s", content(fds[0])); close(fds[0]);
    SAY("lock %d", flock(g, LOCK_EX | LOCK_NB)); give(s[0], &g, 1); close(g); int other = take(s[1], fds, 4, 0); SAY("came %d", other); SAY("its own lock %d", flock(fds[0], LOCK_EX | LOCK_NB)); close(fds[0]);
    char name[] = "/tmp/passing-lock-XXXXXX"; g = mkstemp(name); MUST(flock(g, LOCK_EX) == 0); give(t[0], &g, 1); close(g); int w = open(name, O_RDWR); SAY("locked on its way %s", strerror(ERR(flock(w, LOCK_EX | LOCK_NB)))); close(t[1]); SAY("dropped unread %d", flock(w, LOCK_EX)); close(w); unlink(name); close(t[0]);
    pid_t c = fork(); if (!c) { close(s[0]); int k = file("from a child that is gone"); MUST(give(s[1], &k, 1) == 1); _exit(0); } waitpid(c, &st, 0); SAY("child %d", WEXITSTATUS(st)); SAY("take %d", take(s[0], fds, 4, 0)); SAY("%s", content(fds[0])); close(fds[0]);
    c = fork(); if (!c) { MUST(take(s[1], fds, 4, 0) == 1); MUST(pwrite(fds[0], "the child's", 11, 0) == 11); struct stat b; MUST(fstat(fds[0], &b) == 0); _exit(b.st_size == 11 ? 5 : 6); } f = file(""); give(s[0], &f, 1); waitpid(c, &st, 0); SAY("child %d", WEXITSTATUS(st)); SAY("%s", content(f)); close(f);
    f = file("many"); int many[50]; for (int i = 0; i < 50; i++) many[i] = f; SAY("fifty %zd", give(s[0], many, 50)); SAY("come %d", take(s[1], fds, 60, 0)); SAY("%s", content(fds[49])); for (int i = 0; i < 50; i++) close(fds[i]);
    for (int i = 0; i < 300; i++) { MUST(give(s[0], &f, 1) == 1); char b; MUST(read(s[1], &b, 1) == 1); } SAY("%s", "three hundred that nobody wanted"); give(s[0], &f, 1); SAY("and one %d", take(s[1], fds, 4, 0)); SAY("%s", content(fds[0]));
    return 0;
}
