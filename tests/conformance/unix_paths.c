// The paths of unix sockets: a socket is the file that a path leads to, by whatever name, and what becomes of that file.
#include "check.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
static struct sockaddr_un to(const char *path) { struct sockaddr_un a = {.sun_family = AF_UNIX}; snprintf(a.sun_path, sizeof a.sun_path, "%s", path); return a; }
static int listener(const char *path) { struct sockaddr_un a = to(path); int l = socket(AF_UNIX, SOCK_STREAM, 0); MUST(bind(l, (void *)&a, sizeof a) == 0 && listen(l, 8) == 0); return l; }
// Connects by a path; says which listener has it then.
static void called(const char *path, int l, int other) {
    struct sockaddr_un a = to(path); int c = socket(AF_UNIX, SOCK_STREAM, 0); int e = ERR(connect(c, (void *)&a, sizeof a)); struct pollfd p[2] = {{l, POLLIN, 0}, {other, POLLIN, 0}}; poll(p, 2, 0);
    SAY("%s: %s, %d %d", path, strerror(e), p[0].revents, p[1].revents); for (int i = 0; i < 2; i++) if (p[i].revents) close(accept(p[i].fd, 0, 0)); close(c);
}
int main(void) {
    char directory[] = "/tmp/unix-paths-XXXXXX"; MUST(mkdtemp(directory) && chdir(directory) == 0); MUST(mkdir("inner", 0755) == 0); int l = listener("one"), other = listener("inner/other");
    called("one", l, other); called("./one", l, other); called("inner/../one", l, other); char whole[200]; snprintf(whole, sizeof whole, "%s/one", directory); struct sockaddr_un a = to(whole); int c = socket(AF_UNIX, SOCK_STREAM, 0); SAY("by the whole path %d", connect(c, (void *)&a, sizeof a)); close(accept(l, 0, 0)); close(c);
    called("inner/other", l, other); MUST(chdir("inner") == 0); called("other", l, other); called("../one", l, other); called("one", l, other); MUST(chdir("..") == 0);
    MUST(symlink("one", "soft") == 0 && link("one", "hard") == 0); called("soft", l, other); called("hard", l, other); MUST(rename("one", "moved") == 0); called("moved", l, other); called("one", l, other); called("soft", l, other);
    MUST(rename("inner/other", "moved") == 0); called("moved", l, other); MUST(unlink("hard") == 0); called("hard", l, other); int third = listener("one"); called("one", third, l); MUST(unlink("one") == 0); called("one", third, l);
    close(open("file", O_CREAT | O_WRONLY, 0600)); called("file", l, other); called("missing/socket", l, other); called("file/socket", l, other); close(other); called("moved", l, third);
    struct sockaddr_un from = to("datagrams"); int d = socket(AF_UNIX, SOCK_DGRAM, 0), s = socket(AF_UNIX, SOCK_DGRAM, 0); MUST(bind(d, (void *)&from, sizeof from) == 0); char b[10] = ""; a = to("inner/../datagrams"); SAY("send %zd", sendto(s, "x", 1, 0, (void *)&a, sizeof a)); SAY("get %zd", recv(d, b, 10, MSG_DONTWAIT)); SAY("connect %d", connect(s, (void *)&a, sizeof a)); MUST(rename("datagrams", "elsewhere") == 0); SAY("send %zd", send(s, "yz", 2, 0)); SAY("get %zd", recv(d, b, 10, MSG_DONTWAIT)); SAY("gone %s", strerror(ERR(sendto(s, "x", 1, 0, (void *)&from, sizeof from)))); SAY("wrong type %s", strerror(ERR(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&(struct sockaddr_un){.sun_family = AF_UNIX, .sun_path = "elsewhere"}, sizeof a))));
    pid_t p = fork(); if (!p) { MUST(chroot("inner") == 0 && chdir("/") == 0); int in = listener("/here"); called("/here", in, l); called("/one", in, l); _exit(0); } int status; waitpid(p, &status, 0); SAY("in another root %d", status); int m = socket(AF_UNIX, SOCK_STREAM, 0); MUST(fchmod(m, 0711) == 0); from = to("modes"); umask(022); MUST(bind(m, (void *)&from, sizeof from) == 0); struct stat st; MUST(stat("modes", &st) == 0); SAY("mode %o", st.st_mode); MUST(chmod("moved", 0) == 0); p = fork(); if (!p) { MUST(chmod(directory, 0755) == 0 && setuid(33) == 0); called("moved", l, third); called("elsewhere", l, third); _exit(0); } waitpid(p, &status, 0); SAY("as another user %d", status); return 0;
}
