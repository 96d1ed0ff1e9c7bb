// Questions where a file has data and where holes: of one without holes the answer is the same on every file system.
#include "check.h"
#include <sys/ioctl.h>
#include <linux/fs.h>
int main(void) {
    char base[] = "/tmp/brolga-holes-XXXXXX"; MUST(mkdtemp(base)); MUST(chdir(base) == 0);
    int fd = open("dense", O_CREAT | O_RDWR, 0666); MUST(fd >= 0); char page[4096]; memset(page, 'x', sizeof page);
    MUST(write(fd, page, sizeof page) == 4096 && write(fd, page, sizeof page) == 4096 && fsync(fd) == 0);
    SAY("data %d %d", (int)lseek(fd, 0, SEEK_DATA), (int)lseek(fd, 5000, SEEK_DATA));
    SAY("position %d", (int)lseek(fd, 0, SEEK_CUR));
    SAY("hole %d %d position %d", (int)lseek(fd, 0, SEEK_HOLE), (int)lseek(fd, 8191, SEEK_HOLE), (int)lseek(fd, 0, SEEK_CUR));
    SAY("at the end %d %d", lseek(fd, 8192, SEEK_DATA) == -1 ? errno == ENXIO : -1, lseek(fd, 8192, SEEK_HOLE) == -1 ? errno == ENXIO : -1);
    SAY("before the start %d %d", lseek(fd, -1, SEEK_DATA) == -1 ? errno == ENXIO : -1, lseek(fd, -5, SEEK_HOLE) == -1 ? errno == ENXIO : -1);
    SAY("position stays %d", (int)lseek(fd, 0, SEEK_CUR));
    SAY("odd %d", lseek(fd, 0, 9) == -1 ? errno == EINVAL : -1);
    int p[2]; MUST(pipe(p) == 0); SAY("pipe %d", lseek(p[0], 0, SEEK_DATA) == -1 ? errno == ESPIPE : -1);
    SAY("nothing %d", lseek(99, 0, SEEK_HOLE) == -1 ? errno == EBADF : -1);
    // A file with a hole: whatever is told, all data are found.
    int sparse = open("sparse", O_CREAT | O_RDWR, 0666); MUST(pwrite(sparse, "end", 3, 1 << 20) == 3);
    long at = 0, found = 0; char byte;
    while ((at = lseek(sparse, at, SEEK_DATA)) >= 0) {
        long end = lseek(sparse, at, SEEK_HOLE); MUST(end > at);
        witness((uint64_t)at); witness((uint64_t)end);
        for (; at < end; at++) found += pread(sparse, &byte, 1, at) == 1 && byte != 0;
    }
    SAY("found %ld", found);
    int copy = open("copy", O_CREAT | O_RDWR, 0666); int cloned = ioctl(copy, FICLONE, fd);
    SAY("cloned or not %d", cloned == 0 || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOTTY || errno == EXDEV);
    return 0;
}
