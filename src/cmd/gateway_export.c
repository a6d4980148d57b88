#include "cmd/gateway.h"
#include "gateway/export.h"

#include <stdio.h>
#include <string.h>

int loami_gateway_export(int argc, char **argv)
{
    const char *config = "gateway.json", *format = NULL;
    const loami_opt table[] = {
        { "--config", 'c', "FILE", "the gateway's configuration [gateway.json]", LOAMI_OPT_STRING, &config,
          NULL, 0, 0 },
        { "--format", 0, "F", "haproxy, envoy or k8s", LOAMI_OPT_STRING, &format, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    loami_gw_config *c;
    loami_buf out = { 0 };
    loam_err err;
    const loami_export *e = loami_exports;
    int rc = loami_opt_parse(argc, argv, table,
                             "the same backends and pools for another proxy, on stdout: see docs/scaling.md");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    while (e->name && (!format || strcmp(e->name, format) != 0)) e++;
    if (!e->name) {
        fprintf(stderr, "loam %s: which format? --format haproxy, envoy or k8s\n", argv[0]);
        return LOAMI_EXIT_USAGE;
    }
    if (loami_gw_config_load(&c, config, &err) < 0) return loami_cmd_fail(argv[0], &err);
    e->write(&out, c);
    if (out.data) fwrite(out.data, 1, out.len, stdout);
    loami_buf_free(&out);
    loami_gw_config_unref(c);
    return LOAMI_EXIT_OK;
}
