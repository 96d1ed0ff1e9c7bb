// Waiting for the disk: every way to do it, and what each says of wrong arguments. An argument repeats the first part so often.
#include "check.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
static char path[] = "/var/tmp/brolga-syncs-XXXXXX";
int main(int count, char **words) {
    int times = count > 1 ? atoi(words[1]) : 2, wrong = 0;
    int fd = mkstemp(path); MUST(fd >= 0);
    int synced = open(path, O_WRONLY | O_SYNC), data = open(path, O_WRONLY | O_DSYNC);
    MUST(synced >= 0 && data >= 0 && ftruncate(fd, 8192) == 0);
    char *map = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(map != MAP_FAILED);
    for (int i = 0; i < times; i++) {
        wrong += pwrite(fd, &i, 4, 0) != 4 || fsync(fd) != 0;
        wrong += pwrite(fd, &i, 4, 8) != 4 || fdatasync(fd) != 0;
        wrong += pwrite(synced, &i, 4, 16) != 4;
        wrong += pwrite(data, &i, 4, 24) != 4;
        map[4096 + i % 4096] = i;
        wrong += msync(map, 8192, MS_SYNC) != 0;
        wrong += pwrite(fd, &i, 4, 32) != 4 || sync_file_range(fd, 0, 64, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0;
        wrong += pwrite(fd, &i, 4, 40) != 4 || syncfs(fd) != 0;
    }
    SAY("wrong %d", wrong);
    if (count == 1) sync();
    SAY("asynchronously %d", msync(map, 8192, MS_ASYNC));
    SAY("both %s", strerror(ERR(msync(map, 8192, MS_SYNC | MS_ASYNC))));
    SAY("not at a page %s", strerror(ERR(msync(map + 1, 4096, MS_SYNC))));
    munmap(map + 4096, 4096);
    SAY("not mapped %s", strerror(ERR(msync(map, 8192, MS_SYNC))));
    SAY("closed %s", strerror(ERR(fsync(999))));
    int ends[2]; MUST(pipe(ends) == 0);
    SAY("pipe %s %s", strerror(ERR(fsync(ends[0]))), strerror(ERR(fdatasync(ends[1]))));
    int last; MUST(pread(fd, &last, 4, 40) == 4);
    SAY("kept %d", last == times - 1);
    unlink(path);
}
