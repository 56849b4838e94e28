/* SPDX-License-Identifier: Apache-2.0 */
/* batch_api.c - paths, bodies and objects of both dialects. */
#include "runtime/batch_api.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <yyjson.h>

#define COMPLAINTS_MAX 1000

/* --- addresses --------------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* By the host or the path, as curl reads them. */
static bool is_anthropic(const char *address)
{
    CURLU *url = curl_url();
    char *host = NULL, *path = NULL;
    bool is_it = false;
    if (url != NULL && curl_url_set(url, CURLUPART_URL, address, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK)
        is_it = strcmp(host, "api.anthropic.com") == 0 || ends_with(path, "/v1/messages");
    curl_free(host);
    curl_free(path);
    curl_url_cleanup(url);
    return is_it;
}

tidemill_error *batch_api_open(const char *address, enum http_protocol protocol,
                               struct batch_api *ret)
{
    *ret = (struct batch_api){0};
    if (strstr(address, ",http") != NULL)
        return error_new(ERROR_USAGE, "--via batch: a batch is at one server; name one address");
    ret->dialect = is_anthropic(address) ? BATCH_ANTHROPIC : BATCH_OPENAI;
    TRY(http_target_parse(address, protocol, &ret->target));
    if (ret->target.protocol != PROTOCOL_OPENAI)
        return error_new(ERROR_USAGE,
                         "--via batch needs a server with OpenAI's or Anthropic's batch "
                         "API; leave it out to ask for each record by itself");
    const char *endpoint = ret->dialect == BATCH_ANTHROPIC ? "/v1/messages" : ret->target.path;
    if (asprintf(&ret->base, "%s/v1", ret->target.origin) < 0) ret->base = NULL;
    ret->endpoint = endpoint != NULL ? strndup(endpoint, strcspn(endpoint, "?")) : NULL;
    bool is_short = ret->base == NULL || (endpoint != NULL && ret->endpoint == NULL);
    return is_short ? error_memory() : NULL;
}

void batch_api_close(struct batch_api *api)
{
    http_target_free(&api->target);
    free(api->base);
    free(api->endpoint);
    *api = (struct batch_api){0};
}

char *batch_api_url(const struct batch_api *api, const char *format, ...)
{
    char *path, *url;
    va_list arguments;
    va_start(arguments, format);
    int n = vasprintf(&path, format, arguments);
    va_end(arguments);
    if (n < 0) return NULL;
    n = asprintf(&url, "%s%s", api->base, path);
    free(path);
    return n < 0 ? NULL : url;
}

static bool is_part_equal(CURLU *a, CURLU *b, CURLUPart part)
{
    char *one = NULL, *other = NULL;
    bool is_equal = curl_url_get(a, part, &one, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                    curl_url_get(b, part, &other, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                    strcasecmp(one, other) == 0;
    curl_free(one);
    curl_free(other);
    return is_equal;
}

tidemill_error *batch_api_results_url(const struct batch_api *api, const char *url, char **ret)
{
    CURLU *theirs = curl_url(), *ours = curl_url();
    char *path = NULL;
    bool is_ours = theirs != NULL && ours != NULL &&
                   curl_url_set(theirs, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
                   curl_url_set(ours, CURLUPART_URL, api->target.origin, 0) == CURLUE_OK &&
                   is_part_equal(theirs, ours, CURLUPART_SCHEME) &&
                   is_part_equal(theirs, ours, CURLUPART_HOST) &&
                   is_part_equal(theirs, ours, CURLUPART_PORT) &&
                   curl_url_get(theirs, CURLUPART_URL, &path, 0) == CURLUE_OK;
    *ret = is_ours ? strdup(path) : NULL;
    curl_free(path);
    curl_url_cleanup(theirs);
    curl_url_cleanup(ours);
    if (*ret != NULL) return NULL;
    if (is_ours) return error_memory();
    return error_new(
        ERROR_UNREACHABLE,
        "%s says that its results are at another server, and the key is not sent there",
        api->target.origin);
}

/* --- what is sent ------------------------------------------------------------------------------------------ */

/* What was checked to be a path may still hold a quote. */
static void put_quoted(struct buffer *out, const char *text)
{
    buffer_byte(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') buffer_byte(out, '\\');
        buffer_byte(out, *text);
    }
    buffer_byte(out, '"');
}

/* A body may have been written over several lines: outside of strings, where alone JSON can have line
 * ends, they are white space. */
static void put_on_one_line(struct buffer *out, struct slice body)
{
    size_t start = out->size;
    buffer_append(out, body.data, body.size);
    for (size_t i = start; i < out->size; i++)
        if (out->data[i] == '\n' || out->data[i] == '\r') out->data[i] = ' ';
}

void batch_api_line(const struct batch_api *api, uint64_t index, const char *tag, const char *url,
                    struct slice body, struct buffer *out)
{
    char id[BATCH_ID_BYTES];
    batch_custom_id(api->dialect, index, tag, id);
    buffer_printf(out, "{\"custom_id\":\"%s\",", id);
    if (api->dialect == BATCH_OPENAI) {
        buffer_text(out, "\"method\":\"POST\",\"url\":");
        put_quoted(out, url);
        buffer_text(out, ",\"body\":");
    } else {
        buffer_text(out, "\"params\":");
    }
    put_on_one_line(out, body);
    buffer_byte(out, '}');
}

static void put_json_string(struct buffer *out, const char *text)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *value = doc != NULL ? yyjson_mut_str(doc, text) : NULL;
    char *json = value != NULL ? yyjson_mut_val_write(value, 0, NULL) : NULL;
    if (json != NULL)
        buffer_text(out, json);
    else
        out->is_failed = true;
    free(json);
    yyjson_mut_doc_free(doc);
}

void batch_api_create(const char *file, const char *endpoint, const char *tag, struct buffer *out)
{
    buffer_text(out, "{\"input_file_id\":");
    put_json_string(out, file);
    buffer_text(out, ",\"endpoint\":");
    put_quoted(out, endpoint);
    buffer_printf(out, ",\"completion_window\":\"24h\",\"metadata\":{\"tidemill\":\"%s\"}}", tag);
}

/* --- what comes back --------------------------------------------------------------------------------------- */

static yyjson_doc *read_json(struct slice body)
{
    return body.size > 0 ? yyjson_read(body.data, body.size, 0) : NULL;
}

/* "" counts as absent: servers were seen to send it for null. Ids become parts of paths: what does not
 * look like one is none. */
static char *copy_id(yyjson_val *value)
{
    const char *text = yyjson_get_str(value);
    size_t size = yyjson_get_len(value);
    if (text == NULL || size == 0 || size > 256 || strlen(text) != size) return NULL;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        bool is_fine = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '-' || c == '_' || (c == '.' && i > 0) || c == ':';
        if (!is_fine) return NULL;
    }
    return strdup(text);
}

static void take_text(char *place, size_t size, const char *text)
{
    snprintf(place, size, "%s", text != NULL ? text : "");
    for (char *c = place; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
}

static void read_complaints(yyjson_val *root, struct batch_object *ret)
{
    yyjson_val *list = yyjson_obj_get(yyjson_obj_get(root, "errors"), "data"), *one;
    size_t i, n = MIN(yyjson_arr_size(list), (size_t)COMPLAINTS_MAX), all;
    ret->complaints = n > 0 ? calloc(n, sizeof *ret->complaints) : NULL;
    if (ret->complaints == NULL) return;
    yyjson_arr_foreach(list, i, all, one)
    {
        const char *message = yyjson_get_str(yyjson_obj_get(one, "message"));
        yyjson_val *line = yyjson_obj_get(one, "line");
        if (i >= n) break;
        if (ret->message[0] == '\0') take_text(ret->message, sizeof ret->message, message);
        if (!yyjson_is_uint(line) || yyjson_get_uint(line) == 0) continue;
        struct batch_complaint *complaint = &ret->complaints[ret->n_complaints++];
        complaint->line = yyjson_get_uint(line) - 1;
        take_text(complaint->message, sizeof complaint->message, message);
    }
}

static bool read_openai(yyjson_val *root, struct batch_object *ret)
{
    const char *status = yyjson_get_str(yyjson_obj_get(root, "status"));
    yyjson_val *counts = yyjson_obj_get(root, "request_counts");
    if (status == NULL) return false;
    ret->input_file = copy_id(yyjson_obj_get(root, "input_file_id"));
    ret->output_file = copy_id(yyjson_obj_get(root, "output_file_id"));
    ret->error_file = copy_id(yyjson_obj_get(root, "error_file_id"));
    ret->n_total = yyjson_get_uint(yyjson_obj_get(counts, "total"));
    ret->n_done = yyjson_get_uint(yyjson_obj_get(counts, "completed")) +
                  yyjson_get_uint(yyjson_obj_get(counts, "failed"));
    if (strcmp(status, "completed") == 0 || strcmp(status, "expired") == 0 ||
        strcmp(status, "cancelled") == 0)
        ret->status = BATCH_ENDED;
    if (strcmp(status, "failed") == 0)
        ret->status = ret->output_file != NULL ? BATCH_ENDED : BATCH_FAILED;
    read_complaints(root, ret);
    return true;
}

static uint64_t sum_counts(yyjson_val *counts, bool with_waiting)
{
    static const char *const names[] = {"processing", "succeeded", "errored", "canceled",
                                        "expired"};
    uint64_t sum = 0;
    for (size_t i = with_waiting ? 0 : 1; i < COUNT_OF(names); i++)
        sum += yyjson_get_uint(yyjson_obj_get(counts, names[i]));
    return sum;
}

static bool read_anthropic(yyjson_val *root, struct batch_object *ret)
{
    const char *status = yyjson_get_str(yyjson_obj_get(root, "processing_status"));
    const char *url = yyjson_get_str(yyjson_obj_get(root, "results_url"));
    yyjson_val *counts = yyjson_obj_get(root, "request_counts");
    if (status == NULL) return false;
    ret->n_total = sum_counts(counts, true);
    ret->n_done = sum_counts(counts, false);
    if (url != NULL) ret->results_url = strdup(url);
    if (strcmp(status, "ended") == 0) ret->status = BATCH_ENDED;
    return true;
}

bool batch_object_read(enum batch_dialect dialect, struct slice body, struct batch_object *ret)
{
    *ret = (struct batch_object){0};
    yyjson_doc *doc = read_json(body);
    yyjson_val *root = yyjson_doc_get_root(doc);
    ret->id = copy_id(yyjson_obj_get(root, "id"));
    bool is_good = ret->id != NULL &&
                   (dialect == BATCH_OPENAI ? read_openai(root, ret) : read_anthropic(root, ret));
    yyjson_doc_free(doc);
    if (!is_good) batch_object_free(ret);
    return is_good;
}

void batch_object_free(struct batch_object *object)
{
    free(object->id);
    free(object->input_file);
    free(object->output_file);
    free(object->error_file);
    free(object->results_url);
    free(object->complaints);
    *object = (struct batch_object){0};
}

char *batch_read_id(struct slice body)
{
    yyjson_doc *doc = read_json(body);
    char *id = copy_id(yyjson_obj_get(yyjson_doc_get_root(doc), "id"));
    yyjson_doc_free(doc);
    return id;
}

static bool is_ours(enum batch_dialect dialect, yyjson_val *one, const struct batch_search *search)
{
    const char *id = yyjson_get_str(yyjson_obj_get(one, "id"));
    if (dialect == BATCH_OPENAI) {
        yyjson_val *mark = yyjson_obj_get(yyjson_obj_get(one, "metadata"), "tidemill");
        return yyjson_equals_str(mark, search->tag);
    }
    return id != NULL &&
           sum_counts(yyjson_obj_get(one, "request_counts"), true) == search->n_requests &&
           !search->is_known(search->context, id);
}

bool batch_list_find(enum batch_dialect dialect, struct slice body,
                     const struct batch_search *search, char **ret_id, char **ret_last)
{
    yyjson_doc *doc = read_json(body);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *list = yyjson_obj_get(root, "data"), *one, *last = NULL;
    bool is_list = yyjson_is_arr(list), is_over = false;
    size_t i, n;
    *ret_id = *ret_last = NULL;
    yyjson_arr_foreach(list, i, n, one)
    {
        yyjson_val *id = yyjson_obj_get(one, "id");
        is_over = dialect == BATCH_ANTHROPIC && yyjson_equals_str(id, search->after);
        if (is_over) break;
        last = id;
        if (*ret_id == NULL && is_ours(dialect, one, search)) *ret_id = copy_id(id);
    }
    if (!is_over && yyjson_get_bool(yyjson_obj_get(root, "has_more"))) *ret_last = copy_id(last);
    yyjson_doc_free(doc);
    return is_list;
}

char *batch_list_first(struct slice body)
{
    yyjson_doc *doc = read_json(body);
    yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(doc), "data");
    char *id = NULL;
    if (yyjson_is_arr(list))
        id = yyjson_arr_size(list) == 0 ? strdup("")
                                        : copy_id(yyjson_obj_get(yyjson_arr_get_first(list), "id"));
    yyjson_doc_free(doc);
    return id;
}
