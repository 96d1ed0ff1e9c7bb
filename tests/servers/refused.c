// Uses what Brolga refuses, says what it got, and stays.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

static void say(const char *what, long result) {
    printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "works");
    fflush(stdout);
}

static void *monitor(void *unused) {
    char event[128] = {0};
    pthread_setname_np(pthread_self(), "monitor");
    say("perf_event_open", syscall(SYS_perf_event_open, event, 0, -1, -1, 0));
    return unused;
}

int main(void) {
    char parameters[120] = {0};
    pthread_t thread;
    for (int i = 0; i < 3; i++) say("io_uring_setup", syscall(SYS_io_uring_setup, 8, parameters));
    unsigned long context = 0;
    say("io_setup", syscall(SYS_io_setup, 8, &context));
    say("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
    pthread_create(&thread, NULL, monitor, NULL);
    pthread_join(thread, NULL);
    say("userfaultfd", syscall(SYS_userfaultfd, 0));
    say("bpf", syscall(SYS_bpf, 0, parameters, sizeof parameters));
    say("raw socket", socket(AF_INET, SOCK_RAW, 1));
    say("packet socket", socket(AF_PACKET, SOCK_RAW, 0));
    say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    say("ipx", socket(AF_IPX, SOCK_DGRAM, 0));
    say("unshare", unshare(CLONE_NEWNS));
    for (int i = 0; i < 3; i++) say("namespace", syscall(SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0));
    say("child with a descriptor", syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, parameters, 0, 0));
    for (int i = 0; i < 3; i++) {
        // Other processes that try the same need not be named, too.
        pid_t child = fork();
        if (child == 0) {
            syscall(SYS_keyctl, 0, 0, 0);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    }
    say("cachestat", syscall(SYS_cachestat, 0, parameters, parameters + 64, 0));
    int route = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    struct { struct nlmsghdr head; struct rtgenmsg body; } ask = {
        {.nlmsg_len = sizeof ask, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}, {AF_UNSPEC}};
    say("netlink question", send(route, &ask, sizeof ask, 0));
    struct { struct nlmsghdr head; struct ifinfomsg body; } change = {
        {.nlmsg_len = sizeof change, .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST}, {.ifi_index = 1}};
    say("netlink change", send(route, &change, sizeof change, 0));
    say("end", 0);
    for (;;) pause();
}
