// Unix-domain sockets: pairs, named listeners, datagrams, sequenced packets.
#include "check.h"
#include <sys/socket.h>
#include <sys/un.h>
static struct sockaddr_un a = {.sun_family = AF_UNIX};
static void *client(void *p) { int c = socket(AF_UNIX, SOCK_STREAM, 0); MUST(connect(c, (void *)&a, sizeof a) == 0); MUST(write(c, "hello", 5) == 5); char b[8]; ssize_t n = read(c, b, 8); SAY("client got %.*s", (int)n, b); close(c); return p; }
int main(void) {
    int s[2]; char b[64]; MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    MUST(write(s[0], "one", 3) == 3 && write(s[0], "two", 3) == 3); SAY("stream %zd", read(s[1], b, 64)); close(s[0]); SAY("end %zd", read(s[1], b, 1)); close(s[1]);
    MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, s) == 0); MUST(write(s[0], "one", 3) == 3 && write(s[0], "three", 5) == 5); SAY("datagrams %zd %zd", read(s[1], b, 64), read(s[1], b, 64)); close(s[0]); close(s[1]);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s) == 0); MUST(write(s[0], "abc", 3) == 3); SAY("packet %zd", read(s[1], b, 2)); close(s[0]); close(s[1]);
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/conformance-%d.sock", getpid());
    int l = socket(AF_UNIX, SOCK_STREAM, 0); SAY("bind %d listen %d", bind(l, (void *)&a, sizeof a), listen(l, 4)); SAY("in use %s", strerror(ERR(bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&a, sizeof a))));
    pthread_t t; pthread_create(&t, 0, client, 0); int c = accept(l, 0, 0); ssize_t n = read(c, b, 64); SAY("server got %.*s", (int)n, b); MUST(write(c, "yes", 3) == 3); pthread_join(t, 0); close(c); close(l); unlink(a.sun_path);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0); pid_t p = fork(); if (!p) { MUST(read(s[1], b, 4) == 4); MUST(write(s[1], "child", 5) == 5); _exit(0); }
    close(s[1]); MUST(write(s[0], "wake", 4) == 4); n = read(s[0], b, 64); SAY("across fork %.*s", (int)n, b); int st; waitpid(p, &st, 0); SAY("status %d", st); return 0;
}
