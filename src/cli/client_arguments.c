/* SPDX-License-Identifier: Apache-2.0 */
/* client_arguments.c - the words and options of the commands that ask a server. */
#include "cli/client.h"

#include <string.h>

/* The option's value: behind "=", or the next word. */
static tidemill_error *value_of(const char *word, size_t length, const char *placeholder, int argc,
                                char **argv, int *i, const char **ret)
{
    if (word[length] == '=')
        *ret = word + length + 1;
    else if (*i + 1 < argc)
        *ret = argv[++*i];
    else
        return error_new(ERROR_USAGE, "%s wants a value: %s", word, placeholder);
    return NULL;
}

static tidemill_error *read_option(const struct client_option *options, size_t n, int argc,
                                   char **argv, int *i, const char *command)
{
    const char *word = argv[*i];
    size_t length = strcspn(word, "=");
    struct nearest nearest = {.typed = word};
    for (size_t k = 0; k < n; k++) {
        const struct client_option *option = &options[k];
        nearest_try(&nearest, option->name);
        if (strlen(option->name) != length || strncmp(word, option->name, length) != 0) continue;
        if (option->value != NULL)
            return value_of(word, length, option->value, argc, argv, i, option->text);
        if (word[length] == '=') return error_new(ERROR_USAGE, "%s has no value", option->name);
        *option->flag = true;
        return NULL;
    }
    if (nearest.best != NULL)
        return error_new(ERROR_USAGE, "unknown option '%s'; did you mean '%s'?", word,
                         nearest.best);
    return error_new(ERROR_USAGE, "unknown option '%s'; 'tidemill %s --help' lists them", word,
                     command);
}

tidemill_error *client_parse(int argc, char **argv, const struct client_option *options,
                             size_t n_options, const char **words, size_t n_words,
                             const char *usage, struct client_common *ret)
{
    struct client_option all[16];
    size_t n = 0, n_found = 0;
    bool has_options = true;
    *ret = (struct client_common){0};
    for (; n < n_options && n < COUNT_OF(all) - 4; n++) all[n] = options[n];
    all[n++] = (struct client_option){"--server", "URL", &ret->server, NULL};
    all[n++] = (struct client_option){"--json", NULL, NULL, &ret->is_json};
    all[n++] = (struct client_option){"--help", NULL, NULL, &ret->wants_help};
    all[n++] = (struct client_option){"-h", NULL, NULL, &ret->wants_help};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        bool is_option = has_options && word[0] == '-' && word[1] != '\0';
        if (is_option && strcmp(word, "--") == 0)
            has_options = false;
        else if (is_option)
            TRY(read_option(all, n, argc, argv, &i, argv[0]));
        else if (n_found == n_words)
            return error_new(ERROR_USAGE, "one argument too many: '%s'; usage: %s", word, usage);
        else
            words[n_found++] = word;
    }
    if (n_found < n_words && !ret->wants_help) return error_new(ERROR_USAGE, "usage: %s", usage);
    return NULL;
}
