#include "web/web.h"

#include <stdio.h>
#include <string.h>

/* The build writes each file's bytes as numbers: see the rule for gen/ in the Makefile. */
static const unsigned char index_html[] = {
#include "gen/index.html.inc"
};
static const unsigned char app_css[] = {
#include "gen/app.css.inc"
};
static const unsigned char app_js[] = {
#include "gen/app.js.inc"
};
static const unsigned char markdown_js[] = {
#include "gen/markdown.js.inc"
};
static const unsigned char icon_svg[] = {
#include "gen/icon.svg.inc"
};

static const struct {
    const char *path, *type;
    const unsigned char *data;
    size_t size;
} files[] = {
    { "/", "text/html; charset=utf-8", index_html, sizeof index_html },
    { "/app.css", "text/css; charset=utf-8", app_css, sizeof app_css },
    { "/app.js", "text/javascript; charset=utf-8", app_js, sizeof app_js },
    { "/markdown.js", "text/javascript; charset=utf-8", markdown_js, sizeof markdown_js },
    { "/icon.svg", "image/svg+xml", icon_svg, sizeof icon_svg },
};

/* Nothing from elsewhere, nothing inline, no frame around it: what a model writes has no way to run. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
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

const loami_route loami_web_routes[] = {
    { "GET", "/", get },
    { "GET", "/app.css", get },
    { "GET", "/app.js", get },
    { "GET", "/markdown.js", get },
    { "GET", "/icon.svg", get },
    { NULL, NULL, NULL },
};
