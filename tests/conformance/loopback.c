// TCP to oneself: blocking and non-blocking connect, accept, both directions, half close, refusal, names, options.
#include "check.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
static struct sockaddr_in a; static socklen_t al = sizeof a;
static void *client(void *p) {
    int c = socket(AF_INET, SOCK_STREAM, 0); MUST(connect(c, (void *)&a, sizeof a) == 0);
    char b[64]; for (int i = 0; i < 50; i++) { MUST(send(c, "ping", 4, 0) == 4); MUST(recv(c, b, 4, MSG_WAITALL) == 4); }
    shutdown(c, SHUT_WR); ssize_t n = recv(c, b, sizeof b, 0); b[n] = 0; SAY("client last: %s", b); SAY("then %zd", recv(c, b, 1, 0)); close(c); return p;
}
int main(void) {
    int l = socket(AF_INET, SOCK_STREAM, 0), one = 1; a.sin_family = AF_INET; a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SAY("reuse %d", setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    SAY("bind %d listen %d", bind(l, (void *)&a, sizeof a), listen(l, 16)); getsockname(l, (void *)&a, &al);
    SAY("port given %d addr %s", a.sin_port != 0, inet_ntoa(a.sin_addr));
    pthread_t t; pthread_create(&t, 0, client, 0);
    struct sockaddr_in from; socklen_t fl = sizeof from; int s = accept(l, (void *)&from, &fl);
    SAY("accepted from %s len %d", inet_ntoa(from.sin_addr), fl);
    char b[256]; int rounds = 0; while (recv(s, b, 4, MSG_WAITALL) == 4) { rounds++; MUST(send(s, "pong", 4, MSG_NOSIGNAL) == 4); }
    SAY("rounds %d", rounds); send(s, "bye", 3, 0); close(s); pthread_join(t, 0);
    int n = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    SAY("accept would block %s", (fcntl(l, F_SETFL, O_NONBLOCK), strerror(ERR(accept(l, 0, 0)))));
    int e = connect(n, (void *)&a, sizeof a); SAY("connect %d", e == 0 || errno == EINPROGRESS);
    struct pollfd f = {n, POLLOUT, 0}; poll(&f, 1, -1); int err; socklen_t el = sizeof err; getsockopt(n, SOL_SOCKET, SO_ERROR, &err, &el);
    SAY("connected %x error %d", f.revents & POLLOUT, err); f.fd = l; f.events = POLLIN; poll(&f, 1, -1); s = accept4(l, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
    SAY("flags %d %d", (fcntl(s, F_GETFL) & O_NONBLOCK) != 0, fcntl(s, F_GETFD)); SAY("nothing there %s", strerror(ERR(recv(s, b, 1, 0))));
    MUST(send(n, "abcdef", 6, 0) == 6); f.fd = s; poll(&f, 1, -1); int avail = 0; ioctl(s, FIONREAD, &avail);
    SAY("peek %zd %.3s avail %d", recv(s, b, 3, MSG_PEEK), b, avail); struct iovec v[2] = {{b, 2}, {b + 10, 9}}; struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
    SAY("recvmsg %zd %.2s %.4s", recvmsg(s, &m, 0), b, b + 10); SAY("nodelay %d", setsockopt(n, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one)); one = 0; el = sizeof one; getsockopt(n, IPPROTO_TCP, TCP_NODELAY, &one, &el); SAY("nodelay is %d", one);
    el = sizeof one; getsockopt(n, SOL_SOCKET, SO_TYPE, &one, &el); SAY("type %d", one); struct sockaddr_in pn; socklen_t pl = sizeof pn; SAY("peer %d port %d", getpeername(n, (void *)&pn, &pl), pn.sin_port == a.sin_port);
    close(s); f.fd = n; f.events = POLLIN | POLLRDHUP; poll(&f, 1, -1); SAY("peer closed %x read %zd", f.revents & (POLLIN | POLLRDHUP), recv(n, b, 1, 0)); close(n); close(l);
    n = socket(AF_INET, SOCK_STREAM, 0); SAY("refused %s", strerror(ERR(connect(n, (void *)&a, sizeof a)))); SAY("not connected %s", strerror(ERR(send(n, "x", 1, MSG_NOSIGNAL)))); close(n);
    SAY("not a socket %s bad %s", strerror(ERR(listen(0, 1))), strerror(ERR(listen(999, 1))));
    return 0;
}
