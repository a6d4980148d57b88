#include "cmd/gateway.h"
#include "gateway/config.h"
#include "gateway/ledger.h"

#include <stdio.h>

int loami_gateway_usage(int argc, char **argv)
{
    const char *config = "gateway.json", *file = NULL, *by = "key,model,day";
    uint32_t days = 0;
    bool json = false;
    const loami_opt table[] = {
        { "--config", 'c', "FILE", "the gateway's configuration, which names the file [gateway.json]",
          LOAMI_OPT_STRING, &config, NULL, 0, 0 },
        { "--file", 0, "FILE", "the usage file itself", LOAMI_OPT_STRING, &file, NULL, 0, 0 },
        { "--by", 0, "LIST", "some of key, model, day, backend, pool, status [key,model,day]",
          LOAMI_OPT_STRING, &by, NULL, 0, 0 },
        { "--days", 0, "N", "the last N days alone", LOAMI_OPT_U32, &days, NULL, 1, 36500 },
        { "--json", 0, NULL, "as JSON", LOAMI_OPT_FLAG, &json, NULL, 0, 0 },
        { NULL, 0, NULL, NULL, LOAMI_OPT_FLAG, NULL, NULL, 0, 0 },
    };
    loami_gw_config *c = NULL;
    loami_buf out = { 0 };
    loam_err err;
    int rc = loami_opt_parse(argc, argv, table, "who used how much, from the usage file");
    if (rc != 0) return rc > 0 ? LOAMI_EXIT_OK : LOAMI_EXIT_USAGE;
    if (!file && (rc = loami_gw_config_load(&c, config, &err)) == 0) file = c->usage_file;
    if (rc == 0 && !file)
        rc = loami_fail(&err, LOAM_E_ARG, "%s has no \"usage_file\", so nothing is counted", config);
    if (rc == 0) rc = loami_ledger_report(&out, file, by, days, json, &err);
    if (rc == 0 && out.data) fwrite(out.data, 1, out.len, stdout);
    loami_buf_free(&out);
    loami_gw_config_unref(c);
    return rc < 0 ? loami_cmd_fail(argv[0], &err) : LOAMI_EXIT_OK;
}
