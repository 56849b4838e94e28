/* SPDX-License-Identifier: Apache-2.0 */
/* client_http.c - one question to a server at a time, asked again while it is away for a moment: it may be
 * starting again, or busy. Files are read and sent piece by piece. */
#include "cli/client.h"

#include "plan/plan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVER_DEFAULT "http://127.0.0.1:8080"
#define REPLY_BYTES_MAX ((size_t)64 << 20)
#define PAUSE_S_MAX 5.0
#define PAUSE_S_BASE 0.2
#define SILENCE_S 300L /* without a byte: the server is gone */

/* --- opening ---------------------------------------------------------------------------------------- */

static tidemill_error *set_key(struct client *client)
{
    const char *key = getenv("TIDEMILL_API_KEY");
    char *line;
    if (key == NULL || key[0] == '\0') return NULL;
    if (strpbrk(key, "\r\n") != NULL)
        return error_new(ERROR_USAGE, "$TIDEMILL_API_KEY has a line end in it");
    if (asprintf(&line, "Authorization: Bearer %s", key) < 0) return error_memory();
    client->headers = curl_slist_append(client->headers, line);
    free(line);
    return client->headers == NULL ? error_memory() : NULL;
}

tidemill_error *client_open(const struct client_common *common, struct client *ret)
{
    const char *base = common->server != NULL ? common->server : getenv("TIDEMILL_SERVER");
    *ret = (struct client){.patience_s = CLIENT_PATIENCE_S};
    if (base == NULL || base[0] == '\0') base = SERVER_DEFAULT;
    if (strncmp(base, "http://", 7) != 0 && strncmp(base, "https://", 8) != 0)
        return error_new(ERROR_USAGE, "the server '%s' is not an address such as " SERVER_DEFAULT,
                         base);
    ret->base = strdup(base);
    ret->curl = curl_easy_init();
    if (ret->base == NULL || ret->curl == NULL) return error_memory();
    for (size_t n = strlen(ret->base); n > 0 && ret->base[n - 1] == '/';) ret->base[--n] = '\0';
    return set_key(ret);
}

void client_close(struct client *client)
{
    curl_easy_cleanup(client->curl);
    curl_slist_free_all(client->headers);
    free(client->base);
    *client = (struct client){0};
}

static tidemill_error *escape(struct client *client, const char *text, struct buffer *out)
{
    char *escaped = curl_easy_escape(client->curl, text, 0);
    if (escaped == NULL) return error_memory();
    buffer_text(out, escaped);
    curl_free(escaped);
    return NULL;
}

tidemill_error *client_path(struct client *client, const char *before, const char *part,
                            const char *between, const char *other, char **ret)
{
    struct buffer out = {0};
    *ret = NULL;
    buffer_text(&out, before);
    tidemill_error *error = escape(client, part, &out);
    buffer_text(&out, between);
    if (error == NULL && other != NULL) error = escape(client, other, &out);
    buffer_byte(&out, '\0');
    if (error == NULL && out.is_failed) error = error_memory();
    if (error == NULL) *ret = out.data;
    if (error != NULL) buffer_free(&out);
    return error;
}

/* --- one try ------------------------------------------------------------------------------------------ */

struct attempt {
    const struct client *client;
    const struct client_request *request;
    struct client_reply *reply;
    int fd;                /* of the file that is sent; -1: none */
    bool has_written;      /* the sink was given something */
    bool is_write_refused; /* ... and could not take it */
    int read_errno;
    long retry_after_s;
    char message[CURL_ERROR_SIZE];
};

static size_t take(char *data, size_t size, size_t n, void *context)
{
    struct attempt *attempt = context;
    long status = 0;
    (void)size;
    curl_easy_getinfo(attempt->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (attempt->request->sink != NULL && status / 100 == 2) {
        attempt->has_written = true;
        attempt->is_write_refused = !attempt->request->sink(attempt->request->context, data, n);
        return attempt->is_write_refused ? 0 : n;
    }
    if (attempt->reply->body.size + n > REPLY_BYTES_MAX) return 0;
    buffer_append(&attempt->reply->body, data, n);
    return attempt->reply->body.is_failed ? 0 : n;
}

static size_t take_header(char *data, size_t size, size_t n, void *context)
{
    static const char name[] = "retry-after:";
    struct attempt *attempt = context;
    char text[16];
    (void)size;
    if (n < sizeof name - 1 || curl_strnequal(data, name, sizeof name - 1) == 0) return n;
    snprintf(text, sizeof text, "%.*s", (int)MIN(n - sizeof name + 1, sizeof text - 1),
             data + sizeof name - 1);
    attempt->retry_after_s = strtol(text, NULL, 10);
    return n;
}

static size_t give(char *data, size_t size, size_t n, void *context)
{
    struct attempt *attempt = context;
    ssize_t got = io_local.read(io_local.context, attempt->fd, data, size * n);
    if (got >= 0) return (size_t)got;
    attempt->read_errno = errno;
    return CURL_READFUNC_ABORT;
}

static tidemill_error *open_file(const struct client_request *request, struct attempt *attempt,
                                 curl_off_t *ret_size)
{
    struct stat status;
    *ret_size = -1;
    if (strcmp(request->file, "-") == 0) {
        attempt->fd = STDIN_FILENO;
        return NULL;
    }
    TRY(io_open(&io_local, request->file, O_RDONLY, 0, &attempt->fd));
    if (io_local.fstat(io_local.context, attempt->fd, &status) != 0)
        return error_errno(ERROR_IO, errno, "%s", request->file);
    if (S_ISDIR(status.st_mode)) return error_new(ERROR_INPUT, "%s is a directory", request->file);
    if (S_ISREG(status.st_mode)) *ret_size = status.st_size;
    return NULL;
}

static tidemill_error *set_form(const struct client_request *request, struct attempt *attempt,
                                curl_off_t size, curl_mime **ret)
{
    const char *slash = strrchr(request->file, '/');
    const char *name = strcmp(request->file, "-") == 0 ? "stdin.jsonl"
                       : slash != NULL                 ? slash + 1
                                                       : request->file;
    *ret = curl_mime_init(attempt->client->curl);
    curl_mimepart *purpose = *ret != NULL ? curl_mime_addpart(*ret) : NULL;
    curl_mimepart *file = purpose != NULL ? curl_mime_addpart(*ret) : NULL;
    if (file == NULL || curl_mime_name(purpose, "purpose") != CURLE_OK ||
        curl_mime_data(purpose, "batch", CURL_ZERO_TERMINATED) != CURLE_OK ||
        curl_mime_name(file, "file") != CURLE_OK || curl_mime_filename(file, name) != CURLE_OK ||
        curl_mime_data_cb(file, size, give, NULL, NULL, attempt) != CURLE_OK)
        return error_memory();
    curl_easy_setopt(attempt->client->curl, CURLOPT_MIMEPOST, *ret);
    return NULL;
}

static tidemill_error *set_body(const struct client_request *request, struct attempt *attempt,
                                curl_mime **ret_form)
{
    CURL *curl = attempt->client->curl;
    curl_off_t size;
    if (request->file == NULL) {
        const char *json = request->json != NULL ? request->json : "";
        if (strcmp(request->method, "GET") != 0) curl_easy_setopt(curl, CURLOPT_POSTFIELDS, json);
        return NULL;
    }
    TRY(open_file(request, attempt, &size));
    if (request->is_upload) return set_form(request, attempt, size, ret_form);
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, size);
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, give);
    curl_easy_setopt(curl, CURLOPT_READDATA, attempt);
    return NULL;
}

static tidemill_error *add_header(struct curl_slist **list, const char *name, const char *value)
{
    char *line;
    if (value == NULL) return NULL;
    if (asprintf(&line, "%s: %s", name, value) < 0) return error_memory();
    struct curl_slist *longer = curl_slist_append(*list, line);
    free(line);
    if (longer == NULL) return error_memory();
    *list = longer;
    return NULL;
}

static tidemill_error *set_headers(const struct client_request *request,
                                   const struct client *client, struct curl_slist **ret)
{
    for (const struct curl_slist *header = client->headers; header != NULL; header = header->next) {
        struct curl_slist *longer = curl_slist_append(*ret, header->data);
        if (longer == NULL) return error_memory();
        *ret = longer;
    }
    const char *type = request->file != NULL ? request->type : "application/json";
    TRY(add_header(ret, "Content-Type", request->is_upload ? NULL : type));
    TRY(add_header(ret, "Idempotency-Key", request->idempotency_key));
    return add_header(ret, "Expect", ""); /* so that curl does not wait for a 100 */
}

static void set_transfer(struct attempt *attempt, const char *url)
{
    CURL *curl = attempt->client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SILENCE_S);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, attempt->message);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, attempt);
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST,
                     strcmp(attempt->request->method, "GET") == 0 ? NULL
                                                                  : attempt->request->method);
}

/* What curl says; an error of ours where it could not be asked at all. */
static tidemill_error *try_once(struct client *client, struct attempt *attempt, CURLcode *ret)
{
    char *url;
    struct curl_slist *headers = NULL;
    curl_mime *form = NULL;
    if (asprintf(&url, "%s%s", client->base, attempt->request->path) < 0) return error_memory();
    set_transfer(attempt, url);
    tidemill_error *error = set_headers(attempt->request, client, &headers);
    curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
    if (error == NULL) error = set_body(attempt->request, attempt, &form);
    if (error == NULL) *ret = curl_easy_perform(client->curl);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &attempt->reply->status);
    curl_easy_reset(client->curl);
    curl_mime_free(form);
    curl_slist_free_all(headers);
    if (attempt->fd > STDIN_FILENO) io_close(&io_local, attempt->fd);
    free(url);
    return error;
}

/* --- what it means ---------------------------------------------------------------------------------------- */

/* The message in an error's body, whoever's shape it has. */
static tidemill_error *refused(const struct client_request *request,
                               const struct client_reply *reply)
{
    yyjson_doc *doc = yyjson_read(reply->body.data, reply->body.size, 0);
    yyjson_val *error = yyjson_obj_get(yyjson_doc_get_root(doc), "error");
    const char *message =
        yyjson_get_str(yyjson_is_str(error) ? error : yyjson_obj_get(error, "message"));
    enum error_code code =
        reply->status / 100 == 4 && reply->status != 429 ? ERROR_USAGE : ERROR_UNREACHABLE;
    tidemill_error *told =
        error_new(code, "the server refused %s %s with %ld: %.500s", request->method, request->path,
                  reply->status, message != NULL ? message : "it does not say why");
    yyjson_doc_free(doc);
    return told;
}

static tidemill_error *unreachable(const struct client *client, const struct attempt *attempt,
                                   CURLcode code)
{
    if (attempt->is_write_refused) return error_new(ERROR_IO, "the output cannot be written");
    if (attempt->read_errno != 0)
        return error_errno(ERROR_IO, attempt->read_errno, "%s", attempt->request->file);
    return error_new(ERROR_UNREACHABLE, "%s does not answer: %s%s", client->base,
                     attempt->message[0] != '\0' ? attempt->message : curl_easy_strerror(code),
                     code == CURLE_COULDNT_CONNECT ? "; is 'tidemill serve' running there?" : "");
}

/* Whether the same question may do better, and does no harm if the first was heard. */
static bool may_ask_again(const struct client *client, const struct attempt *attempt, CURLcode code)
{
    const struct client_request *request = attempt->request;
    long status = attempt->reply->status;
    bool is_safe = strcmp(request->method, "GET") == 0 || request->idempotency_key != NULL;
    bool is_once = request->file != NULL && strcmp(request->file, "-") == 0;
    if (attempt->is_write_refused || attempt->read_errno != 0 || is_once) return false;
    if (attempt->has_written) return false; /* the sink's owner goes on where it is */
    if (code == CURLE_OK)
        return status == 429 || status == 503 || (is_safe && (status == 502 || status == 504));
    if (!client->was_reached) return false;
    return is_safe || code == CURLE_COULDNT_CONNECT;
}

static void pause_s(double seconds)
{
    usleep((useconds_t)(seconds * 1e6));
}

tidemill_error *client_ask(struct client *client, const struct client_request *request,
                           struct client_reply *ret)
{
    uint64_t random = (uint64_t)clock_now_ns();
    double end_s = clock_now_s() + client->patience_s;
    for (uint32_t n = 0;; n++) {
        struct attempt attempt = {.client = client, .request = request, .reply = ret, .fd = -1};
        CURLcode code = CURLE_OK;
        *ret = (struct client_reply){0};
        tidemill_error *error = try_once(client, &attempt, &code);
        if (error == NULL && code == CURLE_OK && ret->status / 100 == 2) {
            client->was_reached = true;
            return NULL;
        }
        bool again = error == NULL && may_ask_again(client, &attempt, code);
        if (code == CURLE_OK) client->was_reached = true;
        double wait_s = MAX(backoff_s(PAUSE_S_BASE, PAUSE_S_MAX, n, &random),
                            (double)MIN(attempt.retry_after_s, 60L));
        again = again && clock_now_s() + wait_s < end_s;
        if (error == NULL && !again)
            error = code == CURLE_OK ? refused(request, ret) : unreachable(client, &attempt, code);
        buffer_free(&ret->body);
        if (!again) return error;
        pause_s(wait_s);
    }
}

void client_reply_free(struct client_reply *reply)
{
    buffer_free(&reply->body);
}

tidemill_error *client_ask_json(struct client *client, const struct client_request *request,
                                yyjson_doc **ret)
{
    struct client_reply reply;
    *ret = NULL;
    TRY(client_ask(client, request, &reply));
    *ret = yyjson_read(reply.body.data, reply.body.size, 0);
    client_reply_free(&reply);
    if (*ret != NULL && yyjson_is_obj(yyjson_doc_get_root(*ret))) return NULL;
    yyjson_doc_free(*ret);
    *ret = NULL;
    return error_new(ERROR_UNREACHABLE, "%s%s did not answer with a JSON object; is it tidemill?",
                     client->base, request->path);
}
