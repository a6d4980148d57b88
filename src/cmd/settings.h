/* cmd/settings.h: the settings file, which says what flags and the environment do not.
 *
 * Lines of "name = value" with the names of the flags. Those before the first [COMMAND] hold for every
 * command that has the flag, those after it for that command alone and before the general ones. A repeated
 * name makes a list. A value may stand in double quotes, where \" and \\ are escapes; without them it ends at
 * " #". Empty lines and lines that begin with # say nothing. docs/operations.md describes it for users. */
#ifndef LOAMI_SETTINGS_H
#define LOAMI_SETTINGS_H

#include "base/err.h"

enum { LOAMI_SETTINGS_LINES = 1024, LOAMI_SETTINGS_BYTES = 256 * 1024 };

typedef struct loami_setting {
    const char *command; /* of its [COMMAND], "" = before the first */
    const char *name;    /* without the dashes */
    const char *value;
    uint32_t line;
} loami_setting;

typedef struct loami_settings {
    char *path;         /* of the file, for messages */
    char *text;         /* the names and values lie in it */
    loami_setting *all; /* [n] in the file's order */
    uint32_t n;
} loami_settings;

/* Parses n bytes. LOAM_E_FORMAT names path and line. */
int loami_settings_parse(loami_settings *out, const char *text, size_t n, const char *path, loam_err *err);

/* Reads the file `given`; if NULL that of LOAM_SETTINGS; else the first there is of loam/loam.conf in
 * XDG_CONFIG_HOME (~/.config), and /etc/loam/loam.conf. None, or an empty name: no settings, path NULL. */
int loami_settings_load(loami_settings *out, const char *given, loam_err *err);

void loami_settings_free(loami_settings *s);

#endif
