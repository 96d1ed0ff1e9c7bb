// fork, exec, wait in its forms, exit codes, orphans, environment of exec'd programs, popen, system, posix_spawn.
#include "check.h"
#include <spawn.h>
static volatile sig_atomic_t chld; static void on_chld(int s) { (void)s; chld++; }
extern char **environ;
int main(int argc, char **argv) {
    if (argc > 1) { printf("exec'd %s %s\n", argv[1], getenv("CONFORMANCE") ? getenv("CONFORMANCE") : "-"); return 9; }
    int st, p[2]; MUST(pipe(p) == 0); pid_t c = fork();
    if (!c) { close(p[0]); MUST(write(p[1], "x", 1) == 1); _exit(7); }
    char b[64]; MUST(read(p[0], b, 1) == 1); SAY("waitpid %d code %d", waitpid(c, &st, 0) == c, WEXITSTATUS(st)); SAY("no child %s", strerror(ERR(waitpid(-1, &st, 0))));
    c = fork(); if (!c) { MUST(read(p[0], b, 1) == 1); _exit(1); } SAY("still running %d", waitpid(c, &st, WNOHANG)); MUST(write(p[1], "y", 1) == 1); siginfo_t i; SAY("waitid %d code %d status %d", waitid(P_PID, c, &i, WEXITED), i.si_code == CLD_EXITED, i.si_status);
    signal(SIGCHLD, on_chld); c = fork(); if (!c) _exit(0); while (!chld) usleep(1000); SAY("SIGCHLD %d reaped %d", chld > 0, wait(&st) == c); signal(SIGCHLD, SIG_DFL);
    fflush(stdout); c = fork(); if (!c) { char *a[] = {argv[0], "one", 0}, *e[] = {"CONFORMANCE=two", 0}; execve(argv[0], a, e); _exit(99); } waitpid(c, &st, 0); SAY("exec code %d", WEXITSTATUS(st));
    c = vfork(); if (!c) { execl("/bin/true", "true", (char *)0); _exit(99); } waitpid(c, &st, 0); SAY("vfork exec %d", st);
    c = fork(); if (!c) { execl("/nonexistent", "x", (char *)0); _exit(errno == ENOENT ? 5 : 6); } waitpid(c, &st, 0); SAY("exec failed %d", WEXITSTATUS(st));
    FILE *f = popen("echo popen works; exit 3", "r"); MUST(fgets(b, sizeof b, f)); b[strcspn(b, "\n")] = 0; st = pclose(f); SAY("%s %d", b, WEXITSTATUS(st));
    SAY("system %d", WEXITSTATUS(system("exit 4"))); char *sa[] = {"sh", "-c", "exit 6", 0}; SAY("spawn %d", posix_spawn(&c, "/bin/sh", 0, 0, sa, environ)); waitpid(c, &st, 0); SAY("spawned %d", WEXITSTATUS(st));
    MUST(pipe(p) == 0); c = fork(); if (!c) { dup2(p[1], 1); execl("/bin/echo", "echo", "through", "dup2", (char *)0); _exit(1); } close(p[1]); ssize_t n = 0, k; while ((k = read(p[0], b + n, sizeof b - n)) > 0) n += k; b[n ? n - 1 : 0] = 0; wait(&st); SAY("%s", b);
    SAY("child's parent %d", ({ c = fork(); if (!c) _exit(getppid() == getpgrp() || getppid() > 1); waitpid(c, &st, 0); WEXITSTATUS(st); })); return 0;
}
