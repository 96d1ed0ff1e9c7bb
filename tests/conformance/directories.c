// Listing directories: every name once, in an order that replicas agree on, at positions to which one can return.
#include "check.h"
#include <dirent.h>
#include <sys/stat.h>
enum { MANY = 3000 };
static char path[64];
static const char *name(int i) { snprintf(path, sizeof path, "file-%d", i * 7919 % 10007); return path; }
static int count(DIR *d, int (*each)(struct dirent *)) {
    int n = 0; uint64_t h = 1; struct dirent *e;
    while ((e = readdir(d))) { h = hashed(h, e->d_name, strlen(e->d_name)); h = hashed(h, &e->d_ino, 8); h = hashed(h, &e->d_off, 8); n += each ? each(e) : 1; }
    witness(h);
    return n;
}
static int same(struct dirent *e) { struct stat s; return e->d_name[0] == '.' || (lstat(e->d_name, &s) == 0 && s.st_ino == e->d_ino && e->d_type == DT_REG); }
static int gone(struct dirent *e) { return e->d_name[0] == 'f' && unlink(e->d_name) == 0; }
int main(void) {
    char base[] = "/tmp/brolga-directories-XXXXXX"; MUST(mkdtemp(base)); MUST(chdir(base) == 0);
    DIR *d = opendir("."); SAY("empty %d", count(d, 0)); closedir(d);
    for (int i = 0; i < 20; i++) close(open(name(i), O_CREAT | O_WRONLY, 0600));
    for (int i = 0; i < 5; i++) unlink(name(i));
    d = opendir("."); SAY("few %d", count(d, same)); SAY("at the end %d", readdir(d) == 0); rewinddir(d); SAY("again %d", count(d, 0));
    rewinddir(d); MUST(readdir(d) && readdir(d) && readdir(d)); long at = telldir(d); char fourth[256]; strcpy(fourth, readdir(d)->d_name); int rest = count(d, 0);
    seekdir(d, at); SAY("back %d", strcmp(readdir(d)->d_name, fourth)); SAY("rest %d %d", count(d, 0), rest); close(open("new", O_CREAT | O_WRONLY, 0600)); rewinddir(d); SAY("one more %d", count(d, 0)); unlink("new"); closedir(d);
    for (int i = 0; i < MANY; i++) close(open(name(i), O_CREAT | O_WRONLY, 0600));
    d = opendir("."); SAY("many %d", count(d, same)); rewinddir(d); SAY("all removed while listing %d", count(d, gone)); rewinddir(d); SAY("left %d", count(d, 0)); closedir(d);
    MUST(mkdir("sub", 0700) == 0); int fd = open("sub", O_RDONLY | O_DIRECTORY); MUST(symlinkat("x", fd, "y") == 0);
    d = fdopendir(dup(fd)); SAY("by descriptor %d", count(d, 0)); closedir(d); char small[16]; SAY("too small %s", strerror(ERR((lseek(fd, 0, SEEK_SET), getdents64(fd, small, sizeof small))))); unlinkat(fd, "y", 0);
    MUST(rmdir("sub") == 0); char big[512]; SAY("removed %s", strerror(ERR(getdents64(fd, big, sizeof big)))); close(fd);
    struct dirent **list; int n = scandir("/usr/share/zoneinfo/Europe", &list, 0, alphasort); SAY("sorted %d %s", n > 10, n > 2 ? list[2]->d_name : "");
    for (const char *const *other = (const char *const[]){"/proc/self/task", "/sys/class/net", "/dev", "/", 0}; *other; other++) { d = opendir(*other); MUST(d); SAY("others %d", count(d, 0) > 2); closedir(d); }
    SAY("a file %s", strerror(ERR(open("/etc/passwd", O_RDONLY | O_DIRECTORY)))); SAY("done %d", rmdir(base));
    return 0;
}
