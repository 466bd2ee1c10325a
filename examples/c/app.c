/* The sample service in C, small enough to be linked static (cc -static -O2 -o app app.c): the plainest subject
 * for the traps. What it answers is described in ../python/app.py; one connection at a time, and only what a
 * static binary can do without a resolver library: names are asked for over UDP, by the rules of resolv.conf. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { LINE = 8192 };

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value ? value : otherwise;
}

/* Reads the whole of a small file without its last newline; on failure writes the reason in its place. */
static void read_file(const char *path, char *out, size_t room) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, out, room - 1);
    if (length < 0) {
        snprintf(out, room, "error: %s", strerror(errno));
    } else {
        while (length > 0 && out[length - 1] == '\n') length--;
        out[length] = 0;
    }
    if (fd >= 0) close(fd);
}

/* The first nameserver of /etc/resolv.conf. */
static int nameserver(struct sockaddr_in *server) {
    char text[LINE], *line, *rest = text;
    read_file("/etc/resolv.conf", text, sizeof text);
    while ((line = strsep(&rest, "\n"))) {
        char address[64];
        if (sscanf(line, "nameserver %63s", address) == 1) {
            memset(server, 0, sizeof *server);
            server->sin_family = AF_INET;
            server->sin_port = htons(53);
            return inet_pton(AF_INET, address, &server->sin_addr) == 1;
        }
    }
    return 0;
}

/* Asks for one A record and writes its address, or the reason why there is none. */
static void resolve(const char *name, char *out, size_t room) {
    unsigned char packet[512] = {0x12, 0x34, 1, 0, 0, 1};
    struct sockaddr_in server;
    struct timeval patience = {.tv_sec = 5};
    size_t at = 12, name_length = strlen(name);
    if (name_length > 250 || !nameserver(&server)) {
        snprintf(out, room, "error: no nameserver");
        return;
    }
    for (const char *label = name; *label;) {
        size_t length = strcspn(label, ".");
        packet[at++] = (unsigned char)length;
        memcpy(packet + at, label, length);
        at += length;
        label += length + (label[length] == '.');
    }
    memcpy(packet + at, "\0\0\1\0\1", 5);
    at += 5;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t got = -1;
    if (connect(fd, (struct sockaddr *)&server, sizeof server) == 0 && send(fd, packet, at, 0) == (ssize_t)at)
        got = recv(fd, packet, sizeof packet, 0);
    if (got < 0) {
        snprintf(out, room, "error: %s", strerror(errno));
    } else {
        snprintf(out, room, "error: name not known");
        /* Every answer here is a compressed name, ten fixed bytes, and the data. */
        int answers = packet[6] << 8 | packet[7];
        for (size_t p = at; answers-- > 0 && p + 12 <= (size_t)got && packet[p] >= 0xc0;) {
            size_t length = (size_t)(packet[p + 10] << 8 | packet[p + 11]);
            if (packet[p + 3] == 1 && length == 4 && p + 16 <= (size_t)got) {
                inet_ntop(AF_INET, packet + p + 12, out, (socklen_t)room);
                break;
            }
            p += 12 + length;
        }
    }
    close(fd);
}

static void quote(const char *text, char *out, size_t room) {
    size_t at = 0;
    for (; *text && at + 8 < room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[at++] = '\\';
            out[at++] = (char)c;
        } else if (c < ' ') {
            at += (size_t)sprintf(out + at, "\\u%04x", c);
        } else {
            out[at++] = (char)c;
        }
    }
    out[at] = 0;
}

/* The value of one query parameter, percent-decoded. */
static void query(const char *target, const char *name, char *out, size_t room) {
    const char *at = strchr(target, '?');
    size_t length = strlen(name), used = 0;
    out[0] = 0;
    while (at && (strncmp(at + 1, name, length) || at[1 + length] != '=')) at = strchr(at + 1, '&');
    if (!at) return;
    for (at += length + 2; *at && *at != '&' && used + 1 < room; at++) {
        unsigned value;
        if (*at == '%' && sscanf(at + 1, "%2x", &value) == 1) {
            out[used++] = (char)value;
            at += 2;
        } else {
            out[used++] = *at == '+' ? ' ' : *at;
        }
    }
    out[used] = 0;
}

/* Fetches http://ADDRESS[:PORT]/PATH (an address, no name) and gives what follows the answer's header. */
static void call(const char *url, char *out, size_t room) {
    char address[64] = "", path[512] = "/", request[1024];
    int port = 80;
    struct sockaddr_in peer = {.sin_family = AF_INET};
    if (sscanf(url, "http://%63[0-9.]:%d%511s", address, &port, path) < 1) {
        snprintf(out, room, "error: not an address");
        return;
    }
    if (!strchr(url + 7, ':')) sscanf(url + 7 + strlen(address), "%511s", path);
    peer.sin_port = htons((unsigned short)port);
    inet_pton(AF_INET, address, &peer.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), length;
    if (connect(fd, (struct sockaddr *)&peer, sizeof peer) < 0) {
        snprintf(out, room, "error: %s", strerror(errno));
    } else {
        length = snprintf(request, sizeof request, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", path, address);
        size_t used = 0;
        ssize_t got = write(fd, request, (size_t)length);
        while (got > 0 && used + 1 < room && (got = read(fd, out + used, room - 1 - used)) > 0) used += (size_t)got;
        out[used] = 0;
        char *body = strstr(out, "\r\n\r\n");
        if (body) memmove(out, body + 4, strlen(body + 4) + 1);
    }
    close(fd);
}

static void answer(int connection, const char *target, const char *client) {
    char text[LINE], quoted[LINE], file[LINE], file_quoted[LINE], name[LINE], host[256] = "", body[5 * LINE], head[256];
    int length;
    if (!strncmp(target, "/say", 4)) {
        char greeting[LINE];
        query(target, "text", text, sizeof text);
        quote(text, quoted, sizeof quoted);
        quote(variable("SAMPLE_GREETING", ""), greeting, sizeof greeting);
        read_file(variable("SAMPLE_FILE", "/etc/sample/banner.txt"), file, sizeof file);
        quote(file, file_quoted, sizeof file_quoted);
        resolve(variable("SAMPLE_NAME", "localhost"), name, sizeof name);
        gethostname(host, sizeof host - 1);
        length = snprintf(body, sizeof body,
                          "{\"text\": \"%s\", \"greeting\": \"%s\", \"file\": \"%s\", \"address\": \"%s\", \"hostname\": \"%s\", "
                          "\"client\": \"%s\", \"pid\": %d, \"program\": \"c\"}",
                          quoted, greeting, file_quoted, name, host, client, getpid());
    } else if (!strncmp(target, "/call", 5)) {
        query(target, "url", text, sizeof text);
        call(text, file, sizeof file);
        quote(file, file_quoted, sizeof file_quoted);
        length = snprintf(body, sizeof body, "{\"body\": \"%s\"}", file_quoted);
    } else {
        length = snprintf(body, sizeof body, "{\"ok\": true}");
    }
    int head_length = snprintf(head, sizeof head,
                               "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n",
                               length);
    if (write(connection, head, (size_t)head_length) < 0 || write(connection, body, (size_t)length) < 0) perror("write");
}

int main(void) {
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(variable("PORT", "80")))};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 16) < 0) {
        perror("cannot listen");
        return 1;
    }
    printf("sample service on port %d\n", ntohs(here.sin_port));
    fflush(stdout);
    for (;;) {
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        char request[LINE], target[LINE] = "/", client[64];
        int connection = accept(listener, (struct sockaddr *)&peer, &size);
        if (connection < 0) continue;
        inet_ntop(AF_INET, &peer.sin_addr, client, sizeof client);
        ssize_t used = 0, got;
        while (used < LINE - 1 && (got = read(connection, request + used, (size_t)(LINE - 1 - used))) > 0) {
            used += got;
            request[used] = 0;
            if (strstr(request, "\r\n\r\n")) break;
        }
        if (used > 0 && sscanf(request, "GET %8191s", target) == 1) answer(connection, target, client);
        close(connection);
    }
}
