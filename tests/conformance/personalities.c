// Programs that are started after the personality was changed: their addresses are as fixed as those of the first. Pages in memory.
#include "check.h"
#include <sys/mman.h>
#include <sys/personality.h>
int main(int count, char **words) {
    void *heap = malloc(1 << 20), *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    witness((uintptr_t)&count); witness((uintptr_t)heap); witness((uintptr_t)page); witness((uintptr_t)main);
    if (count > 1) { SAY("%s", words[1]); return 0; }
    for (int kind = 0; kind < 2; kind++) {
        pid_t child = fork(); int status;
        if (!child) {
            MUST(personality(PER_LINUX) >= 0); SAY("changed %d", personality(0xffffffff) & ~ADDR_NO_RANDOMIZE);
            if (kind) { MUST(personality(ADDR_COMPAT_LAYOUT) >= 0); }
            execl("/proc/self/exe", words[0], "another program", (char *)0); _exit(9);
        }
        waitpid(child, &status, 0); SAY("child %d", status);
    }
    enum { PAGES = 4 }; char *pages = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); memset(pages, 1, PAGES * 4096);
    unsigned char in[PAGES + 1]; memset(in, 0xaa, sizeof in); SAY("mincore %d", mincore(pages, PAGES * 4096 - 5, in)); SAY("pages %d %d %d %d, behind them %x", in[0] & 1, in[1] & 1, in[2] & 1, in[3] & 1, in[PAGES]);
    SAY("not at a page %s", strerror(ERR(mincore(pages + 1, 4096, in)))); munmap(pages, 4096); SAY("nothing there %s", strerror(ERR(mincore(pages, 4096, in)))); return 0;
}
