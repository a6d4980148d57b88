#include "cmd/rollout_report.h"

#include "cmd/plot.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double number(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void put(loami_buf *out, const char *s)
{
    loami_html_text(out, s, strlen(s));
}

static void put_gates(loami_buf *out, const json_t *figures)
{
    size_t i;
    json_t *g;
    loami_bar bars[64];
    uint32_t n = 0;
    loami_buf_puts(out, "<h2>Gates</h2><div class=\"scroll\"><table><tr><th>Gate</th><th>What is known</th><th>Evidence that it is "
                        "worse</th><th>Closes at</th><th>Evidence that it is no worse</th><th>Verdict</th></tr>");
    json_array_foreach(json_object_get(figures, "gates"), i, g) {
        bool closed = json_is_true(json_object_get(g, "closed")), proven = json_is_true(json_object_get(g, "proven"));
        if (!json_is_true(json_object_get(g, "on"))) continue;
        loami_buf_puts(out, "<tr><td>");
        put(out, text(g, "gate"));
        loami_buf_puts(out, "</td><td>");
        put(out, text(g, "words"));
        loami_buf_printf(out, "</td><td class=\"n\">%.3g</td><td class=\"n\">%.4g</td><td class=\"n\">%.3g</td><td class=\"%s\">%s</td></tr>",
                         number(g, "wealth"), number(g, "closes_at"), number(g, "proof"), closed ? "bad" : proven ? "good" : "",
                         closed ? "worse" : proven ? "no worse, proven" : "undecided");
        double part = log(number(g, "highest")) / log(number(g, "closes_at"));
        if (n < 64) bars[n++] = (loami_bar){ text(g, "gate"), part > 0 ? 100 * part : 0 };
    }
    loami_buf_puts(out, "</table></div>\n<div class=\"plots\">");
    loami_plot_bars(out, "The strongest evidence there was that it is worse", "% of the way to closing, logarithmic", bars, n, 100,
                    "rolls back");
    loami_buf_puts(out, "</div>");
}

/* A column of the kept results; those the filter leaves out are not in it. */
static loami_series column(const json_t *kept, size_t at, double beyond, const char *name)
{
    loami_series s = { .name = name, .values = calloc(json_array_size(kept) + 1, sizeof(double)) };
    size_t i;
    json_t *row;
    json_array_foreach(kept, i, row) {
        double v = json_number_value(json_array_get(row, at));
        if (s.values && v <= beyond) s.values[s.n++] = v;
    }
    return s;
}

static void put_shadows(loami_buf *out, const json_t *h)
{
    const json_t *kept = json_object_get(h, "kept");
    double n = number(h, "n");
    if (!(number(h, "sent") > 0)) return;
    loami_buf_printf(out,
                     "<h2>Mirrored requests</h2><p>%.0f sent, %.0f scored, %.0f failed, %.0f left out by the budget. Same text at "
                     "temperature 0: %.0f of %.0f. JSON valid where it was asked for: old side %.0f, new side %.0f of %.0f.</p>",
                     number(h, "sent"), n, number(h, "failed"), number(h, "over_budget"), number(h, "same"), number(h, "greedy"),
                     number(h, "valid_old"), number(h, "valid_new"), number(h, "checked"));
    loami_series s[3] = { column(kept, 0, 0, "old side's text"), column(kept, 1, 1e9, "new / old"), column(kept, 2, 1, "common") };
    loami_buf_puts(out, "<div class=\"plots\">");
    loami_plot_shares(out, "Log-probability of the old side's text under the new model", "a token, natural logarithm", &s[0], 1, false);
    loami_plot_shares(out, "Length of the new side's text", "as a factor of the old side's", &s[1], 1, false);
    loami_plot_shares(out, "How far the texts agree", "part of the old side's text", &s[2], 1, false);
    loami_buf_puts(out, "</div>");
    for (int i = 0; i < 3; i++) free(s[i].values);
}

static void put_history(loami_buf *out, const json_t *r)
{
    size_t i;
    json_t *e;
    loami_buf_puts(out, "<h2>History</h2><div class=\"scroll\"><table><tr><th>When</th><th>What</th><th>New side</th><th>By</th><th>Why</th></tr>");
    json_array_foreach(json_object_get(r, "history"), i, e) {
        char at[40] = "";
        time_t t = (time_t)json_integer_value(json_object_get(e, "at"));
        struct tm tm;
        if (gmtime_r(&t, &tm)) strftime(at, sizeof at, "%Y-%m-%d %H:%M:%S UTC", &tm);
        loami_buf_printf(out, "<tr><td>%s</td><td>", at);
        put(out, text(e, "event"));
        loami_buf_printf(out, "</td><td class=\"n\">%g %%</td><td>", number(e, "per_cent"));
        put(out, text(e, "by"));
        loami_buf_puts(out, "</td><td>");
        put(out, text(e, "why"));
        loami_buf_puts(out, "</td></tr>");
    }
    loami_buf_puts(out, "</table></div>\n");
}

void loami_rollout_page(loami_buf *out, const json_t *answer, const char *pool)
{
    size_t i;
    json_t *r;
    loami_page_begin(out, "Rollout");
    json_array_foreach(json_object_get(answer, "rollouts"), i, r) {
        if (pool && strcmp(pool, text(r, "pool")) != 0) continue;
        loami_buf_puts(out, "<h2>Pool ");
        put(out, text(r, "pool"));
        loami_buf_puts(out, "</h2><p>");
        put(out, text(r, "state"));
        loami_buf_printf(out, ", %g %% on the new side. ", number(r, "per_cent"));
        put(out, text(r, "why"));
        loami_buf_puts(out, "</p>");
        if (json_object_get(r, "figures")) put_gates(out, json_object_get(r, "figures"));
        put_shadows(out, json_object_get(r, "shadows"));
        put_history(out, r);
    }
    loami_page_end(out);
}
