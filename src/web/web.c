#include "web/web.h"

/* The build writes each file's bytes as numbers: see the rule for web/ in the Makefile. */
static const unsigned char index_html[] = {
#include "web/index.html.inc"
};
static const unsigned char app_css[] = {
#include "web/app.css.inc"
};
static const unsigned char app_js[] = {
#include "web/app.js.inc"
};
static const unsigned char store_js[] = {
#include "web/store.js.inc"
};
static const unsigned char view_js[] = {
#include "web/view.js.inc"
};
static const unsigned char code_js[] = {
#include "web/code.js.inc"
};
static const unsigned char markdown_js[] = {
#include "web/markdown.js.inc"
};
static const unsigned char icon_svg[] = {
#include "web/icon.svg.inc"
};

static const unsigned char openapi_json[] = {
#include "web/openapi.yaml.inc"
};

const loami_web_file loami_web_files[] = {
    { "/", "text/html; charset=utf-8", index_html, sizeof index_html },
    { "/app.css", "text/css; charset=utf-8", app_css, sizeof app_css },
    { "/app.js", "text/javascript; charset=utf-8", app_js, sizeof app_js },
    { "/store.js", "text/javascript; charset=utf-8", store_js, sizeof store_js },
    { "/view.js", "text/javascript; charset=utf-8", view_js, sizeof view_js },
    { "/code.js", "text/javascript; charset=utf-8", code_js, sizeof code_js },
    { "/markdown.js", "text/javascript; charset=utf-8", markdown_js, sizeof markdown_js },
    { "/icon.svg", "image/svg+xml", icon_svg, sizeof icon_svg },
    { "/openapi.json", "application/json", openapi_json, sizeof openapi_json },
    { NULL, NULL, NULL, 0 },
};
