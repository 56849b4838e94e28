/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the one table of what a job can be told. Command line, YAML file, --help, man page,
 * completions and the fingerprint of a job are all made from it. */
#ifndef TIDEMILL_JOB_OPTIONS_H
#define TIDEMILL_JOB_OPTIONS_H

#include "base/base.h"

struct job_spec;

enum option_type {
    OPTION_STRING,   /* char * */
    OPTION_PATH,     /* char *; completed as a file name */
    OPTION_LIST,     /* struct string_list: repeatable; a YAML sequence */
    OPTION_COMMAS,   /* struct string_list: as LIST, and each value split at commas */
    OPTION_FLAG,     /* bool; --name alone is true, --name=false, --no-name */
    OPTION_COUNT,    /* int64_t; "auto" is 0 where allowed */
    OPTION_SIZE,     /* int64_t bytes: 500, 64K, 20MB, 1GiB */
    OPTION_DURATION, /* int64_t milliseconds: 5s, 250ms, 2m, 1h; a bare number is seconds */
    OPTION_CHOICE,   /* int: place in `choices` */
};

struct option {
    const char *name; /* the flag without dashes, the YAML key */
    enum option_type type;
    size_t offset;            /* in struct job_spec */
    const char *value;        /* the placeholder in help: "FILE", "N|auto" */
    const char *choices;      /* of a CHOICE: "a|b|c" */
    const char *default_text; /* parsed at start as if it had been given; NULL: empty */
    int64_t minimum, maximum; /* of a COUNT, SIZE, DURATION (0, 0: not checked) */
    bool has_auto;            /* COUNT: "auto" is allowed */
    bool
        shapes_answer; /* two records with the same input may have other answers when this differs */
    bool shapes_output; /* a part of the job's fingerprint: changing it changes the output */
    char short_name;    /* 0: none */
    const char *group;  /* heading in help */
    const char *help;   /* one sentence, lower case, no full stop */
};

#define JOB_OPTIONS_MAX 128
extern const struct option job_options[];
extern const size_t n_job_options;

const struct option *option_find(const char *name);
/* Sets an option from its text. `origin` ("--batch", "job.yaml:4") begins the error message. */
tidemill_error *option_set(struct job_spec *spec, const struct option *option, const char *text,
                           const char *origin);
/* Makes `to` have what `from` has; `to` has nothing of its own there yet but a default. */
tidemill_error *option_copy(const struct option *option, const struct job_spec *from,
                            struct job_spec *to);
/* The same for any struct that a table of options describes: `offset` is in `base`. And frees what one
 * has set. */
tidemill_error *option_assign(void *base, const struct option *option, const char *text,
                              const char *origin);
void option_release(void *base, const struct option *option);
/* Empties a list, so that a flag replaces what a file gave. */
void option_clear(struct job_spec *spec, const struct option *option);
/* The present value as text; lists joined by ", ", COMMAS by ",". */
void option_text(const struct job_spec *spec, const struct option *option, struct buffer *out);
/* The nearest name to a mistyped one, or NULL. */
const char *option_suggest(const char *name);

#endif
