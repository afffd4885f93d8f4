/* Marks the connections of one piece of work as those of a tool: all that the protocol takes.
 *
 *   cc -o mark mark.c && ./mark search 198.51.100.7 443
 *
 * Without a daemon the work is done just the same. See docs/markers.md for the messages. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* A connection to the daemon, or -1. It never keeps the program waiting for longer than 200 ms. */
static int connect_to_daemon(void)
{
    const char *path = getenv("EGRESS_TRACER_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_usec = 200000};
    int daemon = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    strncpy(address.sun_path, path ? path : "/run/egress-tracer/mark.sock",
            sizeof address.sun_path - 1);
    setsockopt(daemon, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(daemon, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(daemon, (struct sockaddr *)&address, sizeof address) == 0)
        return daemon;
    close(daemon);
    return -1;
}

/* Says one message; whether the daemon agreed. When it has, the kernel knows. When it does not answer,
 * hanging up says that this program goes on without it: nothing is taken for certain any more. */
static int say(int *daemon, const char *message)
{
    char reply[4096];
    ssize_t length = -1;

    if (*daemon < 0)
        return 0;
    if (send(*daemon, message, strlen(message), MSG_NOSIGNAL) >= 0)
        length = recv(*daemon, reply, sizeof reply - 1, 0);
    if (length <= 0) {
        close(*daemon);
        *daemon = -1;
        return 0;
    }
    reply[length] = 0;
    return strncmp(reply, "{\"ok\":true", 10) == 0;
}

/* What the tool does. */
static int work(const char *address, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int connection = socket(AF_INET, SOCK_STREAM, 0);
    int failed;

    inet_pton(AF_INET, address, &to.sin_addr);
    failed = connect(connection, (struct sockaddr *)&to, sizeof to);
    close(connection);
    return failed != 0;
}

int main(int count, char **arguments)
{
    char begin[512];
    int daemon, code;

    if (count != 4) {
        fprintf(stderr, "usage: mark TOOL ADDRESS PORT\n");
        return 2;
    }
    daemon = connect_to_daemon();
    /* A name with a quote or a backslash in it would have to be escaped. */
    snprintf(begin, sizeof begin,
             "{\"op\":\"begin\",\"tool\":\"%.128s\",\"call\":\"c-1\",\"tid\":%ld}",
             arguments[1], syscall(SYS_gettid));
    say(&daemon, begin);
    code = work(arguments[2], arguments[3]);
    say(&daemon, "{\"op\":\"end\",\"call\":\"c-1\"}");
    if (daemon >= 0)
        close(daemon);
    return code;
}
