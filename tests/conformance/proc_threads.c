// How many threads a process has, as /proc tells it of itself and of its children.
#include "check.h"
#include <dirent.h>
#include <sys/stat.h>

static pthread_barrier_t gate;

static void *stay(void *unused) {
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    return unused;
}

// Field 20 of stat, the line Threads of status, and the number of tasks.
static int told(pid_t pid, int how) {
    char path[64], line[1024];
    if (how == 2) {
        snprintf(path, sizeof path, "/proc/%d/task", pid);
        DIR *all = opendir(path);
        int count = 0;
        MUST(all);
        for (struct dirent *one; (one = readdir(all));) count += one->d_name[0] != '.';
        closedir(all);
        return count;
    }
    snprintf(path, sizeof path, how == 0 ? "/proc/%d/stat" : "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    int count = -1;
    MUST(file);
    while (fgets(line, sizeof line, file)) {
        if (how == 1) sscanf(line, "Threads: %d", &count);
        else sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d", &count);
    }
    fclose(file);
    return count;
}

static char state(pid_t pid) {
    char path[64], line[256], seen = '?';
    snprintf(path, sizeof path, "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    MUST(file);
    while (fgets(line, sizeof line, file)) sscanf(line, "State: %c", &seen);
    fclose(file);
    return seen;
}

// Natively a thread is gone a little after it was joined.
static void say(const char *when, pid_t pid, int expected) {
    int seen[3];
    for (int how = 0; how < 3; how++)
        for (int i = 0; i < 1000 && (seen[how] = told(pid, how)) != expected; i++) usleep(1000);
    SAY("%s: %d %d %d", when, seen[0], seen[1], seen[2]);
}

// The names in a directory of /proc, as a number. Natively it is another one each time.
static uint64_t names(const char *path) {
    DIR *all = opendir(path);
    uint64_t hash = 1;
    MUST(all);
    for (struct dirent *one; (one = readdir(all));) hash = hashed(hash, one->d_name, strlen(one->d_name)) + one->d_ino;
    closedir(all);
    return hash;
}

static void *brief(void *unused) { return unused; }

// Threads and processes end at once where replicas look, those that nobody waits for, too.
static void ends(void) {
    char path[64];
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        int gone[2];
        char byte;
        MUST(pthread_create(&thread, 0, brief, 0) == 0);
        if (i % 2) pthread_join(thread, 0);
        else { pthread_detach(thread); usleep(100); }
        witness(names("/proc/self/task"));
        MUST(pipe(gone) == 0);
        pid_t child = fork();
        if (child == 0) { pid_t orphan = fork(); if (orphan) MUST(write(gone[1], &orphan, sizeof orphan) == sizeof orphan); _exit(0); }
        pid_t orphan;
        close(gone[1]);
        MUST(read(gone[0], &orphan, sizeof orphan) == sizeof orphan && read(gone[0], &byte, 1) == 0);
        struct stat found;
        snprintf(path, sizeof path, "/proc/%d", orphan);
        int there = stat(path, &found);
        strcat(path, "/stat");
        int file = open(path, O_RDONLY);
        witness(100 + there + 10 * (file >= 0));
        if (file >= 0) close(file);
        snprintf(path, sizeof path, "/proc/%d/task", child);
        witness(names("/proc") + names(path));
        MUST(waitpid(child, 0, 0) == child);
        MUST(stat(path, &found) < 0 && errno == ENOENT);
        witness(names("/proc"));
        close(gone[0]);
    }
}

int main(void) {
    pthread_t threads[5];
    ends();
    pthread_barrier_init(&gate, 0, 6);
    say("alone", getpid(), 1);
    for (int i = 0; i < 5; i++) pthread_create(&threads[i], 0, stay, 0);
    pthread_barrier_wait(&gate);
    say("six", getpid(), 6);
    SAY("running: %c", state(getpid()));
    int ends[2];
    MUST(pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(ends[1]);
        _exit(read(ends[0], &byte, 1) != 0);
    }
    close(ends[0]);
    say("a child", child, 1);
    char seen = 0;
    for (int i = 0; i < 1000 && (seen = state(child)) != 'S'; i++) usleep(1000);
    SAY("waiting: %c", seen);
    close(ends[1]);
    for (int i = 0; i < 1000 && (seen = state(child)) != 'Z'; i++) usleep(1000);
    SAY("ended: %c", seen);
    MUST(waitpid(child, 0, 0) == child);
    pthread_barrier_wait(&gate);
    for (int i = 0; i < 5; i++) pthread_join(threads[i], 0);
    say("alone again", getpid(), 1);
    return 0;
}
