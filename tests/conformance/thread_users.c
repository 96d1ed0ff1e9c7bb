// A thread changes the user and groups of its process, and names threads; what a thread asks of itself.
#include "check.h"
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static pthread_barrier_t gate;
static pid_t tid_of_other;

static void *stay(void *unused) {
    char name[16];
    tid_of_other = gettid();
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    prctl(PR_GET_NAME, name);
    SAY("called %s by another thread", name);
    SAY("of the other thread: user %d", (int)syscall(SYS_getuid));
    return unused;
}

static void *change(void *unused) {
    char name[16];
    gid_t groups[] = {7, 8};
    SAY("begins as %s", (prctl(PR_GET_NAME, name), name));
    SAY("too long: %s", strerror(pthread_setname_np(pthread_self(), "a name of sixteen")));
    MUST(pthread_setname_np(pthread_self(), "changer") == 0 && pthread_getname_np(pthread_self(), name, sizeof name) == 0);
    SAY("called %s", name);
    SAY("no room: %s", strerror(pthread_getname_np(pthread_self(), name, 8)));
    // setgroups and so on are root's.
    if (getuid() == 0) MUST(setgroups(2, groups) == 0 && setgid(1234) == 0 && setuid(1234) == 0);
    pid_t child = fork();
    if (child == 0) { prctl(PR_GET_NAME, name); SAY("a child is called %s", name); _exit(0); }
    waitpid(child, 0, 0);
    return unused;
}

int main(void) {
    pthread_t other, changer;
    char name[16];
    struct sched_param parameter = {0};
    int was_root = getuid() == 0;
    prctl(PR_SET_NAME, "first");
    pthread_barrier_init(&gate, 0, 2);
    pthread_create(&other, 0, stay, 0);
    pthread_barrier_wait(&gate);
    SAY("ids differ %d", tid_of_other != getpid() && tid_of_other > 0);
    SAY("a thread's priority %d, policy %d, scheduler %d %d", getpriority(PRIO_PROCESS, tid_of_other), sched_getscheduler(tid_of_other),
        sched_getparam(tid_of_other, &parameter), parameter.sched_priority);
    SAY("signals it %d, nobody %s", tgkill(getpid(), tid_of_other, 0), strerror(ERR(tgkill(getpid(), 0x3ffffff, 0))));
    pthread_create(&changer, 0, change, 0);
    pthread_join(changer, 0);
    SAY("changed %d, groups %d", !was_root || (getuid() == 1234 && getgid() == 1234), !was_root || getgroups(0, 0) == 2);
    MUST(pthread_setname_np(other, "renamed") == 0);
    prctl(PR_GET_NAME, name);
    SAY("the first is still %s", name);
    pthread_barrier_wait(&gate);
    pthread_join(other, 0);
    return 0;
}
