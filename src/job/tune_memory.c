/* SPDX-License-Identifier: Apache-2.0 */
/* tune_memory.c - the file of what tuning found.
 *
 *     {"tidemill_tune":1,"entries":[
 *     {"model":"..","provider":"cpu","outputs":"","cpu":"..","cores":2,"library":"..","instances":2,
 *      "threads":1,"parallel_measured":true,"rows":256,"tokens":[0,..],"call_tokens":0,"rows_per_s":1.5e5,
 *      "host_bytes":..,"budget_s":1.5,"date":"2026-01-31T12:00:00Z"},
 *     ...]}
 *
 * The newest entry comes first. An entry is taken only when every part of it is of its kind and in its
 * range, so that a file from elsewhere cannot make a job ask for a million threads. */
#include "job/tune_memory.h"

#include "format/encode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <yyjson.h>

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define FILE_VERSION 1
#define ENTRIES_MAX 256
#define INSTANCES_MAX 1024
#define ROWS_MAX 65536
#define TOKENS_MAX 16777216

tidemill_error *tune_memory_path(char **ret)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool is_given = cache != NULL && cache[0] == '/'; /* the specification ignores relative ones */
    *ret = NULL;
    if (!is_given && (home == NULL || home[0] != '/')) return NULL;
    int n = is_given ? asprintf(ret, "%s/tidemill/tune.json", cache)
                     : asprintf(ret, "%s/.cache/tidemill/tune.json", home);
    if (n >= 0) return NULL;
    *ret = NULL;
    return error_memory();
}

/* --- reading -------------------------------------------------------------------------------------------- */

static const char *text_of(yyjson_val *entry, const char *key)
{
    const char *text = yyjson_get_str(yyjson_obj_get(entry, key));
    return text == NULL ? "" : text;
}

/* -1: not a whole number from 0 to `max`. */
static int64_t number_of(yyjson_val *value, uint64_t max)
{
    return yyjson_is_uint(value) && yyjson_get_uint(value) <= max ? (int64_t)yyjson_get_uint(value)
                                                                  : -1;
}

static int64_t member(yyjson_val *entry, const char *key, uint64_t max)
{
    return number_of(yyjson_obj_get(entry, key), max);
}

static bool is_of_key(yyjson_val *entry, const struct tune_key *key)
{
    return strcmp(text_of(entry, "model"), key->model) == 0 &&
           strcmp(text_of(entry, "provider"), key->provider) == 0 &&
           strcmp(text_of(entry, "outputs"), key->outputs) == 0 &&
           strcmp(text_of(entry, "cpu"), key->cpu) == 0 &&
           member(entry, "cores", INT32_MAX) == key->cores;
}

static bool read_tokens(yyjson_val *entry, struct tune_entry *ret)
{
    yyjson_val *tokens = yyjson_obj_get(entry, "tokens");
    int64_t call = member(entry, "call_tokens", TOKENS_MAX);
    if (yyjson_arr_size(tokens) != PLAN_CLASSES || call < 0) return false;
    ret->call_tokens = (uint32_t)call;
    for (size_t i = 0; i < PLAN_CLASSES; i++) {
        int64_t number = number_of(yyjson_arr_get(tokens, i), TOKENS_MAX);
        if (number < 0) return false;
        ret->tokens[i] = (uint32_t)number;
    }
    return true;
}

static bool read_entry(yyjson_val *entry, struct tune_entry *ret)
{
    int64_t instances = member(entry, "instances", INSTANCES_MAX);
    int64_t threads = member(entry, "threads", INSTANCES_MAX);
    int64_t rows = member(entry, "rows", ROWS_MAX);
    int64_t host_bytes = member(entry, "host_bytes", INT64_MAX);
    *ret = (struct tune_entry){
        .instances = (int)instances,
        .threads = (int)threads,
        .is_parallel_measured = yyjson_get_bool(yyjson_obj_get(entry, "parallel_measured")),
        .rows = (uint32_t)rows,
        .rate_rows_s = yyjson_get_num(yyjson_obj_get(entry, "rows_per_s")),
        .host_bytes = (uint64_t)host_bytes,
        .budget_s = yyjson_get_num(yyjson_obj_get(entry, "budget_s")),
    };
    snprintf(ret->library, sizeof ret->library, "%s", text_of(entry, "library"));
    snprintf(ret->date, sizeof ret->date, "%s", text_of(entry, "date"));
    return instances >= 1 && threads >= 1 && rows >= 0 && host_bytes >= 0 &&
           ret->rate_rows_s >= 0 && ret->budget_s >= 0 && read_tokens(entry, ret);
}

static void tell_broken(const char *path, const char *why)
{
    log_event(LOG_WARNING, "%s is not used: %s; it will be replaced", path, why);
}

/* The entries, or NULL. The caller frees *ret_doc. */
static yyjson_val *read_entries(const struct io *io, const char *path, yyjson_doc **ret_doc)
{
    char *text = NULL;
    size_t size = 0;
    *ret_doc = NULL;
    if (!io_exists(io, path)) return NULL;
    tidemill_error *error = io_read_file(io, path, FILE_BYTES_MAX, &text, &size);
    if (error != NULL) {
        tell_broken(path, error_message(error));
        error_free(error);
        return NULL;
    }
    *ret_doc = yyjson_read(text, size, 0);
    free(text);
    yyjson_val *root = yyjson_doc_get_root(*ret_doc);
    yyjson_val *entries = yyjson_obj_get(root, "entries");
    if (member(root, "tidemill_tune", FILE_VERSION) == FILE_VERSION && yyjson_is_arr(entries))
        return entries;
    tell_broken(path, "it is not a file of tidemill's, or of another version");
    return NULL;
}

bool tune_memory_find(const struct io *io, const char *path, const struct tune_key *key,
                      struct tune_entry *ret)
{
    yyjson_doc *doc;
    yyjson_arr_iter entries;
    yyjson_val *entry;
    bool is_found = false;
    if (!yyjson_arr_iter_init(read_entries(io, path, &doc), &entries)) {
        yyjson_doc_free(doc);
        return false;
    }
    while (!is_found && (entry = yyjson_arr_iter_next(&entries)) != NULL) {
        if (!is_of_key(entry, key)) continue;
        is_found = read_entry(entry, ret);
        if (!is_found) tell_broken(path, "an entry has parts that cannot be");
    }
    yyjson_doc_free(doc);
    return is_found;
}

/* --- writing -------------------------------------------------------------------------------------------- */

static void append_text(struct buffer *out, const char *key, const char *text)
{
    buffer_printf(out, "\"%s\":", key);
    format_json_string(out, text, strlen(text));
    buffer_byte(out, ',');
}

static void append_entry(struct buffer *out, const struct tune_key *key,
                         const struct tune_entry *entry)
{
    char date[sizeof entry->date] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    buffer_byte(out, '{');
    append_text(out, "model", key->model);
    append_text(out, "provider", key->provider);
    append_text(out, "outputs", key->outputs);
    append_text(out, "cpu", key->cpu);
    append_text(out, "library", entry->library);
    append_text(out, "date", date);
    buffer_printf(out, "\"cores\":%d,\"instances\":%d,\"threads\":%d,\"parallel_measured\":%s,",
                  key->cores, entry->instances, entry->threads,
                  entry->is_parallel_measured ? "true" : "false");
    buffer_printf(out, "\"rows\":%u,\"tokens\":[", entry->rows);
    for (size_t i = 0; i < PLAN_CLASSES; i++)
        buffer_printf(out, i == 0 ? "%u" : ",%u", entry->tokens[i]);
    buffer_printf(out, "],\"call_tokens\":%u,\"rows_per_s\":%.6g,\"host_bytes\":%llu,",
                  entry->call_tokens, entry->rate_rows_s, (unsigned long long)entry->host_bytes);
    buffer_printf(out, "\"budget_s\":%.3f}", entry->budget_s);
}

/* What was there under other keys, as far as it can be read. */
static void append_others(struct buffer *out, const struct io *io, const char *path,
                          const struct tune_key *key)
{
    yyjson_doc *doc;
    yyjson_arr_iter entries;
    yyjson_val *entry;
    int n_left = ENTRIES_MAX - 1;
    if (yyjson_arr_iter_init(read_entries(io, path, &doc), &entries)) {
        while (n_left > 0 && (entry = yyjson_arr_iter_next(&entries)) != NULL) {
            struct tune_entry known;
            if (is_of_key(entry, key) || !read_entry(entry, &known)) continue;
            char *text = yyjson_val_write(entry, 0, NULL);
            if (text != NULL) {
                buffer_text(out, ",\n");
                buffer_text(out, text);
            }
            free(text);
            n_left--;
        }
    }
    yyjson_doc_free(doc);
}

/* The folders above `path`; those that are there are fine. */
static void make_folders(const struct io *io, const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL) return;
    for (char *slash = strchr(copy + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        io->mkdir(io->context, copy, 0700);
        *slash = '/';
    }
    free(copy);
}

static tidemill_error *replace_file(const struct io *io, const char *path, const char *new_path,
                                    const struct buffer *text)
{
    int fd;
    TRY(io_open(io, new_path, O_WRONLY | O_CREAT | O_EXCL, 0600, &fd));
    tidemill_error *error = io_write_all(io, fd, new_path, text->data, text->size);
    if (error == NULL && io->fsync(io->context, fd) != 0)
        error = error_errno(ERROR_IO, errno, "cannot sync %s", new_path);
    io_close(io, fd);
    if (error == NULL) error = io_publish(io, new_path, path);
    if (error != NULL) io->unlink(io->context, new_path);
    return error;
}

tidemill_error *tune_memory_keep(const struct io *io, const char *path, const struct tune_key *key,
                                 const struct tune_entry *entry)
{
    char *new_path = NULL;
    struct buffer text = {0};
    tidemill_error *error = NULL;
    buffer_printf(&text, "{\"tidemill_tune\":%d,\"entries\":[\n", FILE_VERSION);
    append_entry(&text, key, entry);
    append_others(&text, io, path, key);
    buffer_text(&text, "\n]}\n");
    /* nobody else's: one name for each process and moment */
    if (asprintf(&new_path, "%s.%ld.%lld.new", path, (long)getpid(), (long long)clock_now_ns()) < 0)
        new_path = NULL;
    if (text.is_failed || new_path == NULL) {
        error = error_memory();
    } else {
        make_folders(io, path);
        error = replace_file(io, path, new_path, &text);
    }
    buffer_free(&text);
    free(new_path);
    return error;
}
