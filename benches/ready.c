/* Says when its main() began, on CLOCK_MONOTONIC in nanoseconds, once it has seen the pod's world.
 *
 *   ready VARIABLE FILE ADDRESS PORT    VARIABLE is set, FILE can be opened, ADDRESS:PORT takes a connection
 *
 * Linked static, as programs are that nothing can be preloaded into.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

int main(int count, char **words) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (count != 5) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(words[4]))};
    if (inet_pton(AF_INET, words[3], &to.sin_addr) != 1) return 2;
    int wire = socket(AF_INET, SOCK_STREAM, 0);
    if (!getenv(words[1])) return fprintf(stderr, "%s is not set\n", words[1]), 1;
    if (open(words[2], O_RDONLY) < 0) return perror(words[2]), 1;
    if (connect(wire, (struct sockaddr *)&to, sizeof to)) return perror(words[3]), 1;
    printf("%lld\n", t.tv_sec * 1000000000LL + t.tv_nsec);
    return 0;
}
