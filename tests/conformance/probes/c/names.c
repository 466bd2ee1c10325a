/* Cases 50-58: names, by the C library's own resolver. */
#include "probe.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int by_text(const void *one, const void *two) { return strcmp(one, two); }

/* All addresses of a name, sorted, or the resolver's error. */
static const char *looked_up(const char *name, int family, int flags) {
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags}, *list = NULL;
    int error = getaddrinfo(name, "80", &hints, &list);
    if (error)
        return error == EAI_NONAME ? "[EAI_NONAME]" : error == EAI_AGAIN ? "[EAI_AGAIN]" : path("[EAI %d]", error);
    static char texts[40][INET6_ADDRSTRLEN];
    int count = 0;
    char *all = path(" ");
    for (struct addrinfo *one = list; one && count < 40; one = one->ai_next, count++)
        getnameinfo(one->ai_addr, one->ai_addrlen, texts[count], sizeof texts[0], NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(list);
    qsort(texts, count, sizeof texts[0], by_text);
    all[0] = 0;
    for (int i = 0; i < count; i++)
        strcat(strcat(all, i ? " " : ""), texts[i]);
    return all;
}

static void resolved(void) {
    saw("any family", "%s", looked_up(arg("known"), AF_UNSPEC, 0));
    saw("IPv4", "%s", looked_up(arg("known"), AF_INET, 0));
    saw("with a dot", "%s", looked_up(arg("whole"), AF_INET, 0));
    saw("numeric", "%s", looked_up("192.0.2.7", AF_UNSPEC, AI_NUMERICHOST));
    struct hostent *host = gethostbyname(arg("known"));
    char text[INET_ADDRSTRLEN] = "none";
    int count = 0;
    while (host && host->h_addr_list[count])
        count++;
    if (host)
        inet_ntop(AF_INET, host->h_addr_list[0], text, sizeof text);
    saw("gethostbyname", "%s of %d", count > 1 ? "one" : text, count);
}

static void searched(void) {
    saw("short", "%s", looked_up(arg("short"), AF_INET, 0));
    saw("with one dot", "%s", looked_up(arg("one-dot"), AF_INET, 0));
}

static void without_address(void) {
    saw("unknown", "%s", looked_up(arg("unknown"), AF_UNSPEC, 0));
    saw("only IPv6", "%s", looked_up(arg("known6"), AF_UNSPEC, 0));
    saw("no IPv4", "%s", looked_up(arg("known6"), AF_INET, 0));
    saw("too many for one datagram", "%s", looked_up(arg("crowd"), AF_INET, 0));
}

static void from_hosts(void) {
    saw("in hosts", "%s", looked_up(arg("in-hosts"), AF_INET, 0));
    char own[256] = "";
    gethostname(own, sizeof own);
    saw("own", "%s %s", own, looked_up(own, AF_INET, 0));
}

static void reversed(void) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    char name[NI_MAXHOST] = "";
    inet_pton(AF_INET, arg("reverse"), &address.sin_addr);
    int error = getnameinfo((struct sockaddr *)&address, sizeof address, name, sizeof name, NULL, 0, NI_NAMEREQD);
    saw("name", "%s", error ? path("[EAI %d]", error) : name);
}

static void no_cache(void) {
    struct sockaddr_un where = {.sun_family = AF_UNIX, .sun_path = "/var/run/nscd/socket"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    outcome("nscd", connect(fd, (struct sockaddr *)&where, sizeof where));
    close(fd);
    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(where.sun_path, "/run/systemd/resolve/io.systemd.Resolve");
    outcome("resolved", connect(fd, (struct sockaddr *)&where, sizeof where));
    close(fd);
    saw("switch", "%s", strstr(content("/etc/nsswitch.conf"), "hosts: files dns") ? "files dns" : "other");
}

const struct test name_cases[] = {
    {50, resolved}, {53, resolved}, {54, searched}, {55, without_address}, {56, from_hosts}, {57, no_cache}, {58, reversed}, {0, NULL},
};
