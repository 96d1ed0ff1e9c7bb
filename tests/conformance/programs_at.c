// execveat and fexecve: by a directory, by a descriptor of the program, of a script and of a file in memory; and what fails.
#include "check.h"
#include <sys/mman.h>
#include <sys/syscall.h>

extern char **environ;
static char *own[] = {"again", "argument", 0};

static void start(const char *what, int directory, const char *path, int flags) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        long failed = syscall(SYS_execveat, directory, path, own, environ, flags);
        _exit(failed == -1 ? errno : 0);
    }
    int status;
    waitpid(child, &status, 0);
    SAY("%s: %d %d", what, WIFEXITED(status), WEXITSTATUS(status));
}

static void by_descriptor(const char *what, int fd) {
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        char *few[] = {"CONFORMANCE=few", 0};
        fexecve(fd, own, few);
        _exit(errno);
    }
    int status;
    waitpid(child, &status, 0);
    SAY("%s: %d %d", what, WIFEXITED(status), WEXITSTATUS(status));
}

static void write_script(void) {
    int fd = open("script", O_WRONLY | O_CREAT | O_TRUNC, 0755);
    const char text[] = "#!/bin/sh\nexit 9\n";
    MUST(write(fd, text, sizeof text - 1) == sizeof text - 1);
    close(fd);
}

static int copy_in_memory(int from) {
    int fd = memfd_create("program", 0);
    char bytes[4096];
    ssize_t got;
    while ((got = read(from, bytes, sizeof bytes)) > 0) MUST(write(fd, bytes, (size_t)got) == got);
    return fd;
}

int main(int count, char **arguments) {
    if (count == 2) {
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_mutex_lock(&mutex);
        witness((uint64_t)now_ns(CLOCK_MONOTONIC));
        SAY("%s %s %s", arguments[0], arguments[1], getenv("CONFORMANCE") ? getenv("CONFORMANCE") : "all");
        return 42;
    }
    char *name = strrchr(arguments[0], '/') + 1, folder[4096];
    snprintf(folder, sizeof folder, "%.*s", (int)(name - arguments[0]), arguments[0]);
    int directory = open(folder, O_RDONLY | O_DIRECTORY), program = open(arguments[0], O_RDONLY | O_CLOEXEC);
    int place = open(arguments[0], O_PATH | O_CLOEXEC);
    start("absolute path", -1, arguments[0], 0);
    start("in a directory", directory, name, 0);
    start("of a descriptor", program, "", AT_EMPTY_PATH);
    start("of a place", place, "", AT_EMPTY_PATH);
    start("without the flag", program, "", 0);
    start("in no directory", 999, name, 0);
    start("missing", directory, "missing", 0);
    start("a flag that is none", directory, name, 1 << 20);
    by_descriptor("fexecve", program);
    by_descriptor("fexecve of a place", place);
    by_descriptor("fexecve in memory", copy_in_memory(program));
    write_script();
    int here = open(".", O_RDONLY | O_DIRECTORY);
    start("script", here, "script", 0);
    by_descriptor("fexecve of a script", open("script", O_RDONLY));
    MUST(symlink("script", "link") == 0);
    start("by a link", here, "link", 0);
    start("no link", here, "link", AT_SYMLINK_NOFOLLOW);
    unlink("link");
    unlink("script");
    // It could not load libraries, or is no program at all.
    start("a directory", here, "", AT_EMPTY_PATH);
    return 0;
}
