// Inode numbers, devices and times of files that the program makes: they stay, change and differ as on any file system, and
// replicas agree on every one of them.
#include "check.h"
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/socket.h>
#define NS(t) ((t).tv_sec * 1000000000LL + (t).tv_nsec)
static struct stat of(const char *path) {
    struct stat s, o; struct statx x; MUST(lstat(path, &s) == 0);
    uint64_t h = hashed(1, &s, sizeof s); witness(h);
    MUST(fstatat(AT_FDCWD, path, &o, AT_SYMLINK_NOFOLLOW) == 0 && o.st_ino == s.st_ino && NS(o.st_mtim) == NS(s.st_mtim) && NS(o.st_ctim) == NS(s.st_ctim));
    MUST(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_INO | STATX_MTIME, &x) == 0 && x.stx_ino == s.st_ino && x.stx_mtime.tv_nsec == s.st_mtim.tv_nsec);
    return s;
}
static long long before;
static void begin(void) { usleep(20000); before = now_ns(CLOCK_REALTIME_COARSE); }
static int fresh(struct timespec t) { return NS(t) >= before && NS(t) <= now_ns(CLOCK_REALTIME); }
// Whether the content (M) and the change time (C, to the second only) are new.
static int modified(const char *path) { return fresh(of(path).st_mtim); }
static int grew(const char *path, struct stat old) { return NS(of(path).st_ctim) >= NS(old.st_ctim) && NS(of(path).st_ctim) <= now_ns(CLOCK_REALTIME); }
int main(void) {
    char base[] = "/tmp/brolga-identities-XXXXXX"; MUST(mkdtemp(base)); MUST(chdir(base) == 0);
    int fd = open("a", O_CREAT | O_RDWR, 0666), other = open("b", O_CREAT | O_WRONLY, 0666); MUST(write(fd, "hello", 5) == 5);
    struct stat a = of("a"), b = of("b"), s; MUST(fstat(fd, &s) == 0);
    SAY("same by descriptor %d, other file %d, same device %d", s.st_ino == a.st_ino, a.st_ino != b.st_ino, a.st_dev == b.st_dev);
    SAY("blocks %d nlink %d size %d", a.st_blocks > 0, (int)a.st_nlink, (int)a.st_size);
    SAY("renamed %d same %d ctime %d", rename("a", "c"), of("c").st_ino == a.st_ino, grew("c", a));
    SAY("mtime stays %d", NS(of("c").st_mtim) == NS(a.st_mtim));
    SAY("chmod %d same %d mtime stays %d ctime %d", chmod("c", 0600), of("c").st_ino == a.st_ino, NS(of("c").st_mtim) == NS(a.st_mtim), grew("c", a));
    SAY("linked %d same %d nlink %d", link("c", "l"), of("l").st_ino == a.st_ino, (int)of("l").st_nlink);
    close(fd); fd = open("l", O_WRONLY | O_APPEND); SAY("opened again %d same %d", fd >= 0, of("c").st_ino == a.st_ino);
    begin(); MUST(write(fd, "x", 1) == 1); SAY("written by the other name %d", modified("c"));
    begin(); SAY("before it is closed %d", modified("c") == 0); MUST(write(fd, "x", 1) == 1); close(fd); SAY("after it was closed %d", modified("c"));
    long long m = NS(of("c").st_mtim); usleep(20000); SAY("and stays %d", NS(of("c").st_mtim) == m);
    begin(); MUST(symlink("c", "s") == 0); SAY("link %d size %d not what it names %d", modified("s"), (int)of("s").st_size, of("s").st_ino != a.st_ino);
    begin(); MUST(mkdir("d", 0755) == 0); SAY("directory %d and where it is %d", modified("d"), modified("."));
    begin(); MUST(mkfifo("d/f", 0600) == 0); SAY("fifo %d and where it is %d", modified("d/f"), modified("d"));
    begin(); close(open("d/g", O_CREAT | O_WRONLY, 0600)); SAY("made in it %d", modified("d"));
    begin(); close(open("d/g", O_CREAT | O_WRONLY, 0600)); SAY("opened in it %d", modified("d"));
    begin(); MUST(rename("d/g", "d/h") == 0); SAY("renamed in it %d", modified("d"));
    begin(); MUST(unlink("d/h") == 0 && unlink("d/f") == 0); SAY("removed in it %d", modified("d"));
    begin(); MUST(rename("d", "e") == 0); SAY("moved %d itself %d", modified("."), modified("e"));
    begin(); MUST(rmdir("e/") == 0); SAY("rmdir %d", modified("."));
    struct sockaddr_un u = {.sun_family = AF_UNIX, .sun_path = "socket"}; int k = socket(AF_UNIX, SOCK_STREAM, 0);
    begin(); SAY("bound %d %d", bind(k, (void *)&u, sizeof u), modified("socket")); close(k);
    fd = open("c", O_RDWR); begin(); char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); MUST(map != MAP_FAILED);
    map[0] = 'M'; MUST(msync(map, 4096, MS_SYNC) == 0); SAY("written through a mapping %d", modified("c")); munmap(map, 4096); close(fd);
    begin(); int st; fd = open("c", O_WRONLY | O_APPEND); pid_t c = fork();
    if (!c) { if (getuid() == 0) MUST(setgid(1234) == 0 && setuid(1234) == 0); MUST(write(fd, "y", 1) == 1); SAY("child sees it %d", modified("c")); close(fd); SAY("and after it closed it %d", modified("c")); _exit(0); }
    waitpid(c, &st, 0); SAY("the parent, too %d", modified("c")); begin(); MUST(write(fd, "z", 1) == 1); SAY("its own %d", modified("c")); close(fd); SAY("closed %d", modified("c"));
    begin(); c = fork(); if (!c) { fd = open("k", O_CREAT | O_WRONLY, 0600); MUST(write(fd, "k", 1) == 1); kill(getpid(), SIGKILL); } waitpid(c, &st, 0); SAY("of a killed process %d", modified("k"));
    FILE *t = tmpfile(); fd = fileno(t); fputs("t", t); fflush(t); MUST(fstat(fd, &s) == 0); witness(hashed(1, &s, sizeof s)); SAY("without a name %d %d", (int)s.st_nlink, s.st_ino != a.st_ino);
    int p[2]; MUST(pipe(p) == 0); struct stat q; MUST(fstat(p[0], &s) == 0 && fstat(other, &q) == 0); witness(hashed(1, &s, sizeof s)); SAY("pipe %d other %d", S_ISFIFO(s.st_mode), s.st_ino != q.st_ino);
    for (const char *const *host = (const char *const[]){"/", "/etc", "/etc/passwd", "/tmp", "/dev", "/dev/null", "/dev/shm", "/proc", "/proc/self", "/proc/self/status", "/sys", "/run", 0}; *host; host++) of(*host);
    struct stat up = of("/etc/passwd"); if (getuid() == 0) { fd = open("/proc/self/exe", O_RDONLY); MUST(fstat(fd, &s) == 0); witness(s.st_ino); close(fd); }
    SAY("passwd is older %d", NS(up.st_mtim) < before);
    struct statvfs v; MUST(statvfs(".", &v) == 0); witness(hashed(1, &v, sizeof v)); SAY("space %d", v.f_bavail > 0 && v.f_blocks >= v.f_bavail);
    MUST(unlink("c") == 0 && unlink("l") == 0 && unlink("s") == 0 && unlink("b") == 0 && unlink("socket") == 0 && unlink("k") == 0); SAY("gone %d", rmdir(base));
    return 0;
}
