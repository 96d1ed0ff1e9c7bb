// Randomness by every way that leads to it, and what is made of it: names of temporary files, canaries, keys of pointers.
#include "check.h"
#include <dlfcn.h>
#include <linux/random.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
static int last_differs(const void *b, size_t n) { static uint64_t last; uint64_t now = hashed(1, b, n); witness(now); int d = now != last; last = now; return d; }
static int device(int fd) { char b[16]; MUST(read(fd, b, sizeof b) == sizeof b); close(fd); return last_differs(b, sizeof b); }
static int named(const char *name) { return name && last_differs(name, strlen(name)); }
// C++'s std::random_device, which asks the processor.
static void of_cpp(void) {
    typedef struct { char *text; size_t bytes; char own[16]; } string;
    if (!dlopen("libstdc++.so.6", RTLD_NOW | RTLD_GLOBAL)) { SAY("no C++"); return; }
    string name = {name.own, 7, "default"}; _Alignas(16) char device[8192]; uint32_t value[4];
    void (*init)(void *, const string *) = dlsym(RTLD_DEFAULT, "_ZNSt13random_device7_M_initERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE");
    void (*fini)(void *) = dlsym(RTLD_DEFAULT, "_ZNSt13random_device7_M_finiEv"); uint32_t (*get)(void *) = dlsym(RTLD_DEFAULT, "_ZNSt13random_device9_M_getvalEv");
    init(device, &name); for (int i = 0; i < 4; i++) value[i] = get(device); fini(device); SAY("C++ %d", last_differs(value, sizeof value));
}
int main(void) {
    char base[] = "/tmp/brolga-random-XXXXXX", b[16]; MUST(mkdtemp(base)); SAY("directory %d", named(base)); MUST(chdir(base) == 0);
    SAY("device %d %d", device(open("/dev/urandom", O_RDONLY)), device(open("/dev/random", O_RDONLY | O_CLOEXEC)));
    SAY("odd path %d", device(openat(AT_FDCWD, "/dev/../dev//./urandom", O_RDONLY))); SAY("system call %d", device(syscall(SYS_open, "/dev/urandom", O_RDONLY)));
    MUST(symlink("/dev/urandom", "rnd") == 0); SAY("link %d", device(open("rnd", O_RDONLY))); MUST(unlink("rnd") == 0);
    int dev = open("/dev", O_RDONLY | O_DIRECTORY); SAY("from a directory %d", device(openat(dev, "random", O_RDONLY))); close(dev);
    int u = open("/dev/urandom", O_RDONLY); char again[40]; snprintf(again, sizeof again, "/proc/self/fd/%d", u); SAY("opened by its descriptor %d", device(open(again, O_RDONLY | O_CLOEXEC))); snprintf(again, sizeof again, "/dev/fd/%d", u); SAY("and so %d", device(open(again, O_RDONLY)));
    struct stat is; MUST(fstat(u, &is) == 0); int bits = 0; SAY("a device %d number %x", S_ISCHR(is.st_mode), (int)is.st_rdev); SAY("mode %o entropy %d", is.st_mode & 07777, ioctl(u, RNDGETENTCNT, &bits) == 0 && bits > 0); close(u);
    SAY("no such flag %s", strerror(ERR(getrandom(b, 1, 0x80)))); SAY("both %s", strerror(ERR(getrandom(b, 1, GRND_RANDOM | GRND_INSECURE))));
    FILE *f = fopen("/dev/urandom", "r"); MUST(fread(b, 1, 16, f) == 16); fclose(f); SAY("stdio %d", last_differs(b, 16));
    MUST(getrandom(b, 16, 0) == 16); SAY("getrandom %d", last_differs(b, 16)); MUST(syscall(SYS_getrandom, b, 8, GRND_NONBLOCK) == 8); SAY("as malloc asks %d", last_differs(b, 8)); MUST(getentropy(b, 16) == 0); SAY("getentropy %d", last_differs(b, 16));
    uint32_t r = arc4random(); SAY("arc4random %d", last_differs(&r, 4)); SAY("below %d", arc4random_uniform(10) < 10); arc4random_buf(b, 16); SAY("buf %d", last_differs(b, 16));
    of_cpp();
    SAY("of the kernel %d", last_differs((void *)getauxval(AT_RANDOM), 16)); uint64_t w; asm("mov %%fs:0x28,%0" : "=r"(w)); SAY("canary %d ends in %d", last_differs(&w, 8), (int)(w & 255)); asm("mov %%fs:0x30,%0" : "=r"(w)); SAY("key %d", last_differs(&w, 8));
    jmp_buf j; volatile int times = 0; if (setjmp(j) < 3) { times++; longjmp(j, times); } SAY("jumped %d", times); witness(hashed(1, j, sizeof j));
    char t[] = "tXXXXXX", s[] = "sXXXXXX.c", o[] = "XXXXXX", m[] = "mXXXXXX", bad[] = "XXXXX"; struct stat st;
    int fd = mkstemp(t); SAY("mkstemp %d %d", fd >= 0, named(t)); MUST(fstat(fd, &st) == 0); SAY("mode %o flags %d", st.st_mode & 07777, (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR); close(fd); unlink(t);
    fd = mkstemps(s, 2); SAY("suffix %d %d %s", fd >= 0, named(s), s + 7); close(fd); unlink(s); fd = mkostemp(o, O_CLOEXEC); SAY("flags %d %d", named(o), fcntl(fd, F_GETFD)); close(fd); unlink(o);
    SAY("bad %s", strerror(ERR(mkstemp(bad)))); mktemp(m); SAY("mktemp %d %s", named(m), strerror(ERR(stat(m, &st))));
    char n[L_tmpnam]; SAY("tmpnam %d %d", named(tmpnam(n)), strncmp(n, "/tmp/file", 9)); SAY("static %d", named(tmpnam(0))); char *d = tempnam(base, "pre-fix"); SAY("tempnam %d %d", named(d), strncmp(d, base, strlen(base)) == 0 && strstr(d, "/pre-f") != 0); free(d);
    f = tmpfile(); SAY("tmpfile %d", fputs("x", f) >= 0 && fclose(f) == 0); MUST(chdir("/") == 0); SAY("done %d", rmdir(base));
    return 0;
}
