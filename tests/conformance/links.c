// What links of /proc say of open files: the same as fstat, and the same on all replicas.
#include "check.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
static char text[256];
static const char *link_at(int directory, const char *name) { memset(text, 'x', sizeof text); ssize_t n = readlinkat(directory, name, text, sizeof text - 1); if (n < 0) return strerror(errno); text[n] = 0; witness(hashed(1, text, sizeof text)); return text; }
static const char *of(int fd) { char name[40]; snprintf(name, sizeof name, "/proc/self/fd/%d", fd); return link_at(AT_FDCWD, name); }
static int is_numbered(const char *kind, int fd) { struct stat s; char want[80]; MUST(fstat(fd, &s) == 0); snprintf(want, sizeof want, "%s:[%lu]", kind, (unsigned long)s.st_ino); return strcmp(of(fd), want) == 0; }
int main(void) {
    int p[2], s[2]; MUST(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0); sigset_t none; sigemptyset(&none);
    SAY("pipe %d %d", is_numbered("pipe", p[0]), is_numbered("pipe", p[1])); SAY("socket %d %d", is_numbered("socket", s[0]), is_numbered("socket", socket(AF_INET, SOCK_STREAM, 0))); SAY("datagrams %d", is_numbered("socket", socket(AF_INET, SOCK_DGRAM, 0)));
    SAY("%s", of(eventfd(0, 0))); SAY("%s", of(timerfd_create(CLOCK_MONOTONIC, 0))); SAY("%s", of(signalfd(-1, &none, 0))); SAY("%s", of(epoll_create1(0))); SAY("%s", of(inotify_init()));
    int u = open("/dev/urandom", O_RDONLY); SAY("%s", of(u)); SAY("%s", of(open("/dev/random", O_RDONLY))); SAY("%s", of(open("/dev/null", O_RDONLY))); SAY("none %s", of(999));
    int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY); char name[40]; snprintf(name, sizeof name, "%d", p[0]); SAY("from the directory %d", strncmp(link_at(dir, name), "pipe:[", 6)); snprintf(name, sizeof name, "/proc/%d/fd/%d", getpid(), u); SAY("by process %s", link_at(AT_FDCWD, name));
    char few[6] = "xxxxx"; snprintf(name, sizeof name, "/proc/self/fd/%d", u); SAY("cut %zd %s", readlink(name, few, 4), few); SAY("no room %s", strerror(ERR(readlink(name, few, 0)))); SAY("no link %s", strerror(ERR(readlink("/proc/self/status", few, 4))));
    int st; pid_t c = fork(); if (!c) { snprintf(name, sizeof name, "/proc/%d/fd/%d", getppid(), p[0]); SAY("of another %d", strncmp(link_at(AT_FDCWD, name), "pipe:[", 6)); _exit(0); } waitpid(c, &st, 0);
    SAY("a link %d", symlink("somewhere", "there")); SAY("%s", link_at(AT_FDCWD, "there")); SAY("removed %d", unlink("there"));
    char *m = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); m[0] = m[4096] = 1; unsigned char in[3] = {7, 7, 7}; SAY("in memory %d", mincore(m, 8000, in)); SAY("pages %d %d %d", in[0] & 1, in[1] & 1, in[2]); munmap(m, 8192); SAY("no memory %s", strerror(ERR(mincore(m, 8192, in)))); return 0;
}
