/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - tidemill cache: what is in a cache of results; dropping some of it or all. */
#include "cache/cache.h"

#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

enum action { ACTION_STAT, ACTION_PRUNE, ACTION_CLEAR };

static const char *const action_names[] = {"stat", "prune", "clear"};

struct request {
    enum action action;
    const char *folder;
    int64_t bytes_max; /* -1: not given */
    bool is_json, wants_help;
};

static void print_help(void)
{
    puts("Usage: tidemill cache stat DIR [--json]\n"
         "       tidemill cache prune DIR --max-bytes=SIZE\n"
         "       tidemill cache clear DIR\n"
         "Look into, cut or empty a folder of results that jobs share (run --cache DIR).\n\n"
         "  stat   how many results, how many bytes, of what age\n"
         "  prune  drop the oldest results until at most SIZE is left\n"
         "  clear  drop all of them\n\n"
         "      --json            stat: print one line of JSON\n"
         "      --max-bytes=SIZE  prune: what may stay, such as 500MB or 2GiB\n"
         "  -h, --help            show this help\n\n"
         "Jobs that use the cache meanwhile go on. The disk gets its space back only while no job "
         "has\nthe cache open.");
}

/* --- what was asked for ------------------------------------------------------------------------- */

static tidemill_error *read_size(struct request *request, const char *text)
{
    if (text == NULL)
        return error_new(ERROR_USAGE, "--max-bytes wants a value: SIZE, such as 500MB");
    if (!size_parse(text, &request->bytes_max))
        return error_new(ERROR_USAGE, "--max-bytes: '%s' is not a size such as 64MiB", text);
    return NULL;
}

static tidemill_error *read_action(struct request *request, const char *word)
{
    for (size_t i = 0; i < COUNT_OF(action_names); i++) {
        if (strcmp(word, action_names[i]) != 0) continue;
        request->action = (enum action)i;
        return NULL;
    }
    return error_new(ERROR_USAGE, "'%s' is none of stat, prune, clear; 'tidemill cache --help'",
                     word);
}

/* The first word is the action, the second the folder; options stand anywhere; behind "--" there
 * are words only. */
static tidemill_error *parse(int argc, char **argv, struct request *ret)
{
    int n_words = 0;
    bool has_options = true;
    *ret = (struct request){.bytes_max = -1};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        bool is_option = has_options && word[0] == '-' && word[1] != '\0';
        if (is_option && strcmp(word, "--") == 0)
            has_options = false;
        else if (is_option && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0))
            ret->wants_help = true;
        else if (is_option && strcmp(word, "--json") == 0)
            ret->is_json = true;
        else if (is_option && strcmp(word, "--max-bytes") == 0)
            TRY(read_size(ret, ++i < argc ? argv[i] : NULL));
        else if (is_option && strncmp(word, "--max-bytes=", 12) == 0)
            TRY(read_size(ret, word + 12));
        else if (is_option)
            return error_new(ERROR_USAGE, "unknown option '%s'; 'tidemill cache --help' lists them",
                             word);
        else if (n_words++ == 0)
            TRY(read_action(ret, word));
        else if (n_words == 2)
            ret->folder = word;
        else
            return error_new(ERROR_USAGE, "one folder at a time, not also '%s'", word);
    }
    return NULL;
}

static tidemill_error *check(const struct request *request)
{
    const char *name = action_names[request->action];
    if (request->folder == NULL)
        return error_new(ERROR_USAGE,
                         "say what to do and name the folder: tidemill cache stat DIR");
    if (request->action == ACTION_PRUNE && request->bytes_max < 0)
        return error_new(ERROR_USAGE, "say what may stay: tidemill cache prune %s --max-bytes=SIZE",
                         request->folder);
    if (request->action != ACTION_PRUNE && request->bytes_max >= 0)
        return error_new(ERROR_USAGE, "--max-bytes goes with prune, not with %s", name);
    if (request->action != ACTION_STAT && request->is_json)
        return error_new(ERROR_USAGE, "--json goes with stat, not with %s", name);
    return NULL;
}

/* --- answers ------------------------------------------------------------------------------------ */

static void print_bytes(const char *name, uint64_t bytes)
{
    printf("%-12s %llu bytes (%.1f MiB)\n", name, (unsigned long long)bytes,
           (double)bytes / (1 << 20));
}

static void print_text(const struct cache_stats *stats)
{
    printf("%-12s %llu\n", "results", (unsigned long long)stats->entries);
    print_bytes("used", stats->bytes_used);
    print_bytes("limit", stats->bytes_max);
    print_bytes("file", stats->file_bytes);
    for (size_t i = 0; i < CACHE_GENERATIONS; i++) {
        const struct cache_generation *generation = &stats->generations[i];
        printf("age %-8zu %llu results, %llu bytes%s\n", i, (unsigned long long)generation->entries,
               (unsigned long long)generation->bytes,
               i == 0                       ? "; the youngest"
               : i == CACHE_GENERATIONS - 1 ? "; the next to go"
                                            : "");
    }
}

static void print_json(const struct cache_stats *stats)
{
    printf("{\"entries\":%llu,\"bytes_used\":%llu,\"bytes_max\":%llu,\"file_bytes\":%llu,"
           "\"generations\":[",
           (unsigned long long)stats->entries, (unsigned long long)stats->bytes_used,
           (unsigned long long)stats->bytes_max, (unsigned long long)stats->file_bytes);
    for (size_t i = 0; i < CACHE_GENERATIONS; i++)
        printf("%s{\"entries\":%llu,\"bytes\":%llu}", i == 0 ? "" : ",",
               (unsigned long long)stats->generations[i].entries,
               (unsigned long long)stats->generations[i].bytes);
    puts("]}");
}

static tidemill_error *act(const struct request *request, struct cache *cache)
{
    struct cache_stats before, after;
    uint64_t dropped;
    cache_get_stats(cache, &before);
    if (request->action == ACTION_STAT) {
        (request->is_json ? print_json : print_text)(&before);
        return NULL;
    }
    TRY(cache_prune(cache, request->action == ACTION_CLEAR ? 0 : (uint64_t)request->bytes_max,
                    &dropped));
    cache_get_stats(cache, &after);
    printf("dropped %llu of %llu results; %llu bytes are left, the file has %llu\n",
           (unsigned long long)dropped, (unsigned long long)before.entries,
           (unsigned long long)after.bytes_used, (unsigned long long)after.file_bytes);
    return NULL;
}

/* Looking at a cache that is not there must not make one. */
static tidemill_error *find_cache(const char *folder)
{
    struct buffer path = {0};
    buffer_printf(&path, "%s/%s", folder, CACHE_STATE_NAME);
    buffer_byte(&path, '\0');
    bool is_there = path.is_failed || io_exists(&io_local, path.data);
    buffer_free(&path);
    return is_there ? NULL
                    : error_new(ERROR_INPUT, "there is no cache in %s; check the name", folder);
}

int cli_cache(int argc, char **argv)
{
    struct request request;
    struct cache *cache = NULL;
    tidemill_error *error = parse(argc, argv, &request);
    if (error == NULL && request.wants_help) {
        print_help();
        return 0;
    }
    if (error == NULL) error = check(&request);
    if (error == NULL) error = find_cache(request.folder);
    struct cache_options options = {.path = request.folder};
    if (error == NULL) error = cache_open(&io_local, &options, &cache);
    if (error == NULL) error = act(&request, cache);
    cache_close(cache);
    return error == NULL ? 0 : cli_fail(error);
}
