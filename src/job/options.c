/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - how an option is set from text, and the nearest name to a mistyped one. */
#include "job/options.h"

#include "job/spec.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct option *option_find(const char *name)
{
    for (size_t i = 0; i < n_job_options; i++)
        if (strcmp(job_options[i].name, name) == 0) return &job_options[i];
    return NULL;
}

static void *member(void *base, const struct option *option)
{
    return (char *)base + option->offset;
}

/* --- numbers ------------------------------------------------------------------------------------ */

static bool parse_count(const struct option *option, const char *text, int64_t *ret)
{
    char *end;
    if (option->has_auto && strcmp(text, "auto") == 0) {
        *ret = 0;
        return true;
    }
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) return false;
    *ret = value;
    return true;
}

static tidemill_error *set_number(void *base, const struct option *option, const char *text,
                                  const char *origin)
{
    int64_t value = 0;
    bool is_valid = option->type == OPTION_COUNT  ? parse_count(option, text, &value)
                    : option->type == OPTION_SIZE ? size_parse(text, &value)
                                                  : duration_parse(text, &value);
    if (!is_valid)
        return error_new(ERROR_USAGE, "%s: '%s' is not %s", origin, text,
                         option->type == OPTION_COUNT
                             ? (option->has_auto ? "a whole number or 'auto'" : "a whole number")
                         : option->type == OPTION_SIZE ? "a size such as 64MiB"
                                                       : "a time such as 5s, 250ms or 2m");
    bool is_auto = option->has_auto && value == 0 && strcmp(text, "auto") == 0;
    bool is_checked = option->minimum != 0 || option->maximum != 0;
    if (is_checked && !is_auto && (value < option->minimum || value > option->maximum))
        return error_new(ERROR_USAGE, "%s: %s is out of range (%lld to %lld%s)", origin, text,
                         (long long)option->minimum, (long long)option->maximum,
                         option->type == OPTION_SIZE       ? " bytes"
                         : option->type == OPTION_DURATION ? " ms"
                                                           : "");
    *(int64_t *)member(base, option) = value;
    return NULL;
}

/* --- the other types ------------------------------------------------------------------------------ */

static tidemill_error *set_string(void *base, const struct option *option, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) return error_memory();
    char **place = member(base, option);
    free(*place);
    *place = copy;
    return NULL;
}

static tidemill_error *append_item(struct string_list *list, const char *text, size_t size)
{
    char **items = realloc(list->items, (list->n + 1) * sizeof *items);
    if (items == NULL) return error_memory();
    list->items = items;
    items[list->n] = strndup(text, size);
    if (items[list->n] == NULL) return error_memory();
    list->n++;
    return NULL;
}

static tidemill_error *append_list(void *base, const struct option *option, const char *text)
{
    struct string_list *list = member(base, option);
    if (option->type == OPTION_LIST) return append_item(list, text, strlen(text));
    for (const char *p = text; *p != '\0';) {
        size_t size = strcspn(p, ",");
        if (size > 0) TRY(append_item(list, p, size));
        p += size + (p[size] == ',');
    }
    return NULL;
}

static tidemill_error *set_flag(void *base, const struct option *option, const char *text,
                                const char *origin)
{
    static const char *const truths[] = {"true", "yes", "on", "1"};
    static const char *const lies[] = {"false", "no", "off", "0"};
    for (size_t i = 0; i < COUNT_OF(truths); i++) {
        if (strcmp(text, truths[i]) == 0 || strcmp(text, lies[i]) == 0) {
            *(bool *)member(base, option) = strcmp(text, truths[i]) == 0;
            return NULL;
        }
    }
    return error_new(ERROR_USAGE, "%s: '%s' is not true or false", origin, text);
}

static tidemill_error *set_choice(void *base, const struct option *option, const char *text,
                                  const char *origin)
{
    int place = 0;
    for (const char *p = option->choices; p != NULL; place++) {
        size_t size = strcspn(p, "|");
        if (strlen(text) == size && strncmp(p, text, size) == 0) {
            *(int *)member(base, option) = place;
            return NULL;
        }
        p = p[size] == '|' ? p + size + 1 : NULL;
    }
    return error_new(ERROR_USAGE, "%s: '%s' is none of %s", origin, text, option->choices);
}

tidemill_error *option_assign(void *base, const struct option *option, const char *text,
                              const char *origin)
{
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH: return set_string(base, option, text);
    case OPTION_LIST:
    case OPTION_COMMAS: return append_list(base, option, text);
    case OPTION_FLAG: return set_flag(base, option, text, origin);
    case OPTION_CHOICE: return set_choice(base, option, text, origin);
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION: return set_number(base, option, text, origin);
    }
    return error_new(ERROR_INTERNAL, "option %s has no type", option->name);
}

tidemill_error *option_set(struct job_spec *spec, const struct option *option, const char *text,
                           const char *origin)
{
    return option_assign(spec, option, text, origin);
}

static void free_list(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

void option_clear(struct job_spec *spec, const struct option *option)
{
    if (option->type == OPTION_LIST || option->type == OPTION_COMMAS)
        free_list(member(spec, option));
}

void option_release(void *base, const struct option *option)
{
    char **text = member(base, option);
    if (option->type == OPTION_LIST || option->type == OPTION_COMMAS)
        free_list(member(base, option));
    if (option->type != OPTION_STRING && option->type != OPTION_PATH) return;
    free(*text);
    *text = NULL;
}

static tidemill_error *copy_string(const struct option *option, const char *text,
                                   struct job_spec *to)
{
    if (text != NULL) return set_string(to, option, text);
    char **place = member(to, option);
    free(*place);
    *place = NULL;
    return NULL;
}

static tidemill_error *copy_list(const struct option *option, const struct string_list *list,
                                 struct job_spec *to)
{
    option_clear(to, option);
    for (size_t i = 0; i < list->n; i++)
        TRY(append_item(member(to, option), list->items[i], strlen(list->items[i])));
    return NULL;
}

tidemill_error *option_copy(const struct option *option, const struct job_spec *from,
                            struct job_spec *to)
{
    const void *place = (const char *)from + option->offset;
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH: return copy_string(option, *(char *const *)place, to);
    case OPTION_LIST:
    case OPTION_COMMAS: return copy_list(option, place, to);
    case OPTION_FLAG: memcpy(member(to, option), place, sizeof(bool)); return NULL;
    case OPTION_CHOICE: memcpy(member(to, option), place, sizeof(int)); return NULL;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION: memcpy(member(to, option), place, sizeof(int64_t)); return NULL;
    }
    return error_new(ERROR_INTERNAL, "option %s has no type", option->name);
}

static void choice_text(const struct option *option, int place, struct buffer *out)
{
    const char *p = option->choices;
    for (int i = 0; i < place; i++) p += strcspn(p, "|") + 1;
    buffer_append(out, p, strcspn(p, "|"));
}

void option_text(const struct job_spec *spec, const struct option *option, struct buffer *out)
{
    const void *place = (const char *)spec + option->offset;
    const struct string_list *list = place;
    const char *text = NULL;
    switch (option->type) {
    case OPTION_STRING:
    case OPTION_PATH:
        memcpy(&text, place, sizeof text);
        buffer_text(out, text == NULL ? "" : text);
        return;
    case OPTION_LIST:
    case OPTION_COMMAS:
        for (size_t i = 0; i < list->n; i++) {
            if (i > 0) buffer_text(out, option->type == OPTION_COMMAS ? "," : ", ");
            buffer_text(out, list->items[i]);
        }
        return;
    case OPTION_FLAG: buffer_text(out, *(const bool *)place ? "true" : "false"); return;
    case OPTION_CHOICE: choice_text(option, *(const int *)place, out); return;
    case OPTION_COUNT:
    case OPTION_SIZE:
    case OPTION_DURATION:
        if (option->has_auto && *(const int64_t *)place == 0)
            buffer_text(out, "auto");
        else
            buffer_printf(out, "%lld%s", (long long)*(const int64_t *)place,
                          option->type == OPTION_DURATION ? "ms" : "");
        return;
    }
}

/* --- mistyped names ---------------------------------------------------------------------------------- */

const char *option_suggest(const char *name)
{
    struct nearest nearest = {.typed = name};
    for (size_t i = 0; i < n_job_options; i++) nearest_try(&nearest, job_options[i].name);
    return nearest.best;
}
