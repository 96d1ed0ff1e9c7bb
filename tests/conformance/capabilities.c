// Capabilities that root gives up: it lacks them, cannot have them back, and the next program that it executes has them again.
#include "check.h"
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
static struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
static struct __user_cap_data_struct data[2];
// Of those that every server has under brolga, so that the answer is the same natively.
static const unsigned ours = 1u << CAP_CHOWN | 1u << CAP_KILL | 1u << CAP_SETUID;
static void tell(const char *when) {
    MUST(syscall(SYS_capget, &header, data) == 0);
    SAY("%s: effective %x permitted %x inheritable %x", when, data[0].effective & ours, data[0].permitted & ours, data[0].inheritable & ours);
}
static int owner(const char *path) { return ERR(chown(path, 12, 34)); }
int main(int argc, char **argv) {
    char path[100]; snprintf(path, sizeof path, "/tmp/capabilities-%d", getpid()); close(open(path, O_CREAT | O_WRONLY, 0600));
    tell(argc > 1 ? argv[1] : "at first"); SAY("chown %s", strerror(owner(path)));
    if (argc > 1) { unlink(path); return 0; }
    MUST(syscall(SYS_capget, &header, data) == 0); data[0].effective &= ~(1u << CAP_CHOWN); SAY("not in effect %d", ERR(syscall(SYS_capset, &header, data))); tell("then"); SAY("chown %s", strerror(owner(path)));
    data[0].effective |= 1u << CAP_CHOWN; SAY("in effect %d", ERR(syscall(SYS_capset, &header, data))); SAY("chown %s", strerror(owner(path)));
    data[0].effective &= ~(1u << CAP_CHOWN); data[0].permitted &= ~(1u << CAP_CHOWN); SAY("given up %d", ERR(syscall(SYS_capset, &header, data))); tell("then"); SAY("chown %s", strerror(owner(path)));
    data[0].effective |= 1u << CAP_CHOWN; SAY("without permission %d", ERR(syscall(SYS_capset, &header, data))); data[0].permitted |= 1u << CAP_CHOWN; SAY("back %d", ERR(syscall(SYS_capset, &header, data))); tell("then");
    pid_t child = fork(); if (!child) { tell("in a child"); SAY("chown %s", strerror(owner(path))); MUST(setuid(33) == 0); tell("as another user"); _exit(0); } int status; waitpid(child, &status, 0); SAY("child %d", status);
    child = fork(); if (!child) { execl("/proc/self/exe", argv[0], "in another program", (char *)0); _exit(9); } waitpid(child, &status, 0); SAY("child %d", status); unlink(path); return 0;
}
