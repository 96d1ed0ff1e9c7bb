// Descriptors and credentials over unix sockets, between processes; who is at the other end; listeners inherited through exec.
#include "check.h"
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
static ssize_t give(int s, const char *text, size_t len, const int *fds, int n) {
    char room[CMSG_SPACE(16 * sizeof(int))] = {0}; struct iovec v = {(void *)text, len}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
    if (n) { m.msg_control = room; m.msg_controllen = CMSG_SPACE(n * sizeof(int)); struct cmsghdr *c = CMSG_FIRSTHDR(&m); c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(n * sizeof(int)); memcpy(CMSG_DATA(c), fds, n * sizeof(int)); }
    return sendmsg(s, &m, 0);
}
static int last_flags; static struct ucred cred;
static ssize_t take(int s, char *text, size_t len, int *fds, int *n, int room_for, int flags) {
    char room[512]; struct iovec v = {text, len}; struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = room_for < 0 ? 0 : CMSG_SPACE(room_for * sizeof(int)) + 64};
    if (room_for >= 0 && room_for < 99) m.msg_controllen = CMSG_LEN(room_for * sizeof(int));
    ssize_t got = recvmsg(s, &m, flags); *n = 0; cred = (struct ucred){-7, -7, -7}; last_flags = m.msg_flags & (MSG_CTRUNC | MSG_TRUNC);
    if (got >= 0) for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) { if (c->cmsg_type == SCM_RIGHTS) { *n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)); memcpy(fds, CMSG_DATA(c), *n * sizeof(int)); } if (c->cmsg_type == SCM_CREDENTIALS) memcpy(&cred, CMSG_DATA(c), sizeof cred); }
    return got;
}
static void peers(const char *what, int s, pid_t pid) { struct ucred u; socklen_t l = sizeof u; int e = getsockopt(s, SOL_SOCKET, SO_PEERCRED, &u, &l); SAY("%s: %d pid %d", what, e, u.pid == pid); SAY("  uid %d gid %d", u.uid == getuid(), u.gid == getgid()); }
int main(int argc, char **argv) {
    if (argc > 1) { int l = atoi(argv[1]), c = accept(l, 0, 0); char b[8]; ssize_t n = read(c, b, 8); MUST(n > 0); for (int i = 0; i < n; i++) b[i] ^= 32; return write(c, b, n) == n ? 11 : 1; }
    int s[2], p[2], q[2], fds[16], n, st; char b[64]; MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0 && pipe(p) == 0 && pipe(q) == 0);
    SAY("give %zd", give(s[0], "abc", 3, p, 1)); close(p[0]); SAY("take %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("descriptors %d", n); MUST(write(p[1], "through", 7) == 7); SAY("reads %zd", read(fds[0], b, 64)); SAY("cloexec %d", fcntl(fds[0], F_GETFD)); close(fds[0]); close(p[1]);
    MUST(write(s[0], "12", 2) == 2); give(s[0], "3456", 4, q, 2); MUST(write(s[0], "78", 2) == 2); SAY("stops behind it %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("two %d", n); close(fds[0]); close(fds[1]); SAY("rest %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("none %d", n);
    give(s[0], "wxyz", 4, q, 1); SAY("a part %zd", take(s[1], b, 2, fds, &n, 99, 0)); SAY("with the first byte %d", n); close(fds[0]); SAY("then %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("none %d", n);
    give(s[0], "t", 1, q, 2); SAY("no room %zd", take(s[1], b, 64, fds, &n, 1, 0)); SAY("one %d flags %d", n, last_flags == MSG_CTRUNC); close(fds[0]); give(s[0], "t", 1, q, 2); SAY("no control %zd", take(s[1], b, 64, fds, &n, -1, 0)); SAY("none %d flags %d", n, last_flags == MSG_CTRUNC);
    MUST(pipe(p) == 0); give(s[0], "r", 1, p + 1, 1); close(p[1]); SAY("plain read %zd", read(s[1], b, 64)); SAY("drops it %zd", read(p[0], b, 1)); close(p[0]);
    give(s[0], "c", 1, q, 1); SAY("cloexec %zd", take(s[1], b, 64, fds, &n, 99, MSG_CMSG_CLOEXEC)); SAY("flag %d", fcntl(fds[0], F_GETFD)); close(fds[0]); int bad = 99999; SAY("bad %s", strerror(ERR(give(s[0], "x", 1, &bad, 1))));
    MUST(pipe(p) == 0); give(s[0], "u", 1, p + 1, 1); close(p[1]); close(s[0]); close(s[1]); SAY("closed unread %zd", read(p[0], b, 1)); close(p[0]);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0 && pipe(p) == 0); give(s[0], "one", 3, p, 1); give(s[0], "two!", 4, p, 2); SAY("peek %zd", take(s[1], b, 64, fds, &n, 99, MSG_PEEK)); SAY("peeked %d", n); close(fds[0]); SAY("datagram %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("with %d", n); close(fds[0]); SAY("next %zd", take(s[1], b, 2, fds, &n, 99, 0)); SAY("with %d cut %d", n, last_flags == MSG_TRUNC); close(fds[0]); close(fds[1]); close(s[0]); close(s[1]); close(p[0]); close(p[1]);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) == 0); int e = eventfd(0, 0), ep = epoll_create1(0); pid_t c = fork();
    if (!c) { close(s[0]); MUST(take(s[1], b, 64, fds, &n, 99, 0) == 5); uint64_t v = 5; MUST(n == 2 && write(fds[0], &v, 8) == 8); int l = socket(AF_INET, SOCK_STREAM, 0); MUST(listen(l, 4) == 0); give(s[1], "listener", 8, &l, 1); close(l); MUST(read(s[1], b, 1) == 1); _exit(3); }
    close(s[1]); int two[2] = {e, ep}; give(s[0], "hello", 5, two, 2); uint64_t v = 0; MUST(read(e, &v, 8) == 8); SAY("eventfd shared %llu", (unsigned long long)v); MUST(take(s[0], b, 64, fds, &n, 99, 0) == 8);
    struct sockaddr_in in; socklen_t l = sizeof in; MUST(getsockname(fds[0], (void *)&in, &l) == 0); in.sin_addr.s_addr = htonl(INADDR_LOOPBACK); int k = socket(AF_INET, SOCK_STREAM, 0); SAY("connect to the listener %d", connect(k, (void *)&in, sizeof in)); int a = accept(fds[0], 0, 0); MUST(write(k, "hi", 2) == 2); SAY("accepted %zd", read(a, b, 64)); MUST(write(s[0], "x", 1) == 1); waitpid(c, &st, 0); SAY("child %d", WEXITSTATUS(st)); close(s[0]);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0); int on = 1; setsockopt(s[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on); c = fork(); if (!c) { MUST(write(s[0], "mine", 4) == 4); _exit(0); } waitpid(c, &st, 0); MUST(write(s[0], "ours", 4) == 4);
    SAY("senders apart %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("the child's %d uid %d", cred.pid == c, cred.uid == getuid()); SAY("then %zd", take(s[1], b, 64, fds, &n, 99, 0)); SAY("ours %d", cred.pid == getpid()); peers("pair", s[0], getpid()); close(s[0]); close(s[1]);
    struct sockaddr_un un = {.sun_family = AF_UNIX}; snprintf(un.sun_path, sizeof un.sun_path, "/tmp/passing-%d.sock", getpid()); int ls = socket(AF_UNIX, SOCK_STREAM, 0); MUST(bind(ls, (void *)&un, sizeof un) == 0 && listen(ls, 4) == 0); pid_t me = getpid(); MUST(pipe(p) == 0);
    c = fork(); if (!c) { k = socket(AF_UNIX, SOCK_STREAM, 0); MUST(connect(k, (void *)&un, sizeof un) == 0); peers("the server", k, me); MUST(read(p[0], b, 1) == 1); _exit(0); } a = accept(ls, 0, 0); usleep(20000); peers("the client", a, c); MUST(write(p[1], "x", 1) == 1); waitpid(c, &st, 0); peers("gone", a, c); peers("not connected", socket(AF_UNIX, SOCK_STREAM, 0), 0); unlink(un.sun_path);
    ls = socket(AF_INET, SOCK_STREAM, 0); MUST(listen(ls, 4) == 0); l = sizeof in; getsockname(ls, (void *)&in, &l); in.sin_addr.s_addr = htonl(INADDR_LOOPBACK); snprintf(b, sizeof b, "%d", ls); c = fork(); if (!c) { execl("/proc/self/exe", "passing", b, (char *)0); _exit(99); } close(ls); k = socket(AF_INET, SOCK_STREAM, 0); SAY("connect through exec %d", connect(k, (void *)&in, sizeof in)); MUST(write(k, "exec", 4) == 4); n = (int)read(k, b, 64); SAY("%.*s", n, b); waitpid(c, &st, 0); SAY("code %d", WEXITSTATUS(st)); return 0;
}
