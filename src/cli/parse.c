/* SPDX-License-Identifier: Apache-2.0 */
/* parse.c - GNU-style flags from the options table. */
#include "cli/cli.h"

#include "io/io.h"

#include <stdio.h>
#include <string.h>

static const struct option *find_short(char name)
{
    for (size_t i = 0; i < n_job_options; i++)
        if (job_options[i].short_name == name) return &job_options[i];
    return NULL;
}

struct flag {
    const struct option *option;
    const char *value; /* NULL: not given with it */
    bool is_negated;   /* --no-NAME */
};

static tidemill_error *unknown(const char *argument, const char *name)
{
    const char *nearest = option_suggest(name);
    if (nearest != NULL)
        return error_new(ERROR_USAGE, "unknown option '%s'; did you mean '--%s'?", argument,
                         nearest);
    return error_new(ERROR_USAGE, "unknown option '%s'; 'tidemill run --help' lists them",
                     argument);
}

/* "--name", "--name=value", "--no-name", "-n", "-nvalue" */
static tidemill_error *read_flag(const char *argument, struct flag *ret)
{
    char name[64];
    *ret = (struct flag){0};
    if (argument[1] != '-') {
        ret->option = find_short(argument[1]);
        if (ret->option == NULL) return unknown(argument, argument + 1);
        if (argument[2] != '\0') ret->value = argument + 2 + (argument[2] == '=');
        return NULL;
    }
    size_t length = strcspn(argument + 2, "=");
    if (length >= sizeof name) return unknown(argument, argument + 2);
    memcpy(name, argument + 2, length);
    name[length] = '\0';
    if (argument[2 + length] == '=') ret->value = argument + 3 + length;
    ret->option = option_find(name);
    if (ret->option == NULL && strncmp(name, "no-", 3) == 0) {
        ret->option = option_find(name + 3);
        ret->is_negated = ret->option != NULL && ret->option->type == OPTION_FLAG;
        if (!ret->is_negated) ret->option = NULL;
    }
    return ret->option == NULL ? unknown(argument, name) : NULL;
}

/* The flag's value, which may be the next argument; advances *i past it. */
static tidemill_error *value_of(struct flag *flag, int argc, char **argv, int *i)
{
    if (flag->option->type == OPTION_FLAG) {
        if (flag->value == NULL) flag->value = flag->is_negated ? "false" : "true";
        return NULL;
    }
    if (flag->value != NULL) return NULL;
    if (*i + 1 >= argc)
        return error_new(ERROR_USAGE, "--%s wants a value: %s", flag->option->name,
                         flag->option->value != NULL ? flag->option->value : flag->option->choices);
    flag->value = argv[++*i];
    return NULL;
}

static tidemill_error *apply_flag(struct job_spec *spec, const struct flag *flag, bool *seen)
{
    char origin[80];
    size_t place = (size_t)(flag->option - job_options);
    if (!seen[place]) option_clear(spec, flag->option); /* what a file gave */
    seen[place] = true;
    snprintf(origin, sizeof origin, "--%s", flag->option->name);
    return option_set(spec, flag->option, flag->value, origin);
}

static bool is_job_file(const char *word)
{
    size_t length = strlen(word);
    return (length > 5 && strcmp(word + length - 5, ".yaml") == 0) ||
           (length > 4 && strcmp(word + length - 4, ".yml") == 0);
}

/* One pass over argv. With `spec` NULL only words are collected. */
static tidemill_error *pass(int argc, char **argv, struct job_spec *spec, const char **words,
                            size_t words_max, size_t *ret_n_words, bool *ret_wants_help)
{
    bool seen[JOB_OPTIONS_MAX] = {false};
    bool has_ended = false;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (!has_ended && strcmp(argument, "--") == 0) {
            has_ended = true;
        } else if (!has_ended && (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0)) {
            *ret_wants_help = true;
        } else if (!has_ended && argument[0] == '-' && argument[1] != '\0') {
            struct flag flag;
            TRY(read_flag(argument, &flag));
            TRY(value_of(&flag, argc, argv, &i));
            if (spec != NULL) TRY(apply_flag(spec, &flag, seen));
        } else if (spec == NULL) {
            if (*ret_n_words == words_max)
                return error_new(ERROR_USAGE, "one argument too many: '%s'", argument);
            words[(*ret_n_words)++] = argument;
        }
    }
    return NULL;
}

tidemill_error *cli_parse_job(int argc, char **argv, struct job_spec *spec, const char **words,
                              size_t words_max, size_t *ret_n_words, bool *ret_wants_help)
{
    *ret_n_words = 0;
    *ret_wants_help = false;
    TRY(job_spec_init(spec));
    TRY(pass(argc, argv, NULL, words, words_max, ret_n_words, ret_wants_help));
    if (*ret_wants_help) return NULL;
    for (size_t i = 0; i < *ret_n_words; i++)
        if (is_job_file(words[i])) TRY(job_spec_load_yaml(spec, &io_local, words[i]));
    return pass(argc, argv, spec, words, words_max, ret_n_words, ret_wants_help);
}

static void print_option(const struct option *option, struct buffer *out)
{
    char left[64];
    int length = option->short_name != 0
                     ? snprintf(left, sizeof left, "  -%c, --%s", option->short_name, option->name)
                     : snprintf(left, sizeof left, "      --%s", option->name);
    if (option->type != OPTION_FLAG && length < (int)sizeof left)
        snprintf(left + length, sizeof left - (size_t)length, "=%s",
                 option->value != NULL ? option->value : option->choices);
    bool has_default = option->default_text != NULL && option->type != OPTION_FLAG;
    buffer_printf(out, "%s\n          %s", left, option->help);
    if (has_default) buffer_printf(out, " [%s]", option->default_text);
    if (option->type == OPTION_FLAG && option->default_text != NULL)
        buffer_printf(out, "; --no-%s turns it off", option->name);
    buffer_byte(out, '\n');
}

void cli_print_options(struct buffer *out)
{
    const char *group = "";
    for (size_t i = 0; i < n_job_options; i++) {
        if (strcmp(group, job_options[i].group) != 0) {
            group = job_options[i].group;
            buffer_printf(out, "\n%s:\n", group);
        }
        print_option(&job_options[i], out);
    }
}
