// Every source of randomness gives bytes, and they differ from each other.
#include "check.h"
#include <sys/random.h>
int main(void) {
    unsigned char a[32], b[32], big[300]; SAY("getrandom %zd", getrandom(a, 32, 0)); SAY("getentropy %d", getentropy(b, 32)); SAY("differ %d", memcmp(a, b, 32) != 0); int f = open("/dev/urandom", O_RDONLY); SAY("urandom %zd", read(f, a, 32)); SAY("differ %d", memcmp(a, b, 32) != 0); close(f); FILE *s = fopen("/dev/urandom", "r"); SAY("fread %zu", fread(b, 1, 32, s)); SAY("differ %d", memcmp(a, b, 32) != 0); fclose(s);
    SAY("too much %s", strerror(ERR(getentropy(big, 257)))); SAY("arc4random %d", arc4random() != arc4random()); SAY("uniform %d", arc4random_uniform(10) < 10); arc4random_buf(a, 32); SAY("differ %d", memcmp(a, b, 32) != 0); srand(7); int x = rand(); srand(7); SAY("rand repeats %d", x == rand()); return 0;
}
