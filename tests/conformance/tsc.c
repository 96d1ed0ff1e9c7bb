// The time-stamp counter, read again and again in the ways compilers read it: the counter grows, and nothing else changes.
#include "check.h"

static unsigned long shifted(void) {
    unsigned long high, low;
    __asm__ volatile("rdtsc\n\tshl $32,%%rdx\n\tor %%rdx,%%rax" : "=&a"(low), "=&d"(high)::"cc");
    return low;
}

long table[4] = {10, 20, 30, 40};

// The next instruction has an address relative to itself.
static long relative(void) {
    long low, value;
    __asm__ volatile("rdtsc\n\tmov table+16(%%rip),%1" : "=&a"(low), "=&r"(value)::"rdx", "memory");
    return value;
}

// Somebody jumps to the instruction behind it.
static int joined(int read) {
    int turns = 0;
    __asm__ volatile("xor %%eax,%%eax\n\ttest %1,%1\n\tje 1f\n\trdtsc\n1:\tadd $1,%0\n\tadd $1,%0"
                     : "+r"(turns) : "r"(read) : "rax", "rdx", "cc");
    return turns;
}

// Registers, flags, vectors and what lies below the stack pointer stay.
static int kept(void) {
    unsigned long registers = 0, flags = 0, red = 0;
    double vector = 0;
    __asm__ volatile(
        "mov $1,%%rcx\n\tmov $2,%%rsi\n\tmov $3,%%rdi\n\tmov $4,%%r8\n\tmov $5,%%r9\n\tmov $6,%%r10\n\tmov $7,%%r11\n\t"
        "movabs $0x4045000000000000,%%rax\n\tmovq %%rax,%%xmm5\n\tlea -256(%%rsp),%%rsp\n\tmovq $77,-16(%%rsp)\n\tstc\n\t"
        "rdtsc\n\t"
        "mov %%rdx,%%rdx\n\tmov %%rax,%%rax\n\t"
        "setc %%al\n\tmovzbl %%al,%%eax\n\tmov %%rax,%1\n\tmov -16(%%rsp),%%rax\n\tmov %%rax,%2\n\tlea 256(%%rsp),%%rsp\n\tmovsd %%xmm5,%3\n\t"
        "lea (%%rcx,%%rsi),%%rax\n\tadd %%rdi,%%rax\n\tadd %%r8,%%rax\n\tadd %%r9,%%rax\n\tadd %%r10,%%rax\n\tadd %%r11,%%rax\n\t"
        "mov %%rax,%0"
        : "=&b"(registers), "=&r"(flags), "=&r"(red), "=m"(vector)
        :
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm5", "cc", "memory");
    return registers == 28 && flags == 1 && red == 77 && vector == 42;
}

static int good = 0;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *reader(void *x) {
    unsigned long last = 0;
    int bad = 0;
    for (int i = 0; i < 3000; i++) {
        unsigned long now = shifted();
        bad += now <= last;
        last = now;
        bad += relative() != 30 || joined(i & 1) != 2 || !kept();
    }
    pthread_mutex_lock(&lock);
    good += !bad;
    pthread_mutex_unlock(&lock);
    return x;
}

int main(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], 0, reader, 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], 0);
    SAY("good threads %d", good);
    int status, child = fork();
    if (!child) { good = 0; reader(0); _exit(good); }
    waitpid(child, &status, 0);
    SAY("good child %d", WEXITSTATUS(status));
    return 0;
}
