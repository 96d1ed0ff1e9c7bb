// The forms of calls that compilers make of plain ones to look for overflows. The last of recvfrom's arguments lies on the stack.
// cc: -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
#include "check.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/socket.h>

// So that the compiler knows neither sizes nor flags.
static volatile size_t twelve = 12, huge = 1000;
static volatile int create = O_RDWR | O_CREAT | O_TRUNC, reading = O_RDONLY;
static int pair[2], udp;

static void datagrams(void) {
    char bytes[64] = "";
    udp = socket(AF_INET, SOCK_DGRAM, 0);
    int other = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, from = {0};
    socklen_t len = sizeof at;
    MUST(bind(udp, (struct sockaddr *)&at, sizeof at) == 0 && getsockname(udp, (struct sockaddr *)&at, &len) == 0);
    struct sockaddr_in self = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    MUST(bind(other, (struct sockaddr *)&self, sizeof self) == 0);
    MUST(getsockname(other, (struct sockaddr *)&self, &len) == 0);
    sendto(other, "hello", 5, 0, (struct sockaddr *)&at, sizeof at);
    len = sizeof from;
    SAY("recvfrom %zd %.5s", recvfrom(udp, bytes, twelve, 0, (struct sockaddr *)&from, &len), bytes);
    SAY("from it %d, %d bytes", from.sin_port == self.sin_port && from.sin_family == AF_INET, (int)len);
    sendto(other, "again", 5, 0, (struct sockaddr *)&at, sizeof at);
    SAY("recvfrom nobody %zd %.5s", recvfrom(udp, bytes, twelve, 0, 0, 0), bytes);
    ssize_t got = recvfrom(udp, bytes, twelve, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
    SAY("recvfrom nothing %zd, again %d", got, errno == EAGAIN);
}

static void streams(void) {
    char bytes[64] = "";
    MUST(write(pair[0], "hello world!", 12) == 12);
    SAY("read %zd %.12s", read(pair[1], bytes, twelve), bytes);
    MUST(write(pair[0], "hello again!", 12) == 12);
    SAY("recv %zd %.12s", recv(pair[1], bytes, twelve, 0), bytes);
    struct pollfd polled[2] = {{pair[0], POLLIN | POLLOUT, 0}, {pair[1], POLLIN, 0}};
    int ready = poll(polled, twelve / 6, 1);
    SAY("poll %d %x %x", ready, polled[0].revents, polled[1].revents);
    struct timespec limit = {0, 1000000};
    SAY("ppoll %d", ppoll(polled, twelve / 6, &limit, 0));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(pair[twelve - 12], &set);
    struct timeval none = {0, 0};
    SAY("select %d", select(pair[0] + 1, 0, &set, 0, &none));
}

static void files(void) {
    char bytes[64] = "", *line = 0;
    size_t room = 0;
    int fd = open("fortified.txt", create, 0600);
    MUST(fd >= 0 && write(fd, "abcdefghijklmnop\n", 17) == 17);
    SAY("pread %zd %.12s", pread(fd, bytes, twelve, 2), bytes);
    SAY("pread64 %zd %.12s", pread64(fd, bytes, twelve, 3), bytes);
    close(fd);
    fd = open("fortified.txt", reading);
    SAY("open %d openat %d", fd >= 0, close(openat(AT_FDCWD, "fortified.txt", reading)));
    FILE *file = fdopen(fd, "r");
    SAY("fgets %s", fgets(bytes, (int)twelve, file));
    SAY("getline %zd", getline(&line, &room, file));
    fclose(file);
    unlink("fortified.txt");
    MUST(symlink("target", "fortified.link") == 0);
    SAY("readlink %zd", readlink("fortified.link", bytes, twelve));
    unlink("fortified.link");
}

// What overflows its buffer ends.
static void overflows(int which) {
    char bytes[64];
    struct pollfd polled[2] = {0};
    struct sockaddr_in from;
    socklen_t len = sizeof from;
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        ssize_t got = 0;
        close(2);
        switch (which) {
            case 0: got = read(pair[1], bytes, huge); break;
            case 1: got = recv(pair[1], bytes, huge, 0); break;
            case 2: got = recvfrom(udp, bytes, huge, 0, (struct sockaddr *)&from, &len); break;
            case 3: got = poll(polled, huge, 0); break;
        }
        _exit((int)(got + bytes[0] + polled[0].revents) & 1);
    }
    int status;
    waitpid(child, &status, 0);
    SAY("overflow %d aborted %d", which, WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    datagrams();
    streams();
    files();
    for (int which = 0; which < 4; which++) overflows(which);
    return 0;
}
