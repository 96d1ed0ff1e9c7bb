// exec of scripts: #! with and without an argument, nested, of a missing interpreter, without #!, with an environment that lacks
// everything, by posix_spawn with file actions and attributes, by popen and by a shell's pipeline.
#include "check.h"
#include <spawn.h>
#include <sys/stat.h>

static void script(const char *path, const char *text, int mode) {
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    MUST(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0 && chmod(path, mode) == 0);
}

// Runs a program with its output in a pipe; prints what it wrote and how it ended.
static void show(const char *what, char *const argv[], char *const envp[]) {
    int out[2], st; char text[512]; ssize_t n = 0, k;
    MUST(pipe2(out, O_CLOEXEC) == 0);
    pid_t child = fork();
    if (!child) {
        dup2(out[1], 1);
        execve(argv[0], argv, envp);
        _exit(100 + errno);
    }
    close(out[1]);
    while ((k = read(out[0], text + n, sizeof text - 1 - n)) > 0) n += k;
    close(out[0]);
    text[n] = 0;
    MUST(waitpid(child, &st, 0) == child);
    for (char *at = text; (at = strchr(at, '\n')); ) *at = '|';
    SAY("%s: %s code %d", what, text, WEXITSTATUS(st));
}

int main(void) {
    char *none[] = {NULL}, *some[] = {"COLOUR=blue", "LD_PRELOAD_NOT=1", NULL};
    script("plain.sh", "#!/bin/sh\necho \"plain $1 $COLOUR $#\"\nexit 3\n", 0755);
    script("option.sh", "#!/bin/sh -e\nfalse\necho unreached\n", 0755);
    script("nested.sh", "#!./plain.sh inner\n", 0755);
    script("python.py", "#!/usr/bin/env python3\nimport os,sys\nprint('python', sys.argv[1:], os.environ.get('COLOUR'), os.getppid() > 1)\nsys.exit(4)\n", 0755);
    script("missing.sh", "#!/no/such/interpreter\n", 0755);
    script("bare.sh", "echo bare $1\nexit 5\n", 0755);
    script("closed.sh", "#!/bin/sh\n", 0644);
    show("script", (char *[]){"./plain.sh", "a b", NULL}, some);
    show("no environment", (char *[]){"./plain.sh", "x", "y", NULL}, none);
    show("option", (char *[]){"./option.sh", NULL}, some);
    show("nested", (char *[]){"./nested.sh", "outer", NULL}, some);
    show("env python", (char *[]){"./python.py", "one", NULL}, (char *[]){"PATH=/usr/bin:/bin", "COLOUR=red", NULL});
    show("missing interpreter", (char *[]){"./missing.sh", NULL}, some);
    show("no #!", (char *[]){"./bare.sh", NULL}, some);
    show("not executable", (char *[]){"./closed.sh", NULL}, some);
    show("a shell starts it", (char *[]){"/bin/sh", "-c", "./bare.sh z; echo $?; ./plain.sh q | tr a-z A-Z", NULL}, some);

    // libc runs a file without #! by the shell in execvp, not in execv.
    int st; pid_t child; fflush(stdout);
    if (!(child = fork())) { execlp("./bare.sh", "bare.sh", "from execlp", (char *)0); _exit(99); }
    MUST(waitpid(child, &st, 0) == child); SAY("execlp code %d", WEXITSTATUS(st));

    posix_spawn_file_actions_t actions; posix_spawnattr_t attributes; sigset_t set, usr1;
    posix_spawn_file_actions_init(&actions); posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&actions, 1, "spawned.txt", O_CREAT | O_TRUNC | O_WRONLY, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    sigemptyset(&set); sigemptyset(&usr1); sigaddset(&usr1, SIGUSR1);
    posix_spawnattr_setsigmask(&attributes, &set); posix_spawnattr_setsigdefault(&attributes, &usr1);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    sigprocmask(SIG_BLOCK, &usr1, NULL); signal(SIGUSR1, SIG_IGN);
    SAY("spawn %d", posix_spawn(&child, "./plain.sh", &actions, &attributes, (char *[]){"./plain.sh", "spawned", NULL}, some));
    SAY("its group %d", getpgid(child) == child);
    MUST(waitpid(child, &st, 0) == child);
    char text[64] = {0}; int fd = open("spawned.txt", O_RDONLY); MUST(fd >= 0 && read(fd, text, 63) > 0); close(fd);
    text[strcspn(text, "\n")] = 0; SAY("spawned: %s code %d", text, WEXITSTATUS(st));
    SAY("spawn of nothing %d", posix_spawn(&child, "./none.sh", NULL, NULL, (char *[]){"none", NULL}, some));
    SAY("spawn of a broken script %d", posix_spawnp(&child, "./missing.sh", NULL, NULL, (char *[]){"none", NULL}, some));

    FILE *pipe = popen("cat > popened.txt; exit 2", "w"); MUST(pipe); fputs("through a pipe\n", pipe); st = pclose(pipe);
    fd = open("popened.txt", O_RDONLY); memset(text, 0, 64); MUST(fd >= 0 && read(fd, text, 63) > 0); close(fd);
    text[strcspn(text, "\n")] = 0; SAY("popen: %s code %d", text, WEXITSTATUS(st));
    return 0;
}
