/* SPDX-License-Identifier: Apache-2.0 */
/* client_batches.c - tidemill status, cancel and ls: the batches of a server. */
#include "cli/cli.h"
#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 100

static void print_options(void)
{
    puts("      --server=URL  the server; $TIDEMILL_SERVER, or http://127.0.0.1:8080, by default\n"
         "      --json        print JSON, an object a line\n"
         "  -h, --help        show this help\n\n"
         "$TIDEMILL_API_KEY is sent as the key. Exit status: 0 done; 2 the server refused; 3 it "
         "does not answer.");
}

/* --- one batch ------------------------------------------------------------------------------------ */

static tidemill_error *show(struct client *client, const struct client_common *common,
                            const char *id, const char *method, const char *action)
{
    yyjson_doc *doc;
    char *path;
    TRY(client_path(client, "/v1/batches/", id, action, NULL, &path));
    struct client_request request = {.method = method, .path = path};
    tidemill_error *error = client_ask_json(client, &request, &doc);
    free(path);
    if (error != NULL) return error;
    if (common->is_json)
        client_print_json(yyjson_doc_get_root(doc));
    else
        client_print_batch(yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
    return NULL;
}

static int one_batch(int argc, char **argv, const char *method, const char *action,
                     const char *what, const char *usage)
{
    struct client_common common;
    struct client client = {0};
    const char *id;
    tidemill_error *error = client_parse(argc, argv, NULL, 0, &id, 1, usage, &common);
    if (error == NULL && common.wants_help) {
        printf("Usage: %s\n%s\n\n", usage, what);
        print_options();
        return 0;
    }
    if (error == NULL) error = client_open(&common, &client);
    if (error == NULL) error = show(&client, &common, id, method, action);
    client_close(&client);
    return client_end(error, 0);
}

int cli_status(int argc, char **argv)
{
    return one_batch(argc, argv, "GET", "",
                     "Show a batch: how far it is, and when it will be done.",
                     "tidemill status BATCH [OPTION]...");
}

int cli_cancel(int argc, char **argv)
{
    return one_batch(argc, argv, "POST", "/cancel",
                     "Cancel a batch. What is answered by then is kept: 'tidemill results'.",
                     "tidemill cancel BATCH [OPTION]...");
}

/* --- all of them ----------------------------------------------------------------------------------- */

/* A page behind `after` (NULL: the first), at most `limit`. */
static tidemill_error *ask_page(struct client *client, const char *after, long limit,
                                yyjson_doc **ret)
{
    char before[64], *path;
    snprintf(before, sizeof before, "/v1/batches?limit=%ld%s", MIN(limit, (long)PAGE),
             after != NULL ? "&after=" : "");
    TRY(client_path(client, before, after != NULL ? after : "", "", NULL, &path));
    tidemill_error *error =
        client_ask_json(client, &(struct client_request){.method = "GET", .path = path}, ret);
    free(path);
    return error;
}

/* Prints a page. *ret_last is the last one's id, malloc'ed; NULL: there are no more. */
static tidemill_error *print_page(yyjson_val *page, bool is_json, long *left, char **ret_last)
{
    yyjson_val *data = yyjson_obj_get(page, "data"), *batch, *last = NULL;
    size_t i, n;
    *ret_last = NULL;
    yyjson_arr_foreach(data, i, n, batch)
    {
        if (*left == 0) break;
        --*left;
        last = batch;
        if (is_json)
            client_print_json(batch);
        else
            client_print_batches_line(batch);
    }
    const char *id = yyjson_get_str(yyjson_obj_get(last, "id"));
    if (id == NULL || !yyjson_get_bool(yyjson_obj_get(page, "has_more"))) return NULL;
    *ret_last = strdup(id);
    return *ret_last == NULL ? error_memory() : NULL;
}

static tidemill_error *list(struct client *client, bool is_json, long limit)
{
    char *after = NULL;
    tidemill_error *error = NULL;
    for (bool is_first = true; error == NULL && (is_first || (after != NULL && limit > 0));
         is_first = false) {
        yyjson_doc *doc;
        error = ask_page(client, after, limit, &doc);
        free(after);
        after = NULL;
        if (error != NULL) return error;
        if (is_first && !is_json) client_print_batches_head();
        error = print_page(yyjson_doc_get_root(doc), is_json, &limit, &after);
        yyjson_doc_free(doc);
    }
    free(after);
    return error;
}

static tidemill_error *read_limit(const char *text, long *ret)
{
    char *end;
    *ret = 20;
    if (text == NULL) return NULL;
    *ret = strtol(text, &end, 10);
    if (end != text && *end == '\0' && *ret > 0 && *ret < 1000000000) return NULL;
    return error_new(ERROR_USAGE, "--limit: '%s' is not a number above 0", text);
}

int cli_ls(int argc, char **argv)
{
    struct client_common common;
    struct client client = {0};
    const char *limit_text = NULL;
    long limit = 0;
    const struct client_option options[] = {{"--limit", "N", &limit_text, NULL}};
    tidemill_error *error =
        client_parse(argc, argv, options, 1, NULL, 0, "tidemill ls [--limit=N]", &common);
    if (error == NULL && common.wants_help) {
        puts("Usage: tidemill ls [OPTION]...\nList batches, the newest first.\n\n"
             "      --limit=N     so many at most [default: 20]");
        print_options();
        return 0;
    }
    if (error == NULL) error = read_limit(limit_text, &limit);
    if (error == NULL) error = client_open(&common, &client);
    if (error == NULL) error = list(&client, common.is_json, limit);
    client_close(&client);
    return client_end(error, 0);
}
