// dlopen and dlsym in threads: the loader's locks.
#include "check.h"
#include <dlfcn.h>
static void *open_it(void *p) { for (int i = 0; i < 20; i++) { void *h = dlopen("libm.so.6", RTLD_NOW); MUST(h); double (*f)(double) = (double (*)(double))dlsym(h, "cos"); MUST(f(0) == 1); dlclose(h); sched_yield(); } return p; }
int main(void) { pthread_t t[4]; for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, open_it, 0); for (int i = 0; i < 4; i++) pthread_join(t[i], 0); SAY("missing %d", dlopen("/nonexistent.so", RTLD_NOW) == 0); SAY("error %d", dlerror() != 0); SAY("done"); return 0; }
