// Modification times: of the program's clock, changed by what changes content and by nothing else.
#include "check.h"
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#define NS(t) ((t).tv_sec * 1000000000LL + (t).tv_nsec)
static char path[] = "/tmp/brolga-times-XXXXXX";
static long long mtime(void) { struct stat s; MUST(stat(path, &s) == 0); return NS(s.st_mtim); }
static long long before;
static void begin(void) { usleep(20000); before = now_ns(CLOCK_REALTIME_COARSE); }
// Whether the file was changed, as the clock saw it, since begin().
static int changed(void) { long long m = mtime(); return m >= before && m <= now_ns(CLOCK_REALTIME); }
int main(void) {
    begin(); int fd = mkstemp(path); MUST(fd >= 0);
    SAY("made %d", changed());
    begin(); SAY("write %zd %d", write(fd, "hello", 5), changed());
    struct iovec w[2] = {{"a", 1}, {"b", 1}};
    begin(); SAY("writev %zd %d", writev(fd, w, 2), changed());
    begin(); SAY("pwrite %zd %d", pwrite(fd, "x", 1, 3), changed());
    char b[8]; begin(); SAY("read %zd %d", pread(fd, b, 8, 0), changed());
    begin(); SAY("ftruncate %d %d", ftruncate(fd, 3), changed());
    begin(); SAY("truncate %d %d", truncate(path, 2), changed());
    begin(); SAY("fallocate %d %d", posix_fallocate(fd, 0, 100), changed());
    begin(); int again = open(path, O_CREAT | O_APPEND | O_WRONLY, 0600);
    SAY("opened again %d %d", again >= 0, changed());
    begin(); SAY("exclusive %s %d", strerror(ERR(open(path, O_CREAT | O_EXCL, 0600))), changed());
    begin(); close(again); again = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    SAY("emptied %d %d", again >= 0, changed());
    begin(); FILE *f = fdopen(again, "w"); fprintf(f, "by stdio"); fclose(f);
    SAY("stdio %d", changed());
    begin(); SAY("touched %d %d", utimensat(AT_FDCWD, path, 0, 0), changed());
    begin(); SAY("futimes %d %d", futimes(fd, 0), changed());
    struct timespec t[2] = {{0, UTIME_OMIT}, {1000000000, 5}};
    SAY("set %d %lld", utimensat(AT_FDCWD, path, t, 0), mtime());
    unlink(path);
    MUST(symlink("/nowhere/at/all", path) == 0);
    SAY("through a dangling link %s", strerror(ERR(open(path, O_CREAT | O_WRONLY, 0600))));
    SAY("and exclusively %s", strerror(ERR(open(path, O_CREAT | O_EXCL | O_WRONLY, 0600))));
    unlink(path);
    MUST(mkdir(path, 0700) == 0);
    SAY("a directory %s", strerror(ERR(open(path, O_CREAT | O_WRONLY, 0600))));
    rmdir(path);
    struct stat s, z; MUST(stat("/dev/null", &s) == 0); begin();
    int null = open("/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0600); MUST(write(null, "x", 1) == 1); MUST(stat("/dev/null", &z) == 0);
    SAY("the null device %d", NS(s.st_mtim) == NS(z.st_mtim));
    return 0;
}
