/* SPDX-License-Identifier: Apache-2.0 */
/* client_submit.c - tidemill submit: a file of requests becomes a batch, or goes into a queue. */
#include "cli/cli.h"
#include "cli/client.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES ((size_t)64 << 10)
#define ENDPOINT_DEFAULT "/v1/chat/completions"

struct submission {
    const char *file, *endpoint, *queue, *window, *budget, *output, *errors;
    bool waits;
    struct client_common common;
    struct client client;
    char key[33]; /* of this submission: who asks again for a lost answer gets the same batch */
};

static void print_help(void)
{
    puts(
        "Usage: tidemill submit FILE [OPTION]...\n"
        "Send a file of requests to a server. Without --queue it becomes a batch (OpenAI's format: "
        "one\n{\"custom_id\", \"method\", \"url\", \"body\"} a line), and its id is printed; with "
        "--queue each line is a\nrecord of that queue. FILE may be - for standard input.\n\n"
        "      --endpoint=PATH  what the requests are for; the first one's url by default\n"
        "      --window=TIME    how long the batch may take [default: 24h]\n"
        "      --budget=USD     stop the batch before it costs more\n"
        "      --wait           wait until the batch is done\n"
        "      --output=FILE    with --wait: write the answers there\n"
        "      --errors=FILE    with --wait: write what failed there\n"
        "      --queue=NAME     put the records into this queue instead\n"
        "      --server=URL     the server; $TIDEMILL_SERVER, or http://127.0.0.1:8080, by "
        "default\n"
        "      --json           print JSON\n"
        "  -h, --help           show this help\n\n"
        "$TIDEMILL_API_KEY is sent as the key. Exit status: 0 sent (with --wait: all answered); 1 "
        "some\nfailed; 2 refused, or the file is not valid; 3 the server does not answer.");
}

/* --- a batch -------------------------------------------------------------------------------------- */

/* The url of the file's first line, malloc'ed; NULL: it has none. */
static tidemill_error *peek_endpoint(const char *path, char **ret)
{
    int fd;
    size_t size = 0;
    *ret = NULL;
    if (strcmp(path, "-") == 0) return NULL;
    char *head = malloc(HEAD_BYTES);
    if (head == NULL) return error_memory();
    tidemill_error *error = io_open(&io_local, path, O_RDONLY, 0, &fd);
    if (error == NULL) {
        error = io_read_all(&io_local, fd, path, head, HEAD_BYTES, &size);
        io_close(&io_local, fd);
    }
    const char *end = memchr(head, '\n', size);
    yyjson_doc *doc = yyjson_read(head, end != NULL ? (size_t)(end - head) : size, 0);
    const char *url = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "url"));
    if (url != NULL) *ret = strdup(url);
    yyjson_doc_free(doc);
    free(head);
    return error;
}

static tidemill_error *write_request(const struct submission *submission, const char *file_id,
                                     const char *endpoint, char **ret)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    if (doc == NULL || root == NULL) return error_memory();
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "input_file_id", file_id);
    yyjson_mut_obj_add_str(doc, root, "endpoint", endpoint);
    yyjson_mut_obj_add_str(doc, root, "completion_window", submission->window);
    if (submission->budget != NULL) yyjson_mut_obj_add_str(doc, root, "budget", submission->budget);
    *ret = yyjson_mut_write(doc, 0, NULL);
    yyjson_mut_doc_free(doc);
    return *ret == NULL ? error_memory() : NULL;
}

static tidemill_error *create(struct submission *submission, const char *file_id,
                              const char *endpoint, yyjson_doc **ret)
{
    char *json;
    TRY(write_request(submission, file_id, endpoint, &json));
    struct client_request request = {
        .method = "POST", .path = "/v1/batches", .json = json, .idempotency_key = submission->key};
    tidemill_error *error = client_ask_json(&submission->client, &request, ret);
    free(json);
    return error;
}

static tidemill_error *upload(struct submission *submission, const char *endpoint, yyjson_doc **ret)
{
    yyjson_doc *file;
    struct client_request request = {
        .method = "POST", .path = "/v1/files", .file = submission->file, .is_upload = true};
    TRY(client_ask_json(&submission->client, &request, &file));
    const char *id = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(file), "id"));
    tidemill_error *error =
        id != NULL ? create(submission, id, endpoint, ret)
                   : error_new(ERROR_UNREACHABLE, "the server took the file and gave it no id");
    yyjson_doc_free(file);
    return error;
}

static tidemill_error *ask_again(struct submission *submission, const char *id, yyjson_doc **doc)
{
    char *path;
    yyjson_doc *now;
    TRY(client_path(&submission->client, "/v1/batches/", id, "", NULL, &path));
    tidemill_error *error = client_ask_json(
        &submission->client, &(struct client_request){.method = "GET", .path = path}, &now);
    free(path);
    if (error != NULL) return error;
    yyjson_doc_free(*doc);
    *doc = now;
    return NULL;
}

/* Looks less often the longer it takes. */
static tidemill_error *wait_for(struct submission *submission, const char *id, yyjson_doc **doc)
{
    struct timespec pause = {.tv_nsec = 200000000};
    submission->client.patience_s = CLIENT_PATIENCE_WAITING_S;
    while (!client_batch_is_over(yyjson_doc_get_root(*doc))) {
        nanosleep(&pause, NULL);
        if (pause.tv_sec < 5) pause = (struct timespec){.tv_sec = pause.tv_sec + 1};
        TRY(ask_again(submission, id, doc));
    }
    return NULL;
}

static tidemill_error *finish(struct submission *submission, const char *id, yyjson_doc **doc,
                              int *ret_status)
{
    TRY(wait_for(submission, id, doc));
    *ret_status = client_batch_status(yyjson_doc_get_root(*doc));
    if (submission->output == NULL && submission->errors == NULL) return NULL;
    return client_results(&submission->client, id, true,
                          submission->output != NULL ? submission->output : "/dev/null",
                          submission->errors, ret_status);
}

static tidemill_error *submit_batch(struct submission *submission, int *ret_status)
{
    yyjson_doc *doc = NULL;
    char *found = NULL;
    TRY(peek_endpoint(submission->file, &found));
    const char *endpoint = submission->endpoint != NULL ? submission->endpoint
                           : found != NULL              ? found
                                                        : ENDPOINT_DEFAULT;
    tidemill_error *error = upload(submission, endpoint, &doc);
    free(found);
    if (error != NULL) return error;
    const char *id = yyjson_get_str(yyjson_obj_get(yyjson_doc_get_root(doc), "id"));
    char *copy = strdup(id != NULL ? id : "");
    if (copy == NULL) error = error_memory();
    if (error == NULL && !submission->common.is_json) puts(copy);
    fflush(stdout); /* known before it is waited for */
    if (error == NULL && submission->waits) error = finish(submission, copy, &doc, ret_status);
    if (error == NULL && submission->common.is_json) client_print_json(yyjson_doc_get_root(doc));
    if (error == NULL && submission->waits && !submission->common.is_json)
        client_print_batch(yyjson_doc_get_root(doc));
    free(copy);
    yyjson_doc_free(doc);
    return error;
}

/* --- a queue -------------------------------------------------------------------------------------- */

/* Lines that are no records cost themselves: some failed. */
static tidemill_error *submit_records(struct submission *submission, int *ret_status)
{
    char *path;
    yyjson_doc *doc;
    TRY(client_path(&submission->client, "/v1/queues/", submission->queue, "/requests", NULL,
                    &path));
    struct client_request request = {.method = "POST",
                                     .path = path,
                                     .file = submission->file,
                                     .type = "application/x-ndjson",
                                     .idempotency_key = submission->key};
    tidemill_error *error = client_ask_json(&submission->client, &request, &doc);
    free(path);
    if (error != NULL) return error;
    yyjson_val *receipt = yyjson_doc_get_root(doc);
    *ret_status = yyjson_get_uint(yyjson_obj_get(receipt, "rejected")) > 0 ? 1 : 0;
    client_print_json(receipt);
    yyjson_doc_free(doc);
    return NULL;
}

/* --- what was asked for --------------------------------------------------------------------------- */

static tidemill_error *check(const struct submission *submission)
{
    const struct submission *s = submission;
    bool is_batch = s->endpoint != NULL || s->budget != NULL || s->waits || s->window != NULL;
    if (s->queue != NULL && is_batch)
        return error_new(ERROR_USAGE,
                         "--queue has a window of its own, which answers all that is in "
                         "it; leave out --endpoint, --window, --budget and --wait");
    if (!s->waits && (s->output != NULL || s->errors != NULL))
        return error_new(ERROR_USAGE, "--output and --errors go with --wait; "
                                      "'tidemill results' has them later");
    return NULL;
}

static void make_key(char key[33])
{
    unsigned char bytes[16];
    randombytes_buf(bytes, sizeof bytes);
    sodium_bin2hex(key, 33, bytes, sizeof bytes);
}

static tidemill_error *parse(int argc, char **argv, struct submission *ret)
{
    const struct client_option options[] = {
        {"--endpoint", "PATH", &ret->endpoint, NULL}, {"--window", "TIME", &ret->window, NULL},
        {"--budget", "USD", &ret->budget, NULL},      {"--wait", NULL, NULL, &ret->waits},
        {"--output", "FILE", &ret->output, NULL},     {"--errors", "FILE", &ret->errors, NULL},
        {"--queue", "NAME", &ret->queue, NULL},
    };
    TRY(client_parse(argc, argv, options, COUNT_OF(options), &ret->file, 1,
                     "tidemill submit FILE [OPTION]...", &ret->common));
    TRY(check(ret));
    if (ret->window == NULL) ret->window = "24h";
    if (sodium_init() < 0) return error_new(ERROR_INTERNAL, "no source of random numbers");
    make_key(ret->key);
    return NULL;
}

int cli_submit(int argc, char **argv)
{
    struct submission submission = {0};
    int status = 0;
    tidemill_error *error = parse(argc, argv, &submission);
    if (error == NULL && submission.common.wants_help) {
        print_help();
        return 0;
    }
    if (error == NULL) error = client_open(&submission.common, &submission.client);
    if (error == NULL)
        error = submission.queue != NULL ? submit_records(&submission, &status)
                                         : submit_batch(&submission, &status);
    client_close(&submission.client);
    return client_end(error, status);
}
