#include "web/gateway.h"

#include <string.h>

static const unsigned char page[] = {
#include "web/gateway.html.inc"
};
static const unsigned char style[] = {
#include "web/gateway.css.inc"
};
static const unsigned char script[] = {
#include "web/gateway.js.inc"
};

static const unsigned char icon[] = {
#include "web/icon.svg.inc"
};

static const struct {
    const char *path, *type;
    const unsigned char *data;
    size_t size;
} files[] = {
    { "/gateway", "text/html; charset=utf-8", page, sizeof page },
    { "/gateway/gateway.css", "text/css; charset=utf-8", style, sizeof style },
    { "/gateway/gateway.js", "text/javascript; charset=utf-8", script, sizeof script },
    { "/gateway/icon.svg", "image/svg+xml", icon, sizeof icon },
};

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static void get(loami_reply *r, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        if (strcmp(files[i].path, loami_reply_path(r)) != 0) continue;
        loami_reply_set(r, "Content-Security-Policy", policy);
        loami_reply_set(r, "Referrer-Policy", "no-referrer");
        loami_reply_set(r, "Cache-Control", "no-cache");
        loami_reply_send(r, 200, files[i].type, files[i].data, files[i].size);
        return;
    }
}

const loami_route loami_gateway_pages[] = {
    { "GET", "/gateway", get, true },
    { "GET", "/gateway/gateway.css", get, true },
    { "GET", "/gateway/gateway.js", get, true },
    { "GET", "/gateway/icon.svg", get, true },
    { NULL, NULL, NULL, false },
};
