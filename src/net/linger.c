#include "net/conn.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LINGER_S = 2,
    LINGERERS_MAX = 32, /* open files that no limit of connections counts */
};

typedef struct loami_lingerer {
    struct loami_server *server;
    struct event *event, *late;
    int fd;
    LIST_ENTRY(loami_lingerer) next;
} lingerer;

static void end(lingerer *l)
{
    if (l->event) event_free(l->event);
    if (l->late) event_free(l->late);
    close(l->fd);
    LIST_REMOVE(l, next);
    l->server->n_lingers--;
    free(l);
}

static void on_bytes(evutil_socket_t fd, short what, void *arg)
{
    char none[16384];
    if (what & EV_READ && recv(fd, none, sizeof none, 0) > 0) return;
    end(arg);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    end(arg);
}

void loami_linger(struct loami_server *s, int fd)
{
    struct event_base *base = loami_loop_base(s->loop);
    lingerer *l = s->n_lingers < LINGERERS_MAX ? calloc(1, sizeof *l) : NULL;
    if (!l) return;
    l->server = s;
    l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (l->fd < 0) {
        free(l);
        return;
    }
    shutdown(l->fd, SHUT_WR);
    LIST_INSERT_HEAD(&s->lingers, l, next);
    s->n_lingers++;
    l->event = event_new(base, l->fd, EV_READ | EV_PERSIST, on_bytes, l);
    l->late = event_new(base, -1, 0, on_time, l);
    if (!l->event || !l->late || event_add(l->event, NULL) < 0 || event_add(l->late, &(struct timeval){ LINGER_S, 0 }) < 0) end(l);
}

void loami_linger_close(struct loami_server *s)
{
    while (!LIST_EMPTY(&s->lingers)) end(LIST_FIRST(&s->lingers));
}
