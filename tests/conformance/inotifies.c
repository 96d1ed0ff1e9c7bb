// inotify: what programs hear of files, whoever changes them and by whatever call.
#include "check.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct { uint32_t bit; const char *name; } NAMES[] = {
    {IN_ACCESS, "access"}, {IN_MODIFY, "modify"}, {IN_ATTRIB, "attrib"}, {IN_CLOSE_WRITE, "close_write"},
    {IN_CLOSE_NOWRITE, "close_nowrite"}, {IN_OPEN, "open"}, {IN_MOVED_FROM, "moved_from"},
    {IN_MOVED_TO, "moved_to"}, {IN_CREATE, "create"}, {IN_DELETE, "delete"}, {IN_DELETE_SELF, "delete_self"},
    {IN_MOVE_SELF, "move_self"}, {IN_IGNORED, "ignored"}, {IN_Q_OVERFLOW, "overflow"}, {IN_ISDIR, "dir"},
};

static void tell(const char *when, int fd) {
    static char buffer[65536];
    char line[8192];
    size_t at = 0;
    line[0] = 0;
    uint32_t cookie = 0;
    ssize_t got = read(fd, buffer, sizeof buffer);
    for (char *p = buffer; got > 0 && p < buffer + got;) {
        struct inotify_event *event = (void *)p;
        at += snprintf(line + at, sizeof line - at, " %d:", event->wd);
        for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
            if (event->mask & NAMES[i].bit) at += snprintf(line + at, sizeof line - at, "%s,", NAMES[i].name);
        if (event->len) at += snprintf(line + at, sizeof line - at, "%s(%u)", event->name, event->len);
        if (event->cookie) at += snprintf(line + at, sizeof line - at, "%s", event->cookie == cookie ? "=" : "+");
        cookie = event->cookie;
        p += sizeof *event + event->len;
    }
    SAY("%s:%s%s", when, line, got < 0 ? strerror(errno) : "");
}

static void put(const char *path, const char *text) {
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
    MUST(fd >= 0 && write(fd, text, strlen(text)) >= 0 && close(fd) == 0);
}

static void *waiter(void *fd) {
    tell("waited for", *(int *)fd);
    return 0;
}

static void calls(int fd) {
    put("ino.d/a", "text");
    tell("made", fd);
    put("ino.d/a", "");
    tell("emptied", fd);
    int a = open("ino.d/a", O_RDWR);
    struct iovec pieces[2] = {{"x", 1}, {"yz", 2}};
    MUST(writev(a, pieces, 2) == 3 && pwrite(a, "q", 1, 0) == 1);
    char bytes[4];
    MUST(pread(a, bytes, 3, 0) == 3);
    tell("written and read", fd);
    MUST(ftruncate(a, 1) == 0 && fchmod(a, 0600) == 0);
    struct timespec times[2] = {{5, 0}, {6, 0}};
    MUST(futimens(a, times) == 0 && truncate("ino.d/a", 0) == 0);
    tell("changed", fd);
    // An open file is closed when the last descriptor of it is, whoever has it.
    int b = dup(a);
    MUST(close(a) == 0);
    tell("one closed", fd);
    pid_t child = fork();
    if (child == 0) _exit(close(b));
    MUST(waitpid(child, 0, 0) == child);
    tell("one closed in a child", fd);
    MUST(close(b) == 0);
    tell("all closed", fd);
    MUST(link("ino.d/a", "ino.d/b") == 0 && symlink("a", "ino.d/c") == 0 && mkdir("ino.d/d", 0755) == 0);
    tell("linked", fd);
    MUST(rename("ino.d/a", "ino.d/e") == 0 && rename("ino.d/e", "ino.e/f") == 0);
    MUST(rename("ino.e/f", "ino.d/g") == 0);
    tell("renamed", fd);
    MUST(unlink("ino.d/b") == 0 && unlink("ino.d/c") == 0 && rmdir("ino.d/d") == 0);
    tell("removed", fd);
    FILE *file = fopen("ino.d/g", "a");
    fputs("through stdio", file);
    fclose(file);
    tell("stdio", fd);
    int in = open("ino.e/in", O_RDONLY), out = open("ino.d/g", O_WRONLY);
    MUST(sendfile(out, in, 0, 3) == 3 && close(out) == 0 && close(in) == 0);
    tell("sendfile", fd);
    int socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {AF_UNIX, "ino.d/s"};
    MUST(bind(socket_fd, (void *)&name, sizeof name) == 0 && close(socket_fd) == 0 && unlink("ino.d/s") == 0);
    tell("bound", fd);
}

// Files that other processes change, and that they leave open until they end.
static void processes(int fd) {
    pid_t child = fork();
    if (child == 0) {
        int file = open("ino.d/child", O_CREAT | O_WRONLY, 0644);
        _exit(write(file, "c", 1) != 1);
    }
    MUST(waitpid(child, 0, 0) == child);
    tell("by a child that ended", fd);
    child = fork();
    if (child == 0) {
        int file = open("ino.d/child", O_WRONLY | O_CLOEXEC);
        MUST(write(file, "d", 1) == 1);
        execl("/bin/sh", "sh", "-c", "echo text > ino.d/shell", (char *)0);
        _exit(1);
    }
    MUST(waitpid(child, 0, 0) == child);
    tell("by a program", fd);
    MUST(unlink("ino.d/child") == 0 && unlink("ino.d/shell") == 0);
    tell("cleared", fd);
}

static void single(void) {
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC), other = inotify_init1(IN_NONBLOCK);
    int file = inotify_add_watch(fd, "ino.d/g", IN_ALL_EVENTS);
    SAY("a file: %d, another instance: %d", file, inotify_add_watch(other, "ino.d/g", IN_MODIFY));
    put("ino.d/g", "more");
    tell("one", fd);
    tell("the other", other);
    SAY("less: %d", inotify_add_watch(fd, "ino.d/g", IN_OPEN));
    SAY("and more: %d", inotify_add_watch(fd, "ino.d/g", IN_MASK_ADD | IN_DELETE_SELF));
    SAY("not anew: %d", ERR(inotify_add_watch(fd, "ino.d/g", IN_MASK_CREATE | IN_OPEN)));
    int again = inotify_add_watch(fd, "ino.d", IN_ONESHOT | IN_CREATE);
    put("ino.d/h", "");
    put("ino.d/i", "");
    tell("once", fd);
    SAY("over: %d %d", again, ERR(inotify_rm_watch(fd, again)));
    int held = open("ino.d/g", O_RDONLY);
    MUST(unlink("ino.d/g") == 0);
    tell("removed while it is open", fd);
    MUST(close(held) == 0);
    tell("and closed", fd);
    tell("the other", other);
    SAY("gone: %d", ERR(inotify_rm_watch(fd, file)));
    int directory = inotify_add_watch(fd, "ino.d", IN_ALL_EVENTS);
    SAY("remove: %d", inotify_rm_watch(fd, directory));
    put("ino.d/h", "");
    tell("no more", fd);
    SAY("move: %d", inotify_add_watch(fd, "ino.d/h", IN_MOVE_SELF));
    MUST(rename("ino.d/h", "ino.d/i") == 0 && unlink("ino.d/i") == 0);
    tell("moved", fd);
    close(fd);
    close(other);
}

static void waiting(void) {
    int fd = inotify_init1(0), epoll = epoll_create1(0);
    MUST(inotify_add_watch(fd, "ino.d", IN_CREATE | IN_DELETE) == 1);
    struct epoll_event event = {EPOLLIN | EPOLLET, {.fd = fd}};
    MUST(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0);
    struct pollfd poll_fd = {fd, POLLIN | POLLOUT, 0};
    SAY("nothing: %d %d", poll(&poll_fd, 1, 0), epoll_wait(epoll, &event, 1, 0));
    put("ino.d/p", "");
    int bytes = -1;
    char small[16];
    MUST(ioctl(fd, FIONREAD, &bytes) == 0);
    SAY("something: %d %d, %d bytes", poll(&poll_fd, 1, -1), epoll_wait(epoll, &event, 1, -1), bytes);
    SAY("revents %d, too small %d, write %d", poll_fd.revents, ERR(read(fd, small, 16)), ERR(write(fd, "x", 1)));
    tell("read", fd);
    SAY("again: %d %d", poll(&poll_fd, 1, 0), epoll_wait(epoll, &event, 1, 0));
    pthread_t thread;
    pthread_create(&thread, 0, waiter, &fd);
    struct timespec while_ = {0, 20000000};
    nanosleep(&while_, 0);
    pid_t child = fork();
    if (child == 0) _exit(unlink("ino.d/p"));
    pthread_join(thread, 0);
    MUST(waitpid(child, 0, 0) == child);
    // Alike events that nobody has read are one.
    MUST(inotify_add_watch(fd, "ino.e/in", IN_MODIFY) == 2);
    int file = open("ino.e/in", O_WRONLY);
    for (int i = 0; i < 5; i++) MUST(write(file, "x", 1) == 1);
    MUST(ioctl(fd, FIONREAD, &bytes) == 0);
    SAY("five writes: %d bytes", bytes);
    close(file);
    close(fd);
    close(epoll);
}

static void wrong(void) {
    int fd = inotify_init1(IN_NONBLOCK);
    SAY("flags: %d", ERR(inotify_init1(0x40)));
    SAY("no mask: %d, both: %d", ERR(inotify_add_watch(fd, ".", 0)), ERR(inotify_add_watch(fd, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE)));
    SAY("no file: %d, no directory: %d", ERR(inotify_add_watch(fd, "ino.none", IN_OPEN)), ERR(inotify_add_watch(fd, "ino.e/in", IN_OPEN | IN_ONLYDIR)));
    SAY("not inotify: %d %d", ERR(inotify_add_watch(0, ".", IN_OPEN)), ERR(inotify_rm_watch(1, 1)));
    SAY("no descriptor: %d %d", ERR(inotify_add_watch(77, ".", IN_OPEN)), ERR(inotify_rm_watch(77, 1)));
    SAY("no watch: %d", ERR(inotify_rm_watch(fd, 1)));
    tell("empty", fd);
    close(fd);
}

int main(void) {
    MUST(mkdir("ino.d", 0755) == 0 && mkdir("ino.e", 0755) == 0);
    put("ino.e/in", "input");
    int fd = inotify_init1(IN_NONBLOCK);
    SAY("watch: %d", inotify_add_watch(fd, "ino.d", IN_ALL_EVENTS));
    calls(fd);
    processes(fd);
    close(fd);
    single();
    waiting();
    wrong();
    MUST(unlink("ino.e/in") == 0 && rmdir("ino.e") == 0 && rmdir("ino.d") == 0);
    return 0;
}
