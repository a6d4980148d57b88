/* Kubernetes: the gateway itself as a Deployment of two, its configuration in a Secret (it holds keys),
 * probes at /health and /ready, and time to let streams end. Backends stay where they are: Macs are no nodes
 * of a cluster. */
#include "gateway/export.h"

#include "base/json.h"
#include "gateway/policy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PORT = 8080, REST_MIB = 256 };

static void put_json_string(loami_buf *o, const char *s)
{
    loami_json_put(o, s, strlen(s));
}

/* The configuration again, of what concerns routing; keys are left to you. */
static void put_config(loami_buf *o, const loami_gw_config *c)
{
    loami_buf_printf(o,
                     "    {\"listen\": \"0.0.0.0:%d\", \"policy\": \"%s\", \"timeouts\": {\"drain_s\": "
                     "%.0f},\n     \"backends\": [",
                     PORT, c->policy->name, c->timeouts.drain_s);
    for (uint32_t i = 0; i < c->n_backends; i++) {
        const loami_backend_conf *b = &c->backends[i];
        loami_buf_puts(o, i ? ",\n       {\"name\": " : "\n       {\"name\": ");
        put_json_string(o, b->name);
        loami_buf_puts(o, ", \"url\": ");
        put_json_string(o, b->url);
        loami_buf_printf(o, ", \"kind\": \"%s\", \"weight\": %u, \"max_inflight\": %u",
                         b->kind ? b->kind->name : "auto", b->weight, b->max_inflight);
        for (uint32_t k = 0; k < b->n_models; k++) {
            loami_buf_puts(o, k ? ", " : ", \"models\": {");
            put_json_string(o, b->models[k].key);
            loami_buf_puts(o, ": ");
            put_json_string(o, b->models[k].value);
        }
        loami_buf_puts(o, b->n_models ? "}}" : "}");
    }
    loami_buf_puts(o, "],\n     \"pools\": [");
    for (uint32_t i = 0; i < c->n_pools; i++) {
        const loami_pool_conf *p = &c->pools[i];
        loami_buf_printf(o, "%s\n       {\"name\": \"%s\", \"policy\": \"%s\", \"backends\": [", i ? "," : "",
                         p->name, p->policy->name);
        for (uint32_t k = 0; k < p->n_backends; k++)
            loami_buf_printf(o, "%s\"%s\"", k ? ", " : "", c->backends[p->backends[k]].name);
        for (uint32_t k = 0; k < p->n_models; k++) {
            loami_buf_puts(o, k ? ", " : "], \"models\": [");
            put_json_string(o, p->models[k]);
        }
        for (uint32_t k = 0; k < p->n_fallback; k++)
            loami_buf_printf(o, "%s\"%s\"", k ? ", " : "], \"fallback\": [", c->pools[p->fallback[k]].name);
        loami_buf_puts(o, "]}");
    }
    loami_buf_puts(o, "]}\n");
}

void loami_export_k8s(loami_buf *o, const loami_gw_config *c)
{
    loami_buf_puts(
        o, "# Made by `loam gateway export --format k8s`. Set the image to one that has loam in it. API keys "
           "are not in here: add\n"
           "# \"keys\" and \"admin_key_env\" to gateway.json, which lies in a Secret for that reason.\n"
           "apiVersion: v1\nkind: Secret\nmetadata:\n  name: loam-gateway\nstringData:\n  gateway.json: |\n");
    put_config(o, c);
    loami_buf_puts(o, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: loam-gateway\n  "
                      "labels: { app: loam-gateway }\nspec:\n  replicas: 2\n"
                      "  selector:\n    matchLabels: { app: loam-gateway }\n  strategy:\n    rollingUpdate: "
                      "{ maxUnavailable: 0, maxSurge: 1 }\n"
                      "  template:\n    metadata:\n      labels: { app: loam-gateway }\n      annotations: { "
                      "prometheus.io/scrape: \"true\", prometheus.io/port: \"8080\" }\n    spec:\n");
    loami_buf_printf(o, "      terminationGracePeriodSeconds: %.0f\n", c->timeouts.drain_s + 15);
    loami_buf_printf(o, "      containers:\n        - name: gateway\n          image: loam:%s\n",
                     loam_version());
    loami_buf_puts(
        o,
        "          args: [\"gateway\", \"--config\", \"/etc/loam/gateway.json\"]\n          ports:\n         "
        "   - { name: http, containerPort: 8080 }\n"
        "          readinessProbe:\n            httpGet: { path: /ready, port: http }\n            "
        "periodSeconds: 5\n            timeoutSeconds: 5\n"
        "          livenessProbe:\n            httpGet: { path: /health, port: http }\n            "
        "periodSeconds: 10\n            timeoutSeconds: 5\n            failureThreshold: 6\n"
        "          lifecycle:\n            preStop:\n              exec: { command: [\"sleep\", \"5\"] }   # "
        "until endpoints have been taken back\n"
        "          resources:\n            requests: { cpu: 250m, memory: 64Mi }\n");
    loami_buf_printf(o, "            limits: { memory: %.0fMi }   # twice what bodies of requests may take, and the rest\n",
                     ceil(2 * c->max_bodies_bytes / 1048576) + REST_MIB);
    loami_buf_puts(
        o,
        "          securityContext:\n            runAsNonRoot: true\n            readOnlyRootFilesystem: "
        "true\n            allowPrivilegeEscalation: false\n            capabilities: { drop: [\"ALL\"] }\n"
        "          volumeMounts:\n            - { name: config, mountPath: /etc/loam, readOnly: true }\n"
        "      volumes:\n        - name: config\n          secret: { secretName: loam-gateway }\n"
        "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: loam-gateway\nspec:\n  selector: { app: "
        "loam-gateway }\n  ports:\n    - { name: http, port: 80, targetPort: http }\n"
        "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata:\n  name: loam-gateway\nspec:\n  "
        "minAvailable: 1\n  selector:\n    matchLabels: { app: loam-gateway }\n");
}
