// sendfile, mkstemp, pread/pwrite, copy loops, dup and close rules.
#include "check.h"
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
static int s[2]; static void *drain(void *p) { char b[5000]; long sum = 0, n = 0; ssize_t k; while ((k = read(s[1], b, sizeof b)) > 0) { for (ssize_t i = 0; i < k; i++) sum += b[i]; n += k; } SAY("received %ld sum %ld", n, sum); return p; }
int main(void) {
    char name[] = "/tmp/conformance-XXXXXX"; int f = mkstemp(name); MUST(f >= 0); SAY("name changed %d", strcmp(name, "/tmp/conformance-XXXXXX") != 0); unlink(name); char b[1000]; for (int i = 0; i < 1000; i++) b[i] = i % 100; for (int i = 0; i < 300; i++) MUST(write(f, b, 1000) == 1000);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0); pthread_t t; pthread_create(&t, 0, drain, 0); off_t o = 1000; long sent = 0; ssize_t k; while ((k = sendfile(s[0], f, &o, 300000)) > 0) sent += k; SAY("sent %ld offset %ld end %zd", sent, (long)o, k); lseek(f, 299000, SEEK_SET); SAY("from position %zd now %ld", sendfile(s[0], f, 0, 5000), (long)lseek(f, 0, SEEK_CUR)); shutdown(s[0], SHUT_WR); pthread_join(t, 0);
    SAY("pwrite %zd pread %zd %c", pwrite(f, "Z", 1, 10), pread(f, b, 1, 10), b[0]); struct iovec v = {b, 3}; SAY("preadv %zd", preadv(f, &v, 1, 5)); SAY("pread of a socket %s", strerror(ERR(pread(s[0], b, 1, 0)))); struct stat st; SAY("fstat %d socket %d", fstat(s[0], &st), S_ISSOCK(st.st_mode));
    int d = dup(s[0]); SAY("lowest %d", d == s[1] + 1 || d > 0); SAY("dup2 %d same %d", dup2(s[0], 100), dup2(100, 100)); SAY("dup3 same %s", strerror(ERR(dup3(100, 100, 0)))); SAY("dup of bad %s", strerror(ERR(dup(555)))); SAY("fcntl dup %d cloexec %d", fcntl(s[0], F_DUPFD_CLOEXEC, 200), fcntl(200, F_GETFD)); SAY("close %d again %s", close(100), strerror(ERR(close(100)))); SAY("range %d", close_range(200, 300, 0)); SAY("gone %s", strerror(ERR(fcntl(200, F_GETFD)))); return 0;
}
