/* SPDX-License-Identifier: Apache-2.0 */
/* client_results.c - tidemill results and get: what a server has answered.
 *
 * While a batch runs its answers come in input order and never change, so a stream that breaks off goes
 * on behind the bytes that were written: those are passed over when they come again. */
#include "cli/cli.h"
#include "cli/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_S 1

struct output {
    int fd;
    const char *path; /* for messages */
    uint64_t written; /* bytes of the answers */
    uint64_t skip;    /* of what comes next: they are there already */
    tidemill_error *error;
};

static bool put(void *context, const char *data, size_t size)
{
    struct output *output = context;
    size_t skipped = (size_t)MIN(output->skip, (uint64_t)size);
    output->skip -= skipped;
    output->error =
        io_write_all(&io_local, output->fd, output->path, data + skipped, size - skipped);
    if (output->error == NULL) output->written += size - skipped;
    return output->error == NULL;
}

static tidemill_error *open_output(const char *path, struct output *ret)
{
    *ret = (struct output){.fd = STDOUT_FILENO, .path = "standard output"};
    if (path == NULL || strcmp(path, "-") == 0) return NULL;
    ret->path = path;
    return io_open(&io_local, path, O_WRONLY | O_CREAT | O_TRUNC, 0666, &ret->fd);
}

static tidemill_error *close_output(struct output *output, tidemill_error *error)
{
    bool is_file = output->fd != STDOUT_FILENO && output->fd >= 0;
    if (is_file && error == NULL && io_local.fsync(io_local.context, output->fd) != 0)
        error = error_new(ERROR_IO, "%s: cannot be synced", output->path);
    if (is_file) io_close(&io_local, output->fd);
    return error;
}

/* Asks for a body, to the output. What the output said counts more than what curl makes of it. */
static tidemill_error *fetch(struct client *client, const char *path, struct output *output)
{
    struct client_reply reply = {0};
    struct client_request request = {.method = "GET", .path = path, .sink = put, .context = output};
    tidemill_error *error = client_ask(client, &request, &reply);
    client_reply_free(&reply);
    if (output->error == NULL) return error;
    error_free(error);
    error = output->error;
    output->error = NULL;
    return error;
}

/* --- a batch's answers ---------------------------------------------------------------------------- */

static tidemill_error *look(struct client *client, const char *id, yyjson_doc **ret)
{
    char *path;
    TRY(client_path(client, "/v1/batches/", id, "", NULL, &path));
    tidemill_error *error =
        client_ask_json(client, &(struct client_request){.method = "GET", .path = path}, ret);
    free(path);
    return error;
}

/* One stream of what is answered, from its beginning. *ret_is_cut: it broke off on its way. */
static tidemill_error *stream(struct client *client, const char *id, bool follows,
                              struct output *output, bool *ret_is_cut)
{
    char *path;
    uint64_t before = output->written;
    output->skip = output->written;
    TRY(client_path(client, "/v1/batches/", id, follows ? "/results?follow=true" : "/results", NULL,
                    &path));
    tidemill_error *error = fetch(client, path, output);
    free(path);
    *ret_is_cut = error_code_of(error) == ERROR_UNREACHABLE && client->was_reached &&
                  (output->written > before || follows);
    if (!*ret_is_cut) return error;
    error_free(error);
    return NULL;
}

/* Streams until the batch is over and all of it has come. */
static tidemill_error *follow(struct client *client, const char *id, struct output *output,
                              yyjson_doc **batch)
{
    client->patience_s = CLIENT_PATIENCE_WAITING_S;
    for (;;) {
        bool is_cut;
        bool was_over = client_batch_is_over(yyjson_doc_get_root(*batch));
        TRY(stream(client, id, true, output, &is_cut));
        if (was_over && !is_cut) return NULL;
        yyjson_doc_free(*batch);
        *batch = NULL;
        TRY(look(client, id, batch));
        if (!client_batch_is_over(yyjson_doc_get_root(*batch))) sleep(LOOK_S);
    }
}

/* The file with what failed. */
static tidemill_error *fetch_errors(struct client *client, yyjson_val *batch, const char *path)
{
    const char *id = yyjson_get_str(yyjson_obj_get(batch, "error_file_id"));
    struct output output;
    char *url = NULL;
    TRY(open_output(path, &output));
    tidemill_error *error = NULL;
    if (id != NULL && id[0] != '\0') {
        error = client_path(client, "/v1/files/", id, "/content", NULL, &url);
        if (error == NULL) error = fetch(client, url, &output);
        free(url);
    }
    return close_output(&output, error);
}

static tidemill_error *results(struct client *client, const char *id, bool follows,
                               struct output *output, const char *errors, int *ret_status)
{
    yyjson_doc *batch;
    bool is_cut = false;
    TRY(look(client, id, &batch));
    tidemill_error *error =
        follows ? follow(client, id, output, &batch) : stream(client, id, false, output, &is_cut);
    yyjson_val *root = yyjson_doc_get_root(batch);
    bool is_over = client_batch_is_over(root);
    if (error == NULL && is_cut)
        error = error_new(ERROR_UNREACHABLE, "the answers broke off; ask again");
    if (error == NULL && is_over && errors != NULL) error = fetch_errors(client, root, errors);
    if (error == NULL && !is_over)
        error =
            error_new(ERROR_INTERRUPTED, "%s is not done yet; these are its answers so far", id);
    *ret_status = is_over ? client_batch_status(root) : 0;
    yyjson_doc_free(batch);
    return error;
}

tidemill_error *client_results(struct client *client, const char *id, bool follows,
                               const char *output_path, const char *errors_path, int *ret_status)
{
    struct output output;
    TRY(open_output(output_path, &output));
    return close_output(&output, results(client, id, follows, &output, errors_path, ret_status));
}

static void print_results_help(void)
{
    puts(
        "Usage: tidemill results BATCH [OPTION]...\n"
        "Write a batch's answers, one a line, to standard output; those that there are so far, "
        "while it\nruns.\n\n"
        "      --follow        wait for the others\n"
        "      --output=FILE   write them there\n"
        "      --errors=FILE   write what failed there, once the batch is done\n"
        "      --server=URL    the server; $TIDEMILL_SERVER, or http://127.0.0.1:8080, by default\n"
        "  -h, --help          show this help\n\n"
        "Exit status: 0 all answered; 1 some failed; 2 refused; 3 the server does not answer; 75 "
        "not done yet.");
}

int cli_results(int argc, char **argv)
{
    struct client_common common;
    struct client client = {0};
    const char *id, *output = NULL, *errors = NULL;
    bool follows = false;
    int status = 0;
    const struct client_option options[] = {{"--follow", NULL, NULL, &follows},
                                            {"--output", "FILE", &output, NULL},
                                            {"--errors", "FILE", &errors, NULL}};
    tidemill_error *error = client_parse(argc, argv, options, COUNT_OF(options), &id, 1,
                                         "tidemill results BATCH [OPTION]...", &common);
    if (error == NULL && common.wants_help) {
        print_results_help();
        return 0;
    }
    if (error == NULL) error = client_open(&common, &client);
    if (error == NULL) error = client_results(&client, id, follows, output, errors, &status);
    client_close(&client);
    return client_end(error, status);
}

/* --- an answer by its key ------------------------------------------------------------------------- */

static void print_get_help(void)
{
    puts(
        "Usage: tidemill get QUEUE KEY [OPTION]...\n"
        "Print what the queue's last windows answered under a key.\n\n"
        "      --server=URL    the server; $TIDEMILL_SERVER, or http://127.0.0.1:8080, by default\n"
        "  -h, --help          show this help\n\n"
        "Exit status: 0 there is an answer; 1 there is none; 2 refused; 3 the server does not "
        "answer.");
}

static tidemill_error *get(struct client *client, const char *const *words, int *ret_status)
{
    struct client_reply reply = {0};
    char *path;
    TRY(client_path(client, "/v1/results/", words[0], "/", words[1], &path));
    tidemill_error *error =
        client_ask(client, &(struct client_request){.method = "GET", .path = path}, &reply);
    free(path);
    *ret_status = reply.status == 404 || reply.status == 202 ? 1 : 0;
    if (error == NULL) {
        fwrite(reply.body.data, 1, reply.body.size, stdout);
        if (reply.body.size == 0 || reply.body.data[reply.body.size - 1] != '\n') putchar('\n');
    } else if (*ret_status == 1) { /* nothing is wrong: there is no answer */
        log_event(LOG_INFO, "%s", error_message(error));
        error_free(error);
        error = NULL;
    }
    client_reply_free(&reply);
    return error;
}

int cli_get(int argc, char **argv)
{
    struct client_common common;
    struct client client = {0};
    const char *words[2];
    int status = 0;
    tidemill_error *error =
        client_parse(argc, argv, NULL, 0, words, 2, "tidemill get QUEUE KEY [OPTION]...", &common);
    if (error == NULL && common.wants_help) {
        print_get_help();
        return 0;
    }
    if (error == NULL) error = client_open(&common, &client);
    if (error == NULL) error = get(&client, words, &status);
    client_close(&client);
    return client_end(error, status);
}
