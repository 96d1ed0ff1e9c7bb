// UDP to oneself.
#include "check.h"
#include <arpa/inet.h>
#include <sys/socket.h>
int main(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from;
    socklen_t al, fl; char b[256];
    int u = socket(AF_INET, SOCK_DGRAM, 0), w = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in ua = a; ua.sin_port = 0; bind(u, (void *)&ua, sizeof ua); al = sizeof ua; getsockname(u, (void *)&ua, &al);
    SAY("sendto %zd", sendto(w, "datagram", 8, 0, (void *)&ua, sizeof ua)); fl = sizeof from; SAY("recvfrom %zd %.8s", recvfrom(u, b, sizeof b, 0, (void *)&from, &fl), b);
    return 0;
}
