/* Cases 33-47: sockets. `host` and `host6` are another host with servers on the ports `echo`, `reset` and `udp` and none
 * on `refused`; somebody dials the ports `serve` and `second` of `own` all the time and says from which port. */
#include "probe.h"
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MSG_FASTOPEN
#define MSG_FASTOPEN 0x20000000
#endif

struct address {
    socklen_t length;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    };
};

static struct address to(const char *host, const char *port) {
    struct address made = {0};
    if (strchr(host, ':')) {
        made.length = sizeof made.v6;
        made.v6.sin6_family = AF_INET6, made.v6.sin6_port = htons(atoi(port));
        inet_pton(AF_INET6, host, &made.v6.sin6_addr);
    } else {
        made.length = sizeof made.v4;
        made.v4.sin_family = AF_INET, made.v4.sin_port = htons(atoi(port));
        inet_pton(AF_INET, host, &made.v4.sin_addr);
    }
    return made;
}

static struct address to_port(const char *port) { return to(arg("host"), arg(port)); }

static struct address to_unix(const char *name, bool abstract) {
    struct address made = {.length = offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name) + !abstract};
    made.local.sun_family = AF_UNIX;
    strcpy(made.local.sun_path + abstract, name);
    return made;
}

static const char *told(const struct address *address) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address->any.sa_family == AF_INET)
        inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text);
    else if (address->any.sa_family == AF_INET6)
        inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text);
    else
        return path("family %d", address->any.sa_family);
    return path("%s", text);
}

static int port_of(const struct address *address) {
    return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
}

static struct address name_of(int fd, bool peer) {
    struct address got = {.length = sizeof got.local};
    if ((peer ? getpeername : getsockname)(fd, &got.any, &got.length))
        got.any.sa_family = AF_UNSPEC;
    return got;
}

/* Reads a line byte by byte; what was read so far at the end, the errno's name in brackets on failure. */
static const char *line_from(int fd) {
    char text[512];
    size_t length = 0;
    while (length < sizeof text - 1) {
        if (!wait_for(fd, POLLIN, 5))
            return path("%.*s[nothing comes]", (int)length, text);
        ssize_t got = recv(fd, text + length, 1, 0);
        if (got < 0)
            return path("%.*s[%s]", (int)length, text, errno_name(errno));
        if (got == 0 || text[length++] == '\n')
            break;
    }
    return path("%.*s", (int)length - (length && text[length - 1] == '\n'), text);
}

/* What the echo server says of us: its token and our address, without our port. */
static const char *greeting(int fd, int *port) {
    char token[64] = "", peer[64] = "";
    const char *line = line_from(fd);
    *port = 0;
    if (sscanf(line, "%63s %63s %d", token, peer, port) != 3)
        return line;
    return path("%s %s", token, peer);
}

static void talk(int fd, const char *what) {
    int port;
    const char *said = greeting(fd, &port);
    struct address own = name_of(fd, false);
    saw(path("%s: greeting", what), "%s", said);
    if (own.any.sa_family != AF_UNIX) {
        saw(path("%s: own port", what), "%d", port == port_of(&own));
        saw(path("%s: own address", what), "%s", told(&own));
    }
    send(fd, "over and back\n", 14, MSG_NOSIGNAL);
    saw(path("%s: echo", what), "%s", line_from(fd));
    shutdown(fd, SHUT_WR);
    saw(path("%s: end", what), "%s", line_from(fd));
    saw(path("%s: after it", what), "%s", line_from(fd));
}

static int dial(struct address where, int kind, const char *what) {
    int fd = socket(where.any.sa_family, kind, 0);
    int result = connect(fd, &where.any, where.length);
    outcome(what, result);
    if (result == 0)
        return fd;
    close(fd);
    return -1;
}

static void blocking_connect(void) {
    struct address where = to_port("echo");
    int fd = dial(where, SOCK_STREAM, "connect");
    talk(fd, "tcp");
    outcome("connect again", connect(fd, &where.any, where.length));
    close(fd);
}

static void registered_before(void) {
    struct address where = to_port("echo");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP}, got = {0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), queue = epoll_create1(EPOLL_CLOEXEC), error = -1, port;
    socklen_t length = sizeof error;
    outcome("registered", epoll_ctl(queue, EPOLL_CTL_ADD, fd, &event));
    outcome("connect", connect(fd, &where.any, where.length));
    bool out = false, in = false;
    for (double end = now() + 5; now() < end && !(out && in);)
        if (epoll_wait(queue, &got, 1, 200) == 1)
            out |= (got.events & EPOLLOUT) != 0, in |= (got.events & EPOLLIN) != 0;
    saw("writable, readable", "%d%d", out, in);
    saw("ended", "%d", (got.events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    saw("SO_ERROR", "%d", error);
    outcome("connect when it stands", connect(fd, &where.any, where.length));
    saw("greeting", "%s", greeting(fd, &port));
    saw("still non-blocking", "%d", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    send(fd, "x\n", 2, MSG_NOSIGNAL);
    saw("edge", "%d", epoll_wait(queue, &got, 1, 2000) == 1 && got.events & EPOLLIN);
    saw("echo", "%s", line_from(fd));
    close(fd), close(queue);
}

static void refused(void) {
    struct address nobody = to_port("refused"), nowhere = to(arg("unreachable"), "9");
    int fd = dial(nobody, SOCK_STREAM, "blocking"), error = -1;
    socklen_t length = sizeof error;
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int result = connect(fd, &nobody.any, nobody.length);
    if (result < 0 && errno == EINPROGRESS) {
        wait_for(fd, POLLOUT, 5);
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
        errno = error;
    }
    saw("without blocking", "%s", errno_name(errno));
    struct address peer = name_of(fd, true);
    saw("peer then", "%d", peer.any.sa_family);
    close(fd);
    dial(nowhere, SOCK_STREAM, "unreachable");
    fd = socket(AF_INET, SOCK_STREAM, 0);
    result = connect(fd, &nobody.any, nobody.length);
    struct address echo = to_port("echo");
    outcome("another try on the same socket", connect(fd, &echo.any, echo.length));
    close(fd);
}

static void socket_names(void) {
    struct address where = to_port("echo"), got = {0};
    int fd = dial(where, SOCK_STREAM, "connect"), port;
    greeting(fd, &port);
    got = name_of(fd, true);
    saw("peer", "%s %d %d", told(&got), port_of(&got) == port_of(&where), (int)got.length);
    got = name_of(fd, false);
    saw("own", "%s %d %d", told(&got), port_of(&got) == port, (int)got.length);
    for (int peer = 0; peer < 2; peer++) {
        unsigned char room[32];
        memset(room, 0xee, sizeof room);
        socklen_t length = 4;
        outcome(peer ? "short peer" : "short own", (peer ? getpeername : getsockname)(fd, (struct sockaddr *)room, &length));
        saw(peer ? "short peer's length" : "short own's length", "%d %02x", (int)length, room[4]);
        length = -1;
        outcome(peer ? "negative peer" : "negative own", (peer ? getpeername : getsockname)(fd, (struct sockaddr *)room, &length));
    }
    socklen_t length = sizeof got.local;
    outcome("own to nowhere", getsockname(fd, (struct sockaddr *)8, &length));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    outcome("peer of none", getpeername(fd, &got.any, &length));
    got = name_of(fd, false);
    saw("own of none", "%s %d", told(&got), port_of(&got));
    outcome("no socket", getsockname(0, &got.any, &length));
    close(fd);
}

static void version_six(void) {
    struct address six = to(arg("host6"), arg("echo")), mapped = to(path("::ffff:%s", arg("host")), arg("echo")), got;
    int fd = dial(six, SOCK_STREAM, "IPv6");
    talk(fd, "IPv6");
    got = name_of(fd, true);
    saw("peer", "%s %d", told(&got), (int)got.length);
    close(fd);
    fd = dial(mapped, SOCK_STREAM, "mapped");
    talk(fd, "mapped");
    got = name_of(fd, true);
    saw("mapped peer", "%s %d", told(&got), (int)got.length);
    close(fd);
    int one = 1;
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    outcome("mapped where only IPv6", connect(fd, &mapped.any, mapped.length));
    outcome("IPv6 there", connect(fd, &six.any, six.length));
    close(fd);
}

static void unix_sockets(void) {
    struct { int kind; const char *name; } kinds[] = {{SOCK_STREAM, "stream"}, {SOCK_DGRAM, "datagram"}, {SOCK_SEQPACKET, "packets"}};
    for (int abstract = 0; abstract < 2; abstract++)
        for (int i = 0; i < 3; i++) {
            char *name = path("%s/own-%s-%d", abstract ? "probe" : arg("local"), arg("name"), getpid()), text[64] = "";
            struct address where = to_unix(name, abstract);
            const char *what = path("%s %s", kinds[i].name, abstract ? "abstract" : "path");
            int server = socket(AF_UNIX, kinds[i].kind, 0), client = socket(AF_UNIX, kinds[i].kind, 0), end = server;
            if (bind(server, &where.any, where.length))
                saw(path("%s: bind", what), "%s", errno_name(errno));
            if (kinds[i].kind != SOCK_DGRAM)
                listen(server, 4);
            outcome(path("%s: connect", what), connect(client, &where.any, where.length));
            if (kinds[i].kind != SOCK_DGRAM)
                end = accept(server, NULL, NULL);
            send(client, what, strlen(what), 0);
            recv(end, text, sizeof text - 1, MSG_DONTWAIT);
            saw(what, "%s", text);
            struct address got = name_of(client, true);
            saw(path("%s: peer", what), "%d", got.length == where.length && !memcmp(&got.any, &where.any, where.length));
            close(server), close(client);
            if (end != server)
                close(end);
            if (!abstract)
                unlink(name);
        }
    int fd = dial(to_unix(arg("unix"), false), SOCK_STREAM, "far");
    talk(fd, "far");
    close(fd);
    dial(to_unix(path("%s-none", arg("unix")), false), SOCK_STREAM, "none");
}

static void datagrams(void) {
    struct address where = to_port("udp"), got = {0};
    char text[4096] = "";
    int fd = dial(where, SOCK_DGRAM, "connect");
    outcome("send", send(fd, "one", 3, 0));
    saw("answered", "%d", wait_for(fd, POLLIN, 3));
    saw("received", "%zd %s", recv(fd, text, sizeof text, MSG_DONTWAIT), text);
    got = name_of(fd, true);
    saw("peer", "%s %d", told(&got), port_of(&got) == port_of(&where));
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    outcome("sendto", sendto(fd, "two", 3, 0, &where.any, where.length));
    saw("answered to", "%d", wait_for(fd, POLLIN, 3));
    memset(text, 0, sizeof text);
    got.length = sizeof got.local;
    saw("from", "%zd %s", recvfrom(fd, text, sizeof text, 0, &got.any, &got.length), text);
    saw("source", "%s %d %d", told(&got), port_of(&got) == port_of(&where), (int)got.length);
    close(fd);
    /* Without a look whether something is there: the call itself waits. */
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct timeval patience = {3, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sendto(fd, "late", 4, 0, &where.any, where.length);
    memset(&got, 0, sizeof got);
    got.length = sizeof got.local;
    saw("waited", "%zd", recvfrom(fd, text, sizeof text, 0, &got.any, &got.length));
    saw("source when waited", "%s %d", told(&got), port_of(&got) == port_of(&where));
    close(fd);
}

static void messages(void) {
    struct address where = to_port("echo"), far = to_port("udp"), source = {0};
    int fd = dial(where, SOCK_STREAM, "connect"), port;
    greeting(fd, &port);
    struct iovec parts[] = {{"in two ", 7}, {"parts\n", 6}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    saw("sendmsg", "%zd", sendmsg(fd, &message, MSG_NOSIGNAL));
    char one[8] = "", two[32] = "", text[4096] = "";
    wait_for(fd, POLLIN, 3);
    usleep(20000);
    saw("peeked", "%zd", recv(fd, text, 6, MSG_PEEK));
    struct iovec room[] = {{one, 7}, {two, 31}};
    message = (struct msghdr){.msg_iov = room, .msg_iovlen = 2};
    saw("recvmsg", "%zd", recvmsg(fd, &message, 0));
    saw("parts", "%s|%s|%s", text, one, two);
    saw("nothing more", "%zd %s", recv(fd, text, 1, MSG_DONTWAIT), errno_name(errno));
    close(fd);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct iovec first = {"first", 5}, second = {"second", 6};
    struct mmsghdr many[2] = {{.msg_hdr = {.msg_name = &far.any, .msg_namelen = far.length, .msg_iov = &first, .msg_iovlen = 1}},
                              {.msg_hdr = {.msg_name = &far.any, .msg_namelen = far.length, .msg_iov = &second, .msg_iovlen = 1}}};
    saw("sendmmsg", "%d %u %u", sendmmsg(fd, many, 2, 0), many[0].msg_len, many[1].msg_len);
    for (int count = 0; count < 2;) {
        memset(text, 0, sizeof text), memset(&source, 0, sizeof source);
        struct iovec into = {text, sizeof text - 1};
        many[0] = (struct mmsghdr){.msg_hdr = {.msg_name = &source.any, .msg_namelen = sizeof source.local, .msg_iov = &into, .msg_iovlen = 1}};
        int got = wait_for(fd, POLLIN, 3) ? recvmmsg(fd, many, 1, 0, NULL) : -1;
        saw(path("recvmmsg %d", count), "%d %s", got, text);
        saw(path("source %d", count), "%s %d", told(&source), (int)many[0].msg_hdr.msg_namelen);
        count += got > 0 ? got : 2;
    }
    sendto(fd, "big", 3, 0, &far.any, far.length);
    wait_for(fd, POLLIN, 3);
    source.length = sizeof source.local;
    saw("cut", "%zd", recvfrom(fd, text, 10, MSG_TRUNC | MSG_PEEK, &source.any, &source.length));
    struct iovec little = {text, 10};
    message = (struct msghdr){.msg_name = &source.any, .msg_namelen = sizeof source.local, .msg_iov = &little, .msg_iovlen = 1};
    saw("cut message", "%zd", recvmsg(fd, &message, 0));
    saw("said so", "%d %s", (message.msg_flags & MSG_TRUNC) != 0, told(&source));
    close(fd);
}

static int listener(const char *host, const char *port, int more) {
    struct address where = to(host, port);
    int fd = socket(where.any.sa_family, SOCK_STREAM | more, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    outcome(path("bind %s", port), bind(fd, &where.any, where.length));
    outcome(path("listen %s", port), listen(fd, 16));
    return fd;
}

static void binding(void) {
    int low = listener("0.0.0.0", "80", 0), any = listener("0.0.0.0", "0", 0), one = 1;
    struct address got = name_of(low, false);
    saw("low", "%s %d", told(&got), port_of(&got) == 80);
    got = name_of(any, false);
    saw("any", "%s %d", told(&got), port_of(&got) > 0);
    int again = socket(AF_INET, SOCK_STREAM, 0);
    outcome("the same once more", bind(again, &got.any, got.length));
    close(low), close(any);
    outcome("when it is free", bind(again, &got.any, got.length));
    outcome("bound twice", bind(again, &got.any, got.length));
    close(again);
    struct address shared = to("0.0.0.0", arg("serve"));
    int both[2];
    for (int i = 0; i < 2; i++) {
        both[i] = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(both[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(both[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
        outcome(path("shared bind %d", i), bind(both[i], &shared.any, shared.length));
        outcome(path("shared listen %d", i), listen(both[i], 4));
    }
    close(both[0]), close(both[1]);
    int first = listener("0.0.0.0", arg("serve"), 0), second = listener("::", arg("second"), 0);
    got = name_of(second, false);
    saw("two", "%s", told(&got));
    close(first), close(second);
    struct address elsewhere = to("192.0.2.77", "0");
    again = socket(AF_INET, SOCK_STREAM, 0);
    outcome("an address of nobody", bind(again, &elsewhere.any, elsewhere.length));
    close(again);
}

/* Reads a caller's "hello PORT" and says where accept(2), getpeername(2) and the caller agree. */
static void greet(int fd, struct address *told_by_accept, const char *what) {
    int port = 0;
    sscanf(line_from(fd), "hello %d", &port);
    struct address peer = name_of(fd, true), own = name_of(fd, false);
    if (told_by_accept)
        saw(path("%s: accept", what), "%s %d", told(told_by_accept), port == port_of(told_by_accept));
    saw(path("%s: peer", what), "%s %d", told(&peer), port == port_of(&peer));
    saw(path("%s: own", what), "%s %d", told(&own), port_of(&own) == atoi(arg("serve")));
    send(fd, "bye\n", 4, MSG_NOSIGNAL);
    close(fd);
}

static struct { int server, count; pthread_mutex_t lock; } shared_work = {.lock = PTHREAD_MUTEX_INITIALIZER};
static void *accept_in_thread(void *nothing) {
    (void)nothing;
    struct address from = {.length = sizeof from.local};
    if (!wait_for(shared_work.server, POLLIN, 8))
        return NULL;
    int fd = accept4(shared_work.server, &from.any, &from.length, SOCK_CLOEXEC);
    if (fd >= 0) {
        send(fd, "bye\n", 4, MSG_NOSIGNAL);
        close(fd);
        pthread_mutex_lock(&shared_work.lock);
        shared_work.count++;
        pthread_mutex_unlock(&shared_work.lock);
    }
    return NULL;
}

static void accepting(void) {
    int server = listener("0.0.0.0", arg("serve"), 0);
    struct address from = {.length = sizeof from.local};
    saw("somebody comes", "%d", wait_for(server, POLLIN, 8));
    int fd = accept(server, &from.any, &from.length);
    greet(fd, &from, "when one is there");
    fcntl(server, F_SETFL, O_NONBLOCK);
    double end = now() + 8;
    do {
        from.length = sizeof from.local;
        fd = accept4(server, &from.any, &from.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (fd < 0 && errno == EAGAIN && now() < end && usleep(2000) == 0);
    saw("flags", "%d %d", (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, fcntl(fd, F_GETFD));
    greet(fd, &from, "without blocking");
    fcntl(server, F_SETFL, 0);
    /* Some of these find nobody waiting yet. */
    int told_true = 0;
    for (int i = 0; i < 4; i++) {
        int port = 0;
        while (wait_for(server, POLLIN, 0))
            close(accept(server, NULL, NULL));
        from.length = sizeof from.local;
        fd = accept(server, &from.any, &from.length);
        sscanf(line_from(fd), "hello %d", &port);
        told_true += port == port_of(&from);
        send(fd, "bye\n", 4, MSG_NOSIGNAL);
        close(fd);
    }
    saw("told truly when waited for", "%d", told_true);
    pthread_t threads[3];
    shared_work.server = server, shared_work.count = 0;
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, accept_in_thread, NULL);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    saw("threads", "%d", shared_work.count);
    close(server);
}

static int handed;
static void accept_in_child(void) {
    int fd = wait_for(handed, POLLIN, 8) ? accept(handed, NULL, NULL) : -1;
    send(fd, "bye\n", 4, MSG_NOSIGNAL);
    _exit(fd < 0);
}

static void send_descriptor(int over, int fd) {
    char byte = 'x', room[CMSG_SPACE(sizeof fd)];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET, control->cmsg_type = SCM_RIGHTS, control->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(control), &fd, sizeof fd);
    outcome("descriptor sent", sendmsg(over, &message, 0));
}

static int receive_descriptor(int over) {
    char byte, room[CMSG_SPACE(sizeof(int))];
    int fd = -1;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    if (recvmsg(over, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void handing_on(void) {
    int server = listener("0.0.0.0", arg("serve"), 0), pair[2], fd;
    struct address from = {.length = sizeof from.local};
    handed = dup(server);
    close(server);
    saw("dup'ed", "%d", wait_for(handed, POLLIN, 8));
    greet(accept(handed, &from.any, &from.length), &from, "dup'ed");
    saw("forked", "%s", in_child(accept_in_child));
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    send_descriptor(pair[0], handed);
    close(handed);
    fd = receive_descriptor(pair[1]);
    saw("passed", "%d", wait_for(fd, POLLIN, 8));
    from.length = sizeof from.local;
    greet(accept(fd, &from.any, &from.length), &from, "passed");
    close(fd), close(pair[0]), close(pair[1]);
}

static void own_port(void) {
    int server = listener("0.0.0.0", "80", 0);
    const char *hosts[] = {"127.0.0.1", arg("own")};
    struct address bound = name_of(server, false);
    for (int i = 0; i < 2 && port_of(&bound) == 80; i++) {
        struct address where = to(hosts[i], "80"), got;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        const char *what = i ? "own address" : "loopback";
        outcome(what, connect(fd, &where.any, where.length));
        if (wait_for(server, POLLIN, 2)) {
            int other = accept(server, NULL, NULL);
            send(other, "to myself\n", 10, MSG_NOSIGNAL);
            saw(path("%s: said", what), "%s", line_from(fd));
            got = name_of(fd, true);
            saw(path("%s: peer", what), "%s %d", told(&got), port_of(&got));
            close(other);
        }
        close(fd);
    }
    close(server);
}

static void endings(void) {
    int fd = dial(to_port("echo"), SOCK_STREAM, "connect"), port, one = 1, idle = 77, value = 0;
    struct linger linger = {1, 3}, kept = {0};
    socklen_t length = sizeof value;
    greeting(fd, &port);
    send(fd, "half\n", 5, 0);
    shutdown(fd, SHUT_WR);
    saw("half", "%s", line_from(fd));
    saw("counted", "%s", line_from(fd));
    outcome("write after it", send(fd, "x", 1, MSG_NOSIGNAL));
    close(fd);
    fd = dial(to_port("reset"), SOCK_STREAM, "to be reset");
    send(fd, "x", 1, MSG_NOSIGNAL);
    saw("before", "%s", line_from(fd));
    close(fd);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    struct address where = to_port("echo");
    outcome("with options", connect(fd, &where.any, where.length));
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &length);
    saw("keepalive", "%d", value);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &length);
    saw("idle", "%d", value);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &value, &length);
    saw("no delay", "%d", value);
    length = sizeof kept;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, &kept, &length);
    saw("linger", "%d %d", kept.l_onoff, kept.l_linger);
    saw("greeting", "%s", greeting(fd, &port));
    char block[65536];
    memset(block, 'b', sizeof block);
    size_t sent = 0, back = 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    for (double end = now() + 15; now() < end && back < (2u << 20);) {
        ssize_t got = sent < (2u << 20) ? send(fd, block, sizeof block, MSG_NOSIGNAL) : -1;
        sent += got > 0 ? got : 0;
        while ((got = recv(fd, block, sizeof block, 0)) > 0)
            back += got;
        wait_for(fd, POLLIN | (sent < (2u << 20) ? POLLOUT : 0), 0.5);
    }
    saw("2 MiB", "%d", sent == back && back >= (2u << 20));
    close(fd);
}

/* As programs use it: connect(2) where it is not to be had. */
static void fast_open(void) {
    struct address where = to_port("echo");
    int fd = socket(AF_INET, SOCK_STREAM, 0), port;
    ssize_t sent = sendto(fd, "fast\n", 5, MSG_FASTOPEN | MSG_NOSIGNAL, &where.any, where.length);
    if (sent < 0 && errno == EOPNOTSUPP && connect(fd, &where.any, where.length) == 0)
        sent = send(fd, "fast\n", 5, MSG_NOSIGNAL);
    saw("sent", "%zd", sent);
    saw("greeting", "%s", greeting(fd, &port));
    saw("echo", "%s", line_from(fd));
    close(fd);
}

static void pairs(void) {
    int pair[2], pipes[2];
    char text[32] = "";
    struct address got;
    outcome("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    send(pair[0], "pair", 4, 0);
    saw("received", "%zd %s", recv(pair[1], text, sizeof text, 0), text);
    got = name_of(pair[0], true);
    saw("peer", "%d %d", got.any.sa_family, (int)got.length);
    outcome("pipe", pipe(pipes));
    send_descriptor(pair[0], pipes[0]);
    int fd = receive_descriptor(pair[1]);
    write(pipes[1], "through", 7);
    memset(text, 0, sizeof text);
    saw("read", "%zd %s", read(fd, text, sizeof text), text);
    close(fd), close(pair[0]), close(pair[1]), close(pipes[0]), close(pipes[1]);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    send(pair[0], "one", 3, 0), send(pair[0], "three", 5, 0);
    memset(text, 0, sizeof text);
    saw("datagrams", "%zd %zd", recv(pair[1], text, sizeof text, 0), recv(pair[1], text, sizeof text, 0));
    close(pair[0]), close(pair[1]);
}

const struct test socket_cases[] = {
    {33, blocking_connect}, {34, registered_before}, {35, refused}, {36, socket_names}, {37, version_six}, {38, unix_sockets},
    {39, datagrams}, {40, messages}, {41, binding}, {42, accepting}, {43, handing_on}, {44, own_port}, {45, endings},
    {46, fast_open}, {47, pairs}, {0, NULL},
};
