// Limits of the address space: what a program may use of it, and what it is told, is its own alone.
#include "check.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#define MB (1L << 20)
static int room(long bytes) { void *p = mmap(0, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) return errno; munmap(p, bytes); return 0; }
int main(int argc, char **argv) {
    struct rlimit l; MUST(getrlimit(RLIMIT_AS, &l) == 0); SAY("%s: soft %ld hard %ld, 100 MB %d, 400 MB %d", argc > 1 ? argv[1] : "at first", (long)l.rlim_cur, (long)l.rlim_max, room(100 * MB), room(400 * MB));
    if (argc > 1) return 0;
    l = (struct rlimit){200 * MB, RLIM_INFINITY}; SAY("set %d", setrlimit(RLIMIT_AS, &l)); SAY("100 MB %d", room(100 * MB)); SAY("400 MB %d", room(400 * MB));
    MUST(getrlimit(RLIMIT_AS, &l) == 0); SAY("soft %ld hard %ld", (long)l.rlim_cur, (long)l.rlim_max);
    struct rlimit more = {300 * MB, 600 * MB}, old; SAY("prlimit %d", prlimit(0, RLIMIT_AS, &more, &old)); SAY("old %ld %ld", (long)old.rlim_cur, (long)old.rlim_max);
    pid_t child = fork(); if (!child) { execl("/proc/self/exe", argv[0], "in another program", (char *)0); _exit(9); } int status; waitpid(child, &status, 0); SAY("child %d", status);
    l.rlim_cur = 700 * MB; l.rlim_max = 600 * MB; SAY("soft above hard %d", ERR(setrlimit(RLIMIT_AS, &l))); l = (struct rlimit){600 * MB, 600 * MB}; SAY("raise %d", setrlimit(RLIMIT_AS, &l)); SAY("400 MB %d", room(400 * MB));
    SAY("raw %ld", syscall(SYS_getrlimit, RLIMIT_AS, &l)); SAY("soft %ld hard %ld", (long)l.rlim_cur, (long)l.rlim_max);
    l = (struct rlimit){0, 0}; SAY("files %d", getrlimit(RLIMIT_NOFILE, &l)); SAY("some %d", l.rlim_cur > 0); SAY("no such limit %d", ERR(getrlimit(99, &l))); return 0;
}
