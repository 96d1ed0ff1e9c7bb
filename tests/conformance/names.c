// getaddrinfo and its kin: files and netlink inside libc.
#include "check.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <pwd.h>
#include <sys/socket.h>
int main(void) {
    struct addrinfo h = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *r; int e = getaddrinfo("127.0.0.1", "80", &h, &r); SAY("numeric %d %s %d", e, inet_ntoa(((struct sockaddr_in *)r->ai_addr)->sin_addr), ntohs(((struct sockaddr_in *)r->ai_addr)->sin_port)); freeaddrinfo(r);
    h.ai_flags = 0; e = getaddrinfo("localhost", 0, &h, &r); SAY("localhost %d %s", e, e ? "" : inet_ntoa(((struct sockaddr_in *)r->ai_addr)->sin_addr)); h.ai_flags = AI_PASSIVE; e = getaddrinfo(0, "1234", &h, &r); SAY("passive %d %s", e, inet_ntoa(((struct sockaddr_in *)r->ai_addr)->sin_addr));
    char host[100]; struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; SAY("nameinfo %d %s", getnameinfo((void *)&a, sizeof a, host, sizeof host, 0, 0, NI_NUMERICHOST), host); SAY("root %s", getpwuid(0)->pw_name); return 0;
}
