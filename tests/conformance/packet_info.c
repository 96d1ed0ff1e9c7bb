// Where a datagram was sent to (IP_PKTINFO, IPV6_PKTINFO), and where one is to come from; groups; connections nobody takes.
#include "check.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
static union { char b[256]; struct cmsghdr h; } control;
static struct sockaddr_in local(int port) { return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; }
static const char *to(int s, int *cut) {
    static char text[64]; char data[64]; struct sockaddr_storage from; struct iovec v = {data, sizeof data};
    struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = *cut ? (size_t)*cut : sizeof control};
    MUST(recvmsg(s, &m, 0) >= 0); *cut = !!(m.msg_flags & MSG_CTRUNC);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) { struct in_pktinfo *p = (void *)CMSG_DATA(c); snprintf(text, sizeof text, "%d bytes, interface %d, %s", (int)c->cmsg_len, p->ipi_ifindex, inet_ntoa(p->ipi_addr)); return text; }
        if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) { struct in6_pktinfo *p = (void *)CMSG_DATA(c); char a[64]; snprintf(text, sizeof text, "%d bytes, interface %d, %s", (int)c->cmsg_len, p->ipi6_ifindex, inet_ntop(AF_INET6, &p->ipi6_addr, a, sizeof a)); return text; }
    }
    return "nothing";
}
int main(void) {
    int s = socket(AF_INET, SOCK_DGRAM, 0), c = socket(AF_INET, SOCK_DGRAM, 0), on = 1, cut = 0; struct sockaddr_in any = {.sin_family = AF_INET}, a; socklen_t l = sizeof a;
    MUST(bind(s, (void *)&any, sizeof any) == 0); MUST(getsockname(s, (void *)&a, &l) == 0); struct sockaddr_in at = local(a.sin_port);
    sendto(c, "x", 1, 0, (void *)&at, sizeof at); SAY("unasked %s", to(s, &cut)); MUST(setsockopt(s, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) == 0);
    sendto(c, "x", 1, 0, (void *)&at, sizeof at); SAY("to %s", to(s, &cut)); at.sin_addr.s_addr = htonl(0x7f000005); sendto(c, "x", 1, 0, (void *)&at, sizeof at); SAY("to %s", to(s, &cut));
    cut = 4; sendto(c, "x", 1, 0, (void *)&at, sizeof at); SAY("no room %s", to(s, &cut)); SAY("cut %d", cut); cut = 0;
    // From an address of the sender's choice.
    struct iovec v = {"y", 1}; struct msghdr m = {.msg_name = &at, .msg_namelen = sizeof at, .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(struct in_pktinfo))};
    memset(&control, 0, sizeof control); struct cmsghdr *h = CMSG_FIRSTHDR(&m); *h = (struct cmsghdr){CMSG_LEN(sizeof(struct in_pktinfo)), IPPROTO_IP, IP_PKTINFO}; ((struct in_pktinfo *)CMSG_DATA(h))->ipi_spec_dst.s_addr = htonl(0x7f000009);
    SAY("sent %zd", sendmsg(c, &m, 0)); char b[8]; l = sizeof a; SAY("got %zd", recvfrom(s, b, sizeof b, 0, (void *)&a, &l)); SAY("from %s", inet_ntoa(a.sin_addr));
    int s6 = socket(AF_INET6, SOCK_DGRAM, 0), c6 = socket(AF_INET6, SOCK_DGRAM, 0); struct sockaddr_in6 a6 = {.sin6_family = AF_INET6}; MUST(bind(s6, (void *)&a6, sizeof a6) == 0); l = sizeof a6; getsockname(s6, (void *)&a6, &l); MUST(setsockopt(s6, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) == 0);
    a6.sin6_addr = in6addr_loopback; sendto(c6, "x", 1, 0, (void *)&a6, sizeof a6); SAY("six %s", to(s6, &cut)); struct sockaddr_in m4 = local(a6.sin6_port); sendto(c, "x", 1, 0, (void *)&m4, sizeof m4); SAY("four %s", to(s6, &cut));
    struct ip_mreq r = {{inet_addr("239.1.2.3")}, {htonl(INADDR_LOOPBACK)}}; SAY("join %d", setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r)); SAY("again %s", strerror(ERR(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r)))); SAY("leave %d", setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r)); SAY("left %s", strerror(ERR(setsockopt(s, IPPROTO_IP, IP_DROP_MEMBERSHIP, &r, sizeof r)))); r.imr_multiaddr.s_addr = htonl(0x0a000001); SAY("no group %s", strerror(ERR(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &r, sizeof r))));
    struct sockaddr_in all = {.sin_family = AF_INET, .sin_port = at.sin_port, .sin_addr.s_addr = htonl(INADDR_BROADCAST)}; SAY("broadcast %s", strerror(ERR(sendto(c, "x", 1, 0, (void *)&all, sizeof all))));
    // Nobody listens: at once, or when it is asked.
    int t = socket(AF_INET, SOCK_STREAM, 0); MUST(bind(t, (void *)&any, sizeof any) == 0); l = sizeof a; getsockname(t, (void *)&a, &l); struct sockaddr_in none = local(a.sin_port); int k = socket(AF_INET, SOCK_STREAM, 0); SAY("refused %s", strerror(ERR(connect(k, (void *)&none, sizeof none)))); SAY("again %s", strerror(ERR(connect(k, (void *)&none, sizeof none))));
    return 0;
}
