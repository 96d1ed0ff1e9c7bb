// Futexes in memory that processes share, wherever they have mapped it, and in memory that they do not share.
#include "check.h"
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
struct page { uint32_t word, other; volatile uint32_t stage; };
static const size_t SIZE = 8192;
static long futex(uint32_t *a, int op, uint32_t v, void *t, uint32_t *b, uint32_t v3) { return syscall(SYS_futex, a, op, v, t, b, v3); }
static struct page *map(int fd, off_t at) { void *p = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, at); MUST(p != MAP_FAILED); return p; }
static void reach(struct page *p, uint32_t stage) { while (p->stage < stage) usleep(1000); }
static long wake(uint32_t *word, int op) { long n = 0; for (int i = 0; i < 5000 && n <= 0; i++) { usleep(1000); n = futex(word, op, 1, 0, 0, 0); } return n; }
static void ends(pid_t c) { int st; MUST(waitpid(c, &st, 0) == c); SAY("child %d", st); }
// The child waits for the same word by its own mapping.
static void meet(const char *what, struct page *mine, struct page *(*again)(void)) {
    memset(mine, 0, sizeof *mine); struct timespec limit = {10, 0}; pid_t c = fork();
    if (!c) { struct page *p = again(); long e = futex(&p->word, FUTEX_WAIT, 0, &limit, 0, 0); SAY("%s: elsewhere %d, woken %ld", what, p != mine, e); p->stage = 1; e = futex(&p->other, FUTEX_WAIT_BITSET, 0, 0, 0, 6); SAY("%s: by a bit %ld", what, e); _exit(7); }
    long first = wake(&mine->word, FUTEX_WAKE); reach(mine, 1); SAY("%s: waiting %ld", what, first); long none = futex(&mine->other, FUTEX_WAKE_BITSET, 9, 0, 0, 8), second = 0; while (second <= 0) { usleep(1000); second = futex(&mine->other, FUTEX_WAKE_BITSET, 1, 0, 0, 2); }
    ends(c); SAY("%s: other bits %ld, these %ld", what, none, second);
}
static char path[] = "shared_futexes_file"; static int memory; static int segment; static struct page *inherited;
static struct page *by_path(void) { mmap(0, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); int fd = open(path, O_RDWR); MUST(fd >= 0); struct page *p = map(fd, 4096); close(fd); return p; }
static struct page *by_descriptor(void) { return map(memory, 0); }
static struct page *attached(void) { void *p = shmat(segment, 0, 0); MUST(p != (void *)-1); return p; }
static struct page *as_it_is(void) { return inherited; }
// The child may only read what it waits for.
static void read_only(struct page *mine, int fd, off_t at) {
    memset(mine, 0, sizeof *mine); struct timespec limit = {10, 0}; pid_t c = fork();
    if (!c) { mmap(0, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); struct page *p = mmap(0, SIZE, PROT_READ, MAP_SHARED, fd, at); MUST(p != MAP_FAILED); long e = futex(&p->word, FUTEX_WAIT, 0, &limit, 0, 0); SAY("read only: elsewhere %d, woken %ld", p != mine, e); _exit(6); }
    long n = wake(&mine->word, FUTEX_WAKE); ends(c); SAY("read only: waiting %ld", n);
}
// Memory of one process only, at the address at which its child has its own: no wake-up passes, all the time that the child waits.
static void apart(void) {
    static struct page own; struct page *both = inherited; memset(both, 0, sizeof *both); struct timespec limit = {0, 80000000}; pid_t c = fork();
    if (!c) { both->stage = 1; SAY("not shared: %s", strerror(ERR(futex(&own.word, FUTEX_WAIT, 0, &limit, 0, 0)))); limit.tv_nsec = 80000000; both->stage = 2; SAY("private: %s", strerror(ERR(futex(&both->word, FUTEX_WAIT_PRIVATE, 0, &limit, 0, 0)))); both->stage = 3; _exit(8); }
    reach(both, 1); long n = 0, m = 0; while (both->stage < 2) { n += futex(&own.word, FUTEX_WAKE, 9, 0, 0, 0); usleep(1000); } while (both->stage < 3) { m += futex(&both->word, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0); usleep(1000); } ends(c); SAY("woken %ld %ld", n, m);
}
// From one word to another, of another mapping.
static void requeued(void) {
    struct page *a = inherited, *b = by_descriptor(); memset(a, 0, sizeof *a); memset(b, 0, sizeof *b); pid_t c = fork();
    if (!c) { a->stage = 1; SAY("requeued %ld", futex(&a->word, FUTEX_WAIT, 0, 0, 0, 0)); _exit(9); }
    reach(a, 1); long n = 0; while (n <= 0) { usleep(1000); n = futex(&a->word, FUTEX_CMP_REQUEUE, 0, (void *)1, &b->word, 0); } long m = futex(&a->word, FUTEX_WAKE, 9, 0, 0, 0); struct page *again = by_descriptor(); long k = futex(&again->word, FUTEX_WAKE, 9, 0, 0, 0); ends(c); SAY("moved %ld, there %ld, here %ld, mapped twice %d", n, m, k, again != b);
}
int main(void) {
    int fd = open(path, O_RDWR | O_CREAT, 0600); MUST(fd >= 0 && ftruncate(fd, 65536) == 0); struct page *p = map(fd, 4096); read_only(p, fd, 4096); close(fd);
    meet("file", p, by_path); munmap(p, SIZE); MUST(unlink(path) == 0);
    memory = memfd_create("words", 0); MUST(memory >= 0 && ftruncate(memory, 65536) == 0); p = by_descriptor(); meet("memfd", p, by_descriptor);
    segment = shmget(IPC_PRIVATE, SIZE, 0600); MUST(segment >= 0); p = attached(); meet("system v", p, attached); shmctl(segment, IPC_RMID, 0);
    inherited = map(-1, 0); meet("inherited", inherited, as_it_is); apart(); requeued(); return 0;
}
