// Files and directories that are deleted while they are open, or are large: init frees them beside the server.
#include "check.h"
#include <dirent.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { LARGE = 3 << 20, ROUNDS = 300 };
static char page[4096];

static int made(const char *name, long bytes) {
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    MUST(fd >= 0);
    for (long at = 0; at < bytes; at += (long)sizeof page) MUST(write(fd, page, sizeof page) == (ssize_t)sizeof page);
    return fd;
}

static void tell(const char *what, int fd) {
    struct stat s;
    MUST(fstat(fd, &s) == 0);
    char byte = 0;
    SAY("%s: links %ld size %ld, reads %zd", what, (long)s.st_nlink, S_ISDIR(s.st_mode) ? 0 : (long)s.st_size, S_ISDIR(s.st_mode) ? 0 : pread(fd, &byte, 1, 4095));
}

static int open_files(void) {
    int count = 0;
    for (int i = 0; i < 1000; i++) count += fcntl(i, F_GETFD) >= 0;
    return count;
}

int main(void) {
    int before = open_files();
    memset(page, 'x', sizeof page);
    // Enough for init to be ready in what follows.
    for (int i = 0; i < ROUNDS; i++) {
        int fd = made("small", 4096);
        MUST(unlink("small") == 0);
        witness((uint64_t)i);
        MUST(close(fd) == 0);
        MUST(mkdir("directory", 0700) == 0);
        DIR *d = opendir("directory");
        MUST(d && rmdir("directory") == 0);
        if (i == 0) tell("an open directory", dirfd(d));
        MUST(closedir(d) == 0);
    }
    int fd = made("large", LARGE);
    MUST(unlink("large") == 0);
    tell("deleted while it is open", fd);
    int second = dup(fd);
    MUST(close(fd) == 0);
    tell("its duplicate", second);
    void *mapped = mmap(0, LARGE, PROT_READ, MAP_SHARED, second, 0);
    MUST(mapped != MAP_FAILED);
    int number = second;
    MUST(close(second) == 0);
    SAY("mapped: %c", ((char *)mapped)[LARGE - 1]);
    MUST(munmap(mapped, LARGE) == 0);
    second = made("next", 0);
    SAY("the lowest number is free: %d", second == number - 1);
    close(second);
    SAY("unlink %s, again %s", strerror(ERR(unlink("next"))), strerror(ERR(unlink("next"))));
    close(made("by name", LARGE));
    MUST(link("by name", "other name") == 0);
    SAY("unlink %s", strerror(ERR(unlink("by name"))));
    fd = open("other name", O_RDONLY);
    tell("its other name", fd);
    SAY("unlink %s", strerror(ERR(unlink("other name"))));
    tell("without a name", fd);
    close(fd);
    SAY("open %s", strerror(ERR(open("other name", O_RDONLY))));
    close(made("closed", LARGE));
    SAY("unlink %s, open %s", strerror(ERR(unlink("closed"))), strerror(ERR(open("closed", O_RDONLY))));
    MUST(symlink("nowhere", "link") == 0);
    SAY("a link %s, a directory %s, nothing %s", strerror(ERR(unlink("link"))), strerror(ERR(unlink("."))), strerror(ERR(unlink("no/such"))));
    // Another process holds it.
    int go[2];
    MUST(pipe(go) == 0);
    fd = made("shared", LARGE);
    MUST(unlink("shared") == 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        MUST(read(go[0], &byte, 1) == 1);
        tell("of a parent that closed it", fd);
        close(fd);
        _exit(0);
    }
    close(fd);
    MUST(write(go[1], "x", 1) == 1);
    int status;
    MUST(waitpid(child, &status, 0) == child);
    SAY("status %d", status);
    SAY("open beside the pipe: %d", open_files() - before - 2);
    return 0;
}
