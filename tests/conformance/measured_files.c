// Files of /proc and /sys, by whatever way they are named: replicas read the same.
#include "check.h"
#include <sched.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/utsname.h>
static uint64_t content(int fd) { char b[4096]; ssize_t n; uint64_t h = 1; while ((n = read(fd, b, sizeof b)) > 0) h = hashed(h, b, n); close(fd); return h; }
static int lines(const char *path, const char *start) { FILE *f = fopen(path, "r"); MUST(f); char b[8192]; int n = 0; while (fgets(b, sizeof b, f)) n += strncmp(b, start, strlen(start)) == 0; fclose(f); return n; }
int main(void) {
    const char *const all[] = {"/proc/self/stat", "/proc/self/status", "/proc/self/maps", "/proc/self/smaps", "/proc/self/statm", "/proc/self/limits", "/proc/self/cmdline", "/proc/self/environ", "/proc/self/mountinfo", "/proc/self/mounts", "/proc/mounts", "/proc/self/cgroup", "/proc/self/auxv", "/proc/self/io", "/proc/self/sched", "/proc/self/schedstat", "/proc/self/numa_maps", "/proc/self/comm", "/proc/self/fdinfo/0", "/proc/self/fdinfo/1", "/proc/self/net/unix", "/proc/net/tcp", "/proc/net/dev", "/proc/net/sockstat", "/proc/net/snmp", "/proc/net/snmp6", "/proc/net/netstat", "/proc/thread-self/status", "/proc/self/autogroup", "/proc/self/syscall", "/proc/net/netlink", "/proc/net/ipv6_route", "/proc/vmallocinfo", "/sys/kernel/uevent_seqnum", "/sys/kernel/slab/dentry/objects", "/sys/devices/system/cpu/cpu1/cpuidle/state1/usage",
        "/proc/cpuinfo", "/proc/meminfo", "/proc/loadavg", "/proc/uptime", "/proc/stat", "/proc/version", "/proc/cmdline", "/proc/sys/kernel/osrelease", "/proc/sys/kernel/version", "/proc/vmstat", "/proc/diskstats", "/proc/partitions", "/proc/swaps", "/proc/filesystems", "/proc/modules", "/proc/interrupts", "/proc/softirqs", "/proc/zoneinfo", "/proc/buddyinfo", "/proc/locks", "/proc/schedstat", "/proc/pressure/cpu", "/proc/sys/kernel/random/uuid", "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/random/entropy_avail", "/proc/sys/fs/file-nr", "/proc/sys/fs/inode-nr", "/proc/sys/fs/dentry-state", "/proc/sys/kernel/hostname", "/proc/sys/net/core/somaxconn",
        "/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/sys/devices/system/node/node0/meminfo", "/sys/devices/system/node/node0/numastat", "/sys/class/net/lo/statistics/rx_bytes", "/etc/mtab", 0};
    for (int i = 0; all[i]; i++) { int fd = open(all[i], O_RDONLY); if (fd >= 0) witness(content(fd)); }
    int here = open("/proc/self", O_RDONLY | O_DIRECTORY); witness(content(openat(here, "mountinfo", O_RDONLY))); MUST(fchdir(here) == 0); witness(content(open("maps", O_RDONLY))); witness(content(open("../uptime", O_RDONLY)));
    char own[64]; snprintf(own, sizeof own, "/proc/%d/smaps", getpid()); witness(content(open(own, O_RDONLY)));
    SAY("maps has the stack %d", lines("/proc/self/maps", "7ff") > 0); SAY("status %d", lines("/proc/self/status", "Pid:")); SAY("memory %d", lines("/proc/meminfo", "MemTotal:"));
    SAY("a processor %d", lines("/proc/cpuinfo", "processor") > 0); SAY("root is mounted %d", lines("/proc/mounts", "") > 1); char u[64] = "", v[64] = "";
    FILE *f = fopen("/proc/sys/kernel/random/uuid", "r"); MUST(fgets(u, sizeof u, f)); fclose(f); f = fopen("/proc/sys/kernel/random/uuid", "r"); MUST(fgets(v, sizeof v, f)); fclose(f); SAY("a uuid %zu version %c anew %d", strlen(u), u[14], strcmp(u, v) != 0);
    f = fopen("/proc/sys/kernel/random/boot_id", "r"); MUST(fgets(u, sizeof u, f)); fclose(f); f = fopen("/proc/sys/kernel/random/boot_id", "r"); MUST(fgets(v, sizeof v, f)); fclose(f); SAY("a boot id %zu the same %d", strlen(u), strcmp(u, v) == 0);
    struct sysinfo i; MUST(sysinfo(&i) == 0); witness(hashed(1, &i, sizeof i)); SAY("memory %d free %d", i.totalram > 0, i.freeram < i.totalram);
    struct utsname k; MUST(uname(&k) == 0); witness(hashed(1, &k, sizeof k)); char w[300]; f = fopen("/proc/version", "r"); MUST(fgets(w, sizeof w, f)); fclose(f); SAY("one kernel %d %d", strstr(w, k.release) != NULL, k.release[0] > 0);
    int own_memory = open("/proc/self/mem", O_RDONLY); char byte; SAY("no memory there %s", strerror(ERR(pread(own_memory, &byte, 1, 0)))); close(own_memory); witness(content(open("/sys/devices/system/clockevents/power/autosuspend_delay_ms", O_RDONLY)));
    struct rusage r; SAY("no such usage %s", strerror(ERR(getrusage(77, &r)))); MUST(getrusage(RUSAGE_SELF, &r) == 0); witness(hashed(1, &r, sizeof r)); struct tms t; witness(times(&t)); witness(hashed(1, &t, sizeof t)); witness(clock()); struct timespec c; MUST(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &c) == 0); witness(c.tv_nsec);
    cpu_set_t set; MUST(sched_getaffinity(0, sizeof set, &set) == 0); witness(CPU_COUNT(&set)); witness(get_nprocs()); witness(get_nprocs_conf()); witness(sysconf(_SC_PHYS_PAGES)); witness(sysconf(_SC_AVPHYS_PAGES)); witness(sched_getcpu());
    return 0;
}
