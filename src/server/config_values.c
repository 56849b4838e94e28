/* SPDX-License-Identifier: Apache-2.0 */
/* config_values.c - values of tidemill.yaml that are more than a number or a text. */
#include "server/config_parts.h"

#include "format/encode.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yyjson.h>

#define ZONEINFO "/usr/share/zoneinfo"
#define ZONE_BYTES_MAX ((size_t)1 << 20)

/* Puts the value's key and line before a message that knows of neither. */
static tidemill_error *locate(const struct config_reading *reading, const struct yaml_tree *value,
                              const char *key, tidemill_error *error)
{
    return error_context(error, "%s:%zu: %s", reading->path, value->line, key);
}

static tidemill_error *replace(char **place, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL) return error_memory();
    free(*place);
    *place = copy;
    return NULL;
}

static void *member(void *base, const struct config_key *key)
{
    return (char *)base + key->option.offset;
}

/* --- addresses ------------------------------------------------------------------------------------- */

static bool is_number(const char *text, long maximum)
{
    char *end;
    if (!isdigit((unsigned char)*text)) return false;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value <= maximum;
}

/* Whether it has the form of one; that it can be bound is seen at the start. */
static bool is_address(const char *text)
{
    if (strncmp(text, "unix:", 5) == 0) return text[5] != '\0';
    if (strncmp(text, "fd:", 3) == 0) return is_number(text + 3, 1 << 20);
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || !is_number(colon + 1, 65535)) return false;
    if (text[0] == '[') return colon[-1] == ']' && colon - text > 2;
    return strcspn(text, ":/ @") == (size_t)(colon - text);
}

static tidemill_error *check_address(const struct config_reading *reading,
                                     const struct config_key *key, const struct yaml_tree *value,
                                     const char **ret)
{
    TRY(config_text(reading, value, ret));
    if (is_address(*ret)) return NULL;
    return config_wrong(
        reading, value->line,
        "%s: '%s' is not an address such as 127.0.0.1:8080, [::1]:8080 or unix:PATH",
        key->option.name, *ret);
}

static tidemill_error *listen_one(const struct config_reading *reading,
                                  const struct config_key *key, const struct yaml_tree *value,
                                  void *base)
{
    const char *address;
    struct string_list *list = member(base, key);
    TRY(check_address(reading, key, value, &address));
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->items[i], address) == 0)
            return config_wrong(reading, value->line, "%s: '%s' stands twice", key->option.name,
                                address);
    return option_assign(base, &key->option, address, key->option.name);
}

tidemill_error *config_listen(const struct config_reading *reading, const struct config_key *key,
                              const struct yaml_tree *value, void *base)
{
    if (value->kind != YAML_TREE_LIST) return listen_one(reading, key, value, base);
    if (value->n == 0) return config_wrong(reading, value->line, "listen: an empty list");
    for (const struct yaml_tree *item = value->items; item != NULL; item = item->next)
        TRY(listen_one(reading, key, item, base));
    return NULL;
}

tidemill_error *config_resp(const struct config_reading *reading, const struct config_key *key,
                            const struct yaml_tree *value, void *base)
{
    const char *address;
    TRY(check_address(reading, key, value, &address));
    return replace(member(base, key), address);
}

/* --- times ------------------------------------------------------------------------------------------ */

tidemill_error *config_keep_warm(const struct config_reading *reading, const struct config_key *key,
                                 const struct yaml_tree *value, void *base)
{
    const char *text;
    char origin[512];
    TRY(config_text(reading, value, &text));
    if (strcmp(text, "always") == 0) {
        *(int64_t *)member(base, key) = -1;
        return NULL;
    }
    snprintf(origin, sizeof origin, "%s:%zu: %s", reading->path, value->line, key->option.name);
    return option_assign(base, &key->option, text, origin);
}

tidemill_error *config_micros(const struct config_reading *reading, const struct config_key *key,
                              const struct yaml_tree *value, void *base)
{
    const char *text;
    int64_t micros;
    TRY(config_text(reading, value, &text));
    if (!duration_us_parse(text, &micros))
        return config_wrong(reading, value->line, "%s: '%s' is not a time such as 500us or 2ms",
                            key->option.name, text);
    if (micros > key->option.maximum)
        return config_wrong(reading, value->line, "%s: %s is longer than %lld s", key->option.name,
                            text, (long long)key->option.maximum / 1000000);
    *(int64_t *)member(base, key) = micros;
    return NULL;
}

tidemill_error *config_cron(const struct config_reading *reading, const struct config_key *key,
                            const struct yaml_tree *value, void *base)
{
    struct queue_config *queue = base;
    const char *text;
    TRY(config_text(reading, value, &text));
    TRY(locate(reading, value, key->option.name, cron_parse(text, &queue->window.at)));
    queue->window.has_at = true;
    return replace(member(base, key), text);
}

/* A name as the zones' own: no way out of their folder. */
static bool is_zone_name(const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/";
    return isalpha((unsigned char)name[0]) && strlen(name) < 64 &&
           name[strspn(name, letters)] == '\0' && strstr(name, "//") == NULL &&
           name[strlen(name) - 1] != '/';
}

static tidemill_error *read_zone(const struct config_reading *reading, const char *name,
                                 struct zone **ret)
{
    char path[128], *data;
    size_t size;
    struct stat status;
    snprintf(path, sizeof path, ZONEINFO "/%s", name);
    if (!is_zone_name(name) || reading->io->stat(reading->io->context, path, &status) != 0 ||
        S_ISDIR(status.st_mode))
        return error_new(
            ERROR_USAGE, "'%.80s' is no time zone such as Europe/Berlin%s", name,
            io_exists(reading->io, ZONEINFO) ? "" : "; the system has none (package tzdata)");
    TRY(io_read_file(reading->io, path, ZONE_BYTES_MAX, &data, &size));
    tidemill_error *error = error_context(zone_new(data, size, ret), "%s", path);
    free(data);
    return error;
}

tidemill_error *config_zone(const struct config_reading *reading, const struct config_key *key,
                            const struct yaml_tree *value, void *base)
{
    struct queue_config *queue = base;
    const char *name;
    TRY(config_text(reading, value, &name));
    TRY(replace(member(base, key), name));
    if (strcmp(name, "UTC") == 0) return NULL;
    return locate(reading, value, key->option.name, read_zone(reading, name, &queue->zone));
}

/* --- hours and prices -------------------------------------------------------------------------------- */

static tidemill_error *need_tariff(struct queue_config *queue)
{
    if (queue->tariff != NULL) return NULL;
    queue->tariff = malloc(sizeof *queue->tariff);
    if (queue->tariff == NULL) return error_memory();
    tariff_init(queue->tariff);
    return NULL;
}

/* One text or a list of them, joined by commas. */
static tidemill_error *join(const struct config_reading *reading, const struct yaml_tree *value,
                            struct buffer *out)
{
    const char *text;
    if (value->kind != YAML_TREE_LIST) {
        TRY(config_text(reading, value, &text));
        buffer_text(out, text);
    }
    for (const struct yaml_tree *item = value->items; value->kind == YAML_TREE_LIST && item != NULL;
         item = item->next) {
        TRY(config_text(reading, item, &text));
        if (out->size > 0) buffer_byte(out, ',');
        buffer_text(out, text);
    }
    buffer_byte(out, '\0');
    return out->is_failed ? error_memory() : NULL;
}

tidemill_error *config_hours(const struct config_reading *reading, const struct config_key *key,
                             const struct yaml_tree *value, void *base)
{
    struct queue_config *queue = base;
    struct buffer hours = {0};
    tidemill_error *error = need_tariff(queue);
    if (error == NULL) error = join(reading, value, &hours);
    if (error == NULL)
        error = locate(reading, value, key->option.name, tariff_allow(queue->tariff, hours.data));
    buffer_free(&hours);
    return error;
}

struct tariff_item { /* the section TARIFF */
    char *hours, *factor;
};

static tidemill_error *price(const struct config_reading *reading, const struct yaml_tree *value,
                             const struct tariff_item *item, struct tariff *tariff)
{
    char *end;
    if (item->hours == NULL || item->factor == NULL)
        return config_wrong(reading, value->line, "tariff: an item needs hours and factor");
    double factor = strtod(item->factor, &end);
    if (end == item->factor || *end != '\0')
        return config_wrong(reading, value->line, "factor: '%s' is not a number", item->factor);
    return locate(reading, value, "tariff", tariff_price(tariff, item->hours, factor));
}

tidemill_error *config_tariffs(const struct config_reading *reading, const struct config_key *key,
                               const struct yaml_tree *value, void *base)
{
    struct queue_config *queue = base;
    if (value->kind != YAML_TREE_LIST)
        return config_wrong(reading, value->line, "%s: expected a list, '- hours: ...' an item",
                            key->option.name);
    TRY(need_tariff(queue));
    for (const struct yaml_tree *node = value->items; node != NULL; node = node->next) {
        struct tariff_item item = {0};
        tidemill_error *error = config_read_section(reading, SECTION_TARIFF, node, &item);
        if (error == NULL) error = price(reading, node, &item, queue->tariff);
        config_free_section(SECTION_TARIFF, &item);
        TRY(error);
    }
    return NULL;
}

/* --- JSON ---------------------------------------------------------------------------------------------- */

/* What YAML and JSON agree on without quotes: numbers, true, false, null. */
static bool is_json_word(const char *text)
{
    yyjson_doc *doc = yyjson_read(text, strlen(text), 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    bool is_word = root != NULL && !yyjson_is_ctn(root) && !yyjson_is_str(root);
    yyjson_doc_free(doc);
    return is_word;
}

/* The depth is the tree's, which is bounded. */
static void put_json(const struct yaml_tree *value, struct buffer *out)
{
    bool is_map = value->kind == YAML_TREE_MAP;
    if (value->kind == YAML_TREE_TEXT) {
        if (value->is_plain && is_json_word(value->text))
            buffer_text(out, value->text);
        else
            format_json_string(out, value->text, strlen(value->text));
        return;
    }
    buffer_byte(out, is_map ? '{' : '[');
    for (const struct yaml_tree *item = value->items; item != NULL; item = item->next) {
        if (item != value->items) buffer_byte(out, ',');
        if (is_map) {
            format_json_string(out, item->key, strlen(item->key));
            buffer_byte(out, ':');
        }
        put_json(item, out);
    }
    buffer_byte(out, is_map ? '}' : ']');
}

tidemill_error *config_json(const struct config_reading *reading, const struct config_key *key,
                            const struct yaml_tree *value, void *base)
{
    struct buffer text = {0};
    (void)reading;
    put_json(value, &text);
    buffer_byte(&text, '\0');
    tidemill_error *error = text.is_failed ? error_memory() : replace(member(base, key), text.data);
    buffer_free(&text);
    return error;
}

/* --- sinks ----------------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *beginning)
{
    size_t size = strlen(beginning);
    return strncmp(text, beginning, size) == 0 && text[size] != '\0' && text[size] != '/';
}

tidemill_error *config_sink(const struct config_reading *reading, const struct config_key *key,
                            const struct yaml_tree *value, void *base)
{
    struct sink_config *sink = base;
    const char *text, *kind = key->option.name;
    TRY(config_text(reading, value, &text));
    if (sink->kind != NULL)
        return config_wrong(reading, value->line, "sinks: one sink an item, not also %s", kind);
    bool is_redis = strcmp(kind, "redis") == 0, is_http = strcmp(kind, "http") == 0;
    if (is_redis && begins(text, "rediss://"))
        return config_wrong(reading, value->line, "redis: TLS is not supported; use redis://HOST");
    if (is_redis && !begins(text, "redis://"))
        return config_wrong(reading, value->line, "redis: '%s' does not begin with redis://HOST",
                            text);
    if (is_http && !begins(text, "http://") && !begins(text, "https://"))
        return config_wrong(reading, value->line, "http: '%s' does not begin with http://HOST",
                            text);
    if (text[0] == '\0') return config_wrong(reading, value->line, "%s: expected a value", kind);
    TRY(replace(&sink->kind, kind));
    TRY(replace(&sink->to, text));
    return is_redis || is_http ? NULL : config_resolve(reading, &sink->to);
}

tidemill_error *config_sinks(const struct config_reading *reading, const struct config_key *key,
                             const struct yaml_tree *value, void *base)
{
    struct queue_config *queue = base;
    if (value->kind != YAML_TREE_LIST)
        return config_wrong(reading, value->line, "%s: expected a list, '- jsonl: PATH' an item",
                            key->option.name);
    queue->sinks = calloc(value->n + 1, sizeof *queue->sinks);
    if (queue->sinks == NULL) return error_memory();
    for (const struct yaml_tree *item = value->items; item != NULL; item = item->next) {
        struct sink_config *sink = &queue->sinks[queue->n_sinks++];
        TRY(config_read_section(reading, SECTION_SINK, item, sink));
        if (sink->kind == NULL)
            return config_wrong(reading, item->line, "sinks: an item without a sink");
    }
    return NULL;
}
