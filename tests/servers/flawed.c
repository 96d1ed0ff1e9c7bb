// A small TCP server that is not deterministic on purpose, for the tests of `brolga verify` and `brolga explain`.
//
// usage: flawed PORT KIND [FILE]. Answers each line with one line; the KIND of its fault: none, file (what FILE holds, which
// somebody outside changes), rdrand (asks the processor).

#include <arpa/inet.h>
#include <fcntl.h>
#include <immintrin.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// What differs from one replica to the next goes through here.
__attribute__((noinline)) static long host_state(const char *path)
{
    char text[256] = "";
    int file = open(path, O_RDONLY);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0)
        exit(2);
    close(file);
    long sum = 0;
    for (char *at = text; *at; at++)
        sum = sum * 31 + *at;
    return sum;
}

__attribute__((noinline, target("rdrnd"))) static long processor_random(void)
{
    unsigned long long value = 0;
    while (!_rdrand64_step(&value))
        ;
    return (long)(value >> 1);
}

__attribute__((noinline)) static void answer(int client, const char *kind, const char *path, int number)
{
    long value = number;
    if (strcmp(kind, "file") == 0)
        value = host_state(path);
    else if (strcmp(kind, "rdrand") == 0)
        value = processor_random();
    char line[64];
    int length = snprintf(line, sizeof line, "%ld\n", value);
    if (write(client, line, (size_t)length) != length)
        exit(4);
}

// Waits for good, for the test of what a debugger shows.
static void *bystander(void *end)
{
    char byte;
    while (read(*(int *)end, &byte, 1) == 1)
        ;
    return NULL;
}

int main(int count, char **arguments)
{
    int ends[2];
    pthread_t thread;
    if (count < 3 || pipe(ends) != 0 || pthread_create(&thread, NULL, bystander, ends) != 0)
        return 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0)
        return 1;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        char byte;
        for (int number = 0; client >= 0 && read(client, &byte, 1) == 1;)
            if (byte == '\n')
                answer(client, arguments[2], arguments[3], number++);
        close(client);
    }
}
