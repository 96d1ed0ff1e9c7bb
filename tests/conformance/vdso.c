// The functions of the vDSO, called directly as some runtimes do: they agree with libc's, which replicas agree on.
#include "check.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>
#include <sys/time.h>

// Symbols by the section header: the hash tables differ between kernels.
static void *find(const char *name) {
    char *base = (char *)getauxval(AT_SYSINFO_EHDR);
    if (!base) return 0;
    ElfW(Ehdr) *head = (ElfW(Ehdr) *)base;
    ElfW(Shdr) *sections = (ElfW(Shdr) *)(base + head->e_shoff);
    for (int i = 0; i < head->e_shnum; i++) {
        if (sections[i].sh_type != SHT_DYNSYM) continue;
        ElfW(Sym) *symbols = (ElfW(Sym) *)(base + sections[i].sh_offset);
        const char *names = base + sections[sections[i].sh_link].sh_offset;
        for (size_t n = 0; n < sections[i].sh_size / sizeof *symbols; n++)
            if (symbols[n].st_shndx && !strcmp(names + symbols[n].st_name, name)) return base + symbols[n].st_value;
    }
    return 0;
}

static int (*get_time)(clockid_t, struct timespec *);
static int (*get_day)(struct timeval *, void *);
static time_t (*get_seconds)(time_t *);
static int (*get_processor)(unsigned *, unsigned *, void *);
static int (*get_resolution)(clockid_t, struct timespec *);

static long long ns(clockid_t clock) {
    struct timespec t = {-1, -1};
    if (get_time(clock, &t)) return -1;
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *reader(void *wrong) {
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME};
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < sizeof clocks / sizeof *clocks; i++) {
            long long before = now_ns(clocks[i]), now = ns(clocks[i]), after = now_ns(clocks[i]);
            *(int *)wrong += before > now || now > after;
            witness((uint64_t)now);
        }
        sched_yield();
    }
    return wrong;
}

int main(void) {
    get_time = (int (*)(clockid_t, struct timespec *))find("__vdso_clock_gettime");
    get_day = (int (*)(struct timeval *, void *))find("__vdso_gettimeofday");
    get_seconds = (time_t (*)(time_t *))find("__vdso_time");
    get_processor = (int (*)(unsigned *, unsigned *, void *))find("__vdso_getcpu");
    get_resolution = (int (*)(clockid_t, struct timespec *))find("__vdso_clock_getres");
    SAY("found %d %d %d %d", !!get_time, !!get_day, !!get_seconds, !!get_processor);
    if (!get_time || !get_day || !get_seconds || !get_processor) return 1;
    int wrong[3] = {0};
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) pthread_create(&thread[i], 0, reader, &wrong[i]);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], 0);
    SAY("wrong times %d %d %d", wrong[0], wrong[1], wrong[2]);
    struct timeval day = {0};
    time_t before = time(0), seconds = 0;
    SAY("day %d", get_day(&day, 0) == 0 && day.tv_sec >= before && day.tv_sec <= time(0));
    time_t told = get_seconds(&seconds);
    SAY("seconds %d %d", told == seconds, seconds >= before && seconds <= time(0));
    unsigned processor = ~0u, node = ~0u;
    SAY("processor %d", get_processor(&processor, &node, 0) == 0 && processor != ~0u && node != ~0u);
    struct timespec fine = {-1, -1};
    SAY("resolution %d %ld", get_resolution ? get_resolution(CLOCK_MONOTONIC, &fine) : 0, get_resolution ? fine.tv_nsec : 1);
    SAY("no clock %d", get_time(1000, &fine) != 0);
    witness((uint64_t)day.tv_usec * 1000 + processor);
    return 0;
}
