// stdio on sockets and pipes: calls that libc makes inside itself.
#include "check.h"
#include <sys/socket.h>
static int s[2];
static void *peer(void *p) { FILE *f = fdopen(s[1], "r+"); char *line = 0; size_t cap = 0; int n = 0; while (getline(&line, &cap, f) > 0) { n++; fprintf(f, "%d:%s", n, line); fflush(f); } free(line); fclose(f); return p; }
int main(void) {
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0); pthread_t t; pthread_create(&t, 0, peer, 0); FILE *f = fdopen(s[0], "r+"); char b[100];
    for (int i = 0; i < 5; i++) { fprintf(f, "line %d\n", i); fflush(f); MUST(fgets(b, sizeof b, f)); b[strcspn(b, "\n")] = 0; SAY("%s", b); }
    shutdown(s[0], SHUT_WR); SAY("end %d", fgets(b, sizeof b, f) == 0); fclose(f); pthread_join(t, 0);
    int p[2]; MUST(pipe(p) == 0); FILE *w = fdopen(p[1], "w"), *r = fdopen(p[0], "r"); int x = 0; char word[10]; fprintf(w, "12 apples\n"); fclose(w); SAY("scanf %d %d %s", fscanf(r, "%d %9s", &x, word), x, word); SAY("eof %d", (fgetc(r), feof(r) != 0)); fclose(r);
    f = tmpfile(); fputs("temporary", f); rewind(f); MUST(fgets(b, sizeof b, f)); SAY("%s", b); fclose(f); return 0;
}
