// POSIX message queues: order, waiting, rights, signals, and what processes share.
#include "check.h"
#include <mqueue.h>
#include <poll.h>
#include <sys/epoll.h>

static mqd_t queue;

static void say(const char *what, mqd_t from) {
    char bytes[64];
    unsigned priority = 7;
    ssize_t got = mq_receive(from, bytes, sizeof bytes, &priority);
    if (got < 0) SAY("%s: %s", what, strerror(errno));
    else SAY("%s: %d, priority %u, %.*s", what, (int)got, priority, (int)got, bytes);
}

static long count(mqd_t of) {
    struct mq_attr attr;
    MUST(mq_getattr(of, &attr) == 0);
    return attr.mq_curmsgs;
}

static void names(void) {
    struct mq_attr size = {.mq_maxmsg = 3, .mq_msgsize = 16}, none = {.mq_maxmsg = 0, .mq_msgsize = 16};
    char text[300] = "/";
    memset(text + 1, 'n', 280);
    SAY("no queue: %d", ERR(mq_open("/bq.none", O_RDWR)));
    SAY("no size: %d, too long: %d, inside: %d", ERR(mq_open("/bq.none", O_RDWR | O_CREAT, 0600, &none)), ERR(mq_open(text, O_RDWR | O_CREAT, 0600, &size)), ERR(mq_open("/bq/inside", O_RDWR | O_CREAT, 0600, &size)));
    mqd_t made = mq_open("/bq.a", O_RDWR | O_CREAT | O_EXCL, 0640, &size);
    struct mq_attr attr;
    MUST(made >= 0 && mq_getattr(made, &attr) == 0);
    SAY("made: %ld %ld %ld %ld, closed by exec: %d", attr.mq_flags, attr.mq_maxmsg, attr.mq_msgsize, attr.mq_curmsgs, fcntl(made, F_GETFD));
    SAY("again: %d", ERR(mq_open("/bq.a", O_RDWR | O_CREAT | O_EXCL, 0600, &size)));
    mqd_t reader = mq_open("/bq.a", O_RDONLY | O_NONBLOCK), writer = mq_open("/bq.a", O_WRONLY);
    char bytes[16];
    SAY("may not: %d %d", ERR(mq_send(reader, "x", 1, 0)), ERR((int)mq_receive(writer, bytes, 16, 0)));
    SAY("short: %d, long: %d, priority: %d", ERR((int)mq_receive(reader, bytes, 15, 0)), ERR(mq_send(writer, bytes, 17, 0)), ERR(mq_send(writer, bytes, 1, 32768)));
    SAY("empty: %d", ERR((int)mq_receive(reader, bytes, 16, 0)));
    MUST(mq_send(writer, "", 0, 32767) == 0);
    SAY("no bytes: %d", (int)mq_receive(reader, bytes, 16, 0));
    SAY("no descriptor: %d %d, another: %d", ERR(mq_send(99, "x", 1, 0)), ERR(mq_getattr(99, &attr)), ERR(mq_getattr(1, &attr)));
    MUST(mq_unlink("/bq.a") == 0);
    SAY("gone: %d %d", ERR(mq_unlink("/bq.a")), ERR(mq_open("/bq.a", O_RDONLY)));
    MUST(mq_send(writer, "still", 5, 2) == 0);
    say("still there", reader);
    MUST(mq_close(reader) == 0 && mq_close(writer) == 0 && mq_close(made) == 0);
    SAY("closed: %d", ERR(mq_close(made)));
}

// What read gives, from where the last one ended.
static void status(const char *what, mqd_t of) {
    char text[100];
    ssize_t some = read(of, text, 6), rest = some == 6 ? read(of, text + 6, 90) : 0;
    if (some < 0) { SAY("%s: %s", what, strerrorname_np(errno)); return; }
    text[some + rest] = 0;
    char *pid = strstr(text, "NOTIFY_PID:");
    int told = pid ? atoi(pid + 11) : -1, own = told == getpid();
    if (pid) *pid = 0;
    SAY("%s: %s, told %d %d", what, text, told != 0, own);
    SAY("then %d", (int)read(of, text, 90));
}

static void statuses(void) {
    struct mq_attr size = {.mq_maxmsg = 3, .mq_msgsize = 16};
    mqd_t first = mq_open("/bq.s", O_RDWR | O_CREAT | O_EXCL, 0600, &size), second = mq_open("/bq.s", O_RDONLY), writer = mq_open("/bq.s", O_WRONLY);
    MUST(first >= 0 && second >= 0 && writer >= 0);
    status("empty", first);
    status("for writing", writer);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    signal(SIGUSR2, SIG_IGN);
    MUST(mq_notify(first, &event) == 0);
    status("to be told", second);
    MUST(mq_send(first, "12345", 5, 0) == 0 && mq_send(first, "1234567", 7, 1) == 0);
    mqd_t third = mq_open("/bq.s", O_RDONLY);
    status("two messages", third);
    SAY("write: %s", strerrorname_np(ERR((int)write(writer, "x", 1))));
    MUST(mq_close(first) == 0 && mq_close(second) == 0 && mq_close(third) == 0 && mq_close(writer) == 0 && mq_unlink("/bq.s") == 0);
}

static void order(void) {
    MUST(mq_send(queue, "a1", 2, 1) == 0 && mq_send(queue, "b5", 2, 5) == 0 && mq_send(queue, "c1", 2, 1) == 0);
    MUST(mq_send(queue, "d5", 2, 5) == 0);
    struct timespec now = soon(CLOCK_REALTIME, 20), past = {1, 0}, wrong = {now.tv_sec, 1000000000};
    SAY("full: %d %d %d", ERR(mq_timedsend(queue, "e", 1, 0, &now)), ERR(mq_timedsend(queue, "e", 1, 0, &past)), ERR(mq_timedsend(queue, "e", 1, 0, &wrong)));
    for (int i = 0; i < 4; i++) say("next", queue);
    char bytes[64];
    now = soon(CLOCK_REALTIME, 20);
    SAY("empty: %d", ERR((int)mq_timedreceive(queue, bytes, 64, 0, &now)));
    struct mq_attr attr = {.mq_flags = O_NONBLOCK}, old, odd = {.mq_flags = O_APPEND};
    SAY("flags: %d %d", mq_setattr(queue, &attr, &old), ERR(mq_setattr(queue, &odd, 0)));
    MUST(mq_getattr(queue, &attr) == 0);
    SAY("were %ld, are %ld", old.mq_flags, attr.mq_flags);
    say("not waiting", queue);
    MUST(mq_setattr(queue, &old, 0) == 0);
}

static void *receiver(void *what) {
    say(what, queue);
    return 0;
}

static void waiting(void) {
    pthread_t thread;
    pthread_create(&thread, 0, receiver, "by another thread");
    struct timespec while_ = {0, 20000000};
    nanosleep(&while_, 0);
    MUST(mq_send(queue, "hello", 5, 3) == 0);
    pthread_join(thread, 0);
    for (int i = 0; i < 4; i++) MUST(mq_send(queue, "fill", 4, 0) == 0);
    pid_t child = fork();
    if (child == 0) {
        nanosleep(&while_, 0);
        char bytes[64];
        _exit(mq_receive(queue, bytes, 64, 0) != 4);
    }
    SAY("waits for room: %d", mq_send(queue, "more", 4, 9));
    int status;
    MUST(waitpid(child, &status, 0) == child);
    SAY("child %d, left %ld", status, count(queue));
    for (int i = 0; i < 4; i++) say("rest", queue);
}

static void ready(void) {
    int epoll = epoll_create1(0);
    struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLET, {.fd = queue}};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, queue, &event) == 0);
    struct pollfd poll_fd = {queue, POLLIN | POLLOUT, 0};
    SAY("empty: %d %x", poll(&poll_fd, 1, 0), poll_fd.revents);
    SAY("epoll: %d %x", epoll_wait(epoll, &event, 1, 0), event.events);
    for (int i = 0; i < 4; i++) MUST(mq_send(queue, "fill", 4, 0) == 0);
    SAY("full: %d %x", poll(&poll_fd, 1, -1), poll_fd.revents);
    SAY("epoll: %d %x", epoll_wait(epoll, &event, 1, 0), event.events);
    for (int i = 0; i < 4; i++) say("taken", queue);
    SAY("epoll: %d %x", epoll_wait(epoll, &event, 1, 0), event.events);
    close(epoll);
}

static volatile sig_atomic_t told, value, from_me, code;

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    told++;
    value = info->si_value.sival_int;
    code = info->si_code;
    from_me = info->si_pid == getpid();
}

static void notices(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 42}, odd = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = 99};
    SAY("notify: %d, again: %d, odd: %d", mq_notify(queue, &event), ERR(mq_notify(queue, &event)), ERR(mq_notify(queue, &odd)));
    MUST(mq_send(queue, "one", 3, 0) == 0 && mq_send(queue, "two", 3, 0) == 0);
    SAY("told %d, value %d, code %d, mine %d", (int)told, (int)value, (int)code, (int)from_me);
    SAY("not while it is not empty: %d", mq_notify(queue, &event));
    MUST(mq_send(queue, "three", 5, 0) == 0);
    SAY("told %d", (int)told);
    for (int i = 0; i < 3; i++) say("taken", queue);
    // Who waits for the message gets it, and nobody is told.
    pthread_t thread;
    pthread_create(&thread, 0, receiver, "the waiter");
    struct timespec while_ = {0, 20000000};
    nanosleep(&while_, 0);
    MUST(mq_send(queue, "four", 4, 0) == 0);
    pthread_join(thread, 0);
    SAY("told %d", (int)told);
    pid_t child = fork();
    if (child == 0) _exit(ERR(mq_notify(queue, &event)));
    int status;
    MUST(waitpid(child, &status, 0) == child);
    SAY("a child: %d", WEXITSTATUS(status));
    SAY("no more: %d", mq_notify(queue, 0));
    MUST(mq_send(queue, "five", 4, 0) == 0);
    SAY("told %d", (int)told);
    say("taken", queue);
    // Closing any descriptor of the queue ends it, too.
    MUST(mq_notify(queue, &event) == 0);
    mqd_t other = mq_open("/bq.b", O_RDWR);
    MUST(mq_close(other) == 0);
    SAY("free: %d", mq_notify(queue, &event));
    // A handler interrupts a wait that does not start again.
    struct timespec soon_ = soon(CLOCK_REALTIME, 10000);
    child = fork();
    if (child == 0) {
        nanosleep(&while_, 0);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    char bytes[64];
    SAY("interrupted: %d", ERR((int)mq_timedreceive(queue, bytes, 64, 0, &soon_)));
    MUST(waitpid(child, 0, 0) == child);
}

int main(void) {
    names();
    statuses();
    struct mq_attr size = {.mq_maxmsg = 4, .mq_msgsize = 64};
    mq_unlink("/bq.b");
    queue = mq_open("/bq.b", O_RDWR | O_CREAT, 0600, &size);
    MUST(queue >= 0);
    order();
    waiting();
    ready();
    notices();
    MUST(mq_unlink("/bq.b") == 0);
    return 0;
}
