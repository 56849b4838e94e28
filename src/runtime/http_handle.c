/* SPDX-License-Identifier: Apache-2.0 */
/* http_handle.c - libcurl's options, each with its reason, and what an ended transfer means. */
#include "runtime/http_handle.h"

#include "runtime/http_protocol.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define CONNECT_TIMEOUT_MS 10000L
/* An answer that has begun brings so much in each window, or is given up. */
#define SLOW_WINDOW_NS (60 * INT64_C(1000000000))
#define SLOW_BYTES 1024

#define KEY_PIECE_MIN 4 /* bytes of a key that are a secret */

struct http_common {
    struct curl_slist *headers, *form_headers;
    struct buffer key; /* with a NUL; empty: none */
    char *ca_file;
    bool is_insecure;
};

/* --- what all requests have in common ------------------------------------------------------------- */

static pthread_once_t is_started = PTHREAD_ONCE_INIT;

static void start_library(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void free_headers(struct curl_slist *headers)
{
    for (struct curl_slist *item = headers; item != NULL; item = item->next)
        explicit_bzero(item->data, strlen(item->data));
    curl_slist_free_all(headers);
}

static bool append(struct curl_slist **list, const char *header)
{
    struct curl_slist *longer = curl_slist_append(*list, header);
    if (longer != NULL) *list = longer;
    return longer != NULL;
}

static bool is_named(const char *header, const char *name)
{
    size_t size = strlen(name);
    return strncasecmp(header, name, size) == 0 && header[size] == ':';
}

static bool has(const struct curl_slist *list, const char *name)
{
    for (; list != NULL; list = list->next)
        if (is_named(list->data, name)) return true;
    return false;
}

tidemill_error *http_common_add(struct http_common *common, const char *header)
{
    const char *colon = strchr(header, ':');
    size_t name_size = colon == NULL ? 0 : (size_t)(colon - header);
    if (name_size == 0 || strcspn(header, " \t") < name_size) /* not shown: it may hold a secret */
        return error_new(ERROR_USAGE,
                         "--header: NAME:VALUE is needed; the name has no blanks, and a "
                         "colon follows it");
    if (strpbrk(header, "\r\n") != NULL)
        return error_new(ERROR_USAGE, "--header %.*s: a line's end in a header", (int)name_size,
                         header);
    /* a form's Content-Type names its boundary: that is libcurl's */
    bool is_fine = append(&common->headers, header) &&
                   (is_named(header, "Content-Type") || append(&common->form_headers, header));
    return is_fine ? NULL : error_memory();
}

static tidemill_error *add_key(struct http_common *common, const char *name, const char *scheme)
{
    struct buffer header = {0};
    if (common->key.size == 0) return NULL;
    buffer_printf(&header, "%s: %s%s", name, scheme, common->key.data);
    buffer_byte(&header, '\0');
    tidemill_error *error =
        header.is_failed ? error_memory() : http_common_add(common, header.data);
    if (header.data != NULL) explicit_bzero(header.data, header.size);
    buffer_free(&header);
    return error;
}

/* Takes the header out that begins with `name` and a colon. */
static void drop(struct curl_slist **list, const char *name)
{
    struct curl_slist *kept = NULL;
    for (struct curl_slist *item = *list; item != NULL; item = item->next)
        if (!is_named(item->data, name)) append(&kept, item->data);
    free_headers(*list);
    *list = kept;
}

tidemill_error *http_common_name_key(struct http_common *common, const char *name)
{
    drop(&common->headers, "Authorization");
    drop(&common->form_headers, "Authorization");
    return add_key(common, name, "");
}

static tidemill_error *fill(struct http_common *common, const struct http_options *options)
{
    common->is_insecure = options->is_insecure;
    if (options->ca_file != NULL && (common->ca_file = strdup(options->ca_file)) == NULL)
        return error_memory();
    if (options->key != NULL && options->key[0] != '\0') {
        if (strpbrk(options->key, "\r\n") != NULL)
            return error_new(ERROR_USAGE, "the API key has a line's end in it");
        buffer_append(&common->key, options->key, strlen(options->key) + 1);
    }
    if (common->key.is_failed) return error_memory();
    for (size_t i = 0; i < options->n_headers; i++)
        TRY(http_common_add(common, options->headers[i]));
    /* what the user says comes instead of ours */
    bool is_fine = append(&common->headers, "Expect:") && append(&common->form_headers, "Expect:");
    if (is_fine && !has(common->headers, "Content-Type"))
        is_fine = append(&common->headers, "Content-Type: application/json");
    if (!is_fine) return error_memory();
    return has(common->headers, "Authorization") ? NULL
                                                 : add_key(common, "Authorization", "Bearer ");
}

tidemill_error *http_common_new(const struct http_options *options, struct http_common **ret)
{
    pthread_once(&is_started, start_library);
    struct http_common *common = calloc(1, sizeof *common);
    if (common == NULL) return error_memory();
    tidemill_error *error = fill(common, options);
    if (error != NULL)
        http_common_free(common);
    else
        *ret = common;
    return error;
}

void http_common_redact(const struct http_common *common, char *text)
{
    char *found = common->key.size > 1 ? strstr(text, common->key.data) : NULL;
    for (; found != NULL; found = strstr(found, common->key.data))
        memset(found, '*', common->key.size - 1);
    /* texts are cut to fit, perhaps in the middle of a key */
    size_t size = strlen(text);
    for (size_t n = MIN(common->key.size, size); n >= KEY_PIECE_MIN; n--) {
        if (memcmp(text + size - n, common->key.data, n) != 0) continue;
        memset(text + size - n, '*', n);
        return;
    }
}

void http_common_free(struct http_common *common)
{
    if (common == NULL) return;
    free_headers(common->headers);
    free_headers(common->form_headers);
    if (common->key.data != NULL) explicit_bzero(common->key.data, common->key.size);
    buffer_free(&common->key);
    free(common->ca_file);
    free(common);
}

/* --- what comes back -------------------------------------------------------------------------------- */

void http_response_reset(struct http_response *response)
{
    struct buffer body = response->body;
    http_sink sink = response->sink;
    void *context = response->sink_context;
    buffer_reset(&body, (size_t)1 << 20);
    *response = (struct http_response){
        .body = body, .sink = sink, .sink_context = context, .retry_after_ms = -1};
}

void http_response_free(struct http_response *response)
{
    buffer_free(&response->body);
}

static size_t take_body(char *data, size_t size, size_t n, void *argument)
{
    struct http_response *response = argument;
    size_t bytes = size * n;
    response->bytes += bytes;
    if (response->sink != NULL) {
        response->is_sink_full = !response->sink(response->sink_context, data, bytes);
        return response->is_sink_full ? CURL_WRITEFUNC_ERROR : bytes;
    }
    response->is_too_large = response->bytes > HTTP_ANSWER_BYTES_MAX;
    if (response->is_too_large) return CURL_WRITEFUNC_ERROR;
    buffer_append(&response->body, data, bytes);
    return response->body.is_failed ? CURL_WRITEFUNC_ERROR : bytes;
}

/* The value of a header of this name, without spaces around it; false: it is another one. */
static bool header_value(const char *line, size_t size, const char *name, char *value,
                         size_t value_size)
{
    size_t name_size = strlen(name);
    if (size <= name_size || strncasecmp(line, name, name_size) != 0 || line[name_size] != ':')
        return false;
    const char *p = line + name_size + 1, *end = line + size;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    snprintf(value, value_size, "%.*s", (int)MIN((size_t)(end - p), value_size - 1), p);
    return true;
}

/* Seconds, or a date (RFC 9110, 10.2.3). What is neither is not told. */
static int64_t parse_retry_after(const char *text)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end != text && *end == '\0')
        return seconds >= 0 && seconds < 1e9 ? (int64_t)(seconds * 1e3) : -1;
    time_t date = curl_getdate(text, NULL);
    return date < 0 ? -1 : MAX((int64_t)(date - time(NULL)), INT64_C(0)) * 1000;
}

static size_t take_header(char *line, size_t size, size_t n, void *argument)
{
    struct http_response *response = argument;
    char text[64];
    size_t bytes = size * n;
    if (bytes > 9 && memcmp(line, "HTTP/", 5) == 0) { /* also after a 100 or a proxy's answer */
        const char *space = memchr(line, ' ', bytes);
        response->status = space == NULL ? 0 : strtol(space, NULL, 10);
    } else if (header_value(line, bytes, "Retry-After", text, sizeof text)) {
        response->retry_after_ms = parse_retry_after(text);
    }
    header_value(line, bytes, "Content-Type", response->content_type,
                 sizeof response->content_type);
    header_value(line, bytes, "Location", response->location, sizeof response->location);
    return bytes;
}

/* A model may think for long before its answer begins; then it comes. */
static int watch_rate(void *argument, curl_off_t total, curl_off_t now, curl_off_t up_total,
                      curl_off_t up_now)
{
    (void)total, (void)now, (void)up_total, (void)up_now;
    struct http_response *response = argument;
    int64_t now_ns = clock_now_ns();
    if (response->bytes == 0) return 0;
    if (response->slow_since_ns == 0) response->slow_since_ns = now_ns;
    if (now_ns - response->slow_since_ns < SLOW_WINDOW_NS) return 0;
    response->is_too_slow = response->bytes - response->slow_bytes < SLOW_BYTES;
    response->slow_since_ns = now_ns;
    response->slow_bytes = response->bytes;
    return response->is_too_slow;
}

/* --- one request --------------------------------------------------------------------------------------- */

static void set_method(CURL *handle, const struct http_common *common,
                       const struct http_request *request)
{
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER,
                     request->is_form ? common->form_headers : common->headers);
    if (strcmp(request->method, "POST") == 0 && !request->is_form) {
        curl_easy_setopt(handle, CURLOPT_POST, 1L);
        curl_easy_setopt(handle, CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
        curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_bytes);
    } else if (strcmp(request->method, "GET") == 0) {
        curl_easy_setopt(handle, CURLOPT_HTTPGET, 1L);
    } else if (!request->is_form) {
        curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

bool http_handle_prepare(CURL *handle, const struct http_common *common,
                         const struct http_request *request, struct http_response *response)
{
    curl_easy_reset(handle);
    http_response_reset(response);
    bool is_fine = curl_easy_setopt(handle, CURLOPT_URL, request->url) == CURLE_OK;
    set_method(handle, common, request);
    /* nothing but HTTP, and nowhere but here */
    curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(handle, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(handle, CURLOPT_SSL_VERIFYPEER, common->is_insecure ? 0L : 1L);
    curl_easy_setopt(handle, CURLOPT_SSL_VERIFYHOST, common->is_insecure ? 0L : 2L);
    if (common->ca_file != NULL)
        is_fine &= curl_easy_setopt(handle, CURLOPT_CAINFO, common->ca_file) == CURLE_OK;
    curl_easy_setopt(handle, CURLOPT_USERAGENT, "tidemill/" TIDEMILL_VERSION);
    curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);      /* other threads run */
    curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L); /* one that lost its power says nothing */
    curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    if (response->sink == NULL) /* what says that it is too large need not be read */
        curl_easy_setopt(handle, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)HTTP_ANSWER_BYTES_MAX);
    curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(handle, CURLOPT_WRITEDATA, response);
    curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(handle, CURLOPT_HEADERDATA, response);
    curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, response->error);
    /* never too slow for libcurl, but it looks once a second: else watch_rate is not asked when nothing
     * comes */
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, 1000000L);
    curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, watch_rate);
    curl_easy_setopt(handle, CURLOPT_XFERINFODATA, response);
    /* what is not asked for is not unpacked: no CURLOPT_ACCEPT_ENCODING */
    return is_fine;
}

/* --- what became of it ------------------------------------------------------------------------------- */

/* Whether a request went out. Times of connecting do not tell: they are 0 on a connection used again. */
static bool is_sent(CURL *handle)
{
    long bytes = 0;
    curl_easy_getinfo(handle, CURLINFO_REQUEST_SIZE, &bytes);
    return bytes > 0;
}

static enum http_outcome outcome_of_code(CURL *handle, CURLcode code,
                                         const struct http_response *response)
{
    if (response->is_too_large || response->is_sink_full) return HTTP_TOO_LARGE;
    switch (code) {
    case CURLE_FILESIZE_EXCEEDED: return HTTP_TOO_LARGE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR: return HTTP_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT: return is_sent(handle) ? HTTP_TIMED_OUT : HTTP_UNREACHABLE;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_URL_MALFORMAT: return HTTP_HOPELESS;
    default: return HTTP_FAILED;
    }
}

static enum http_outcome outcome_of_status(long status)
{
    if (status >= 200 && status < 300) return HTTP_ANSWERED;
    if (status == 429) return HTTP_BUSY;
    if (status == 401 || status == 403 || status == 407) return HTTP_HOPELESS;
    if (status >= 300 && status < 400) return HTTP_HOPELESS;
    if (status == 408 || status == 425) return HTTP_FAILED;
    if (status >= 400 && status < 500) return HTTP_REFUSED;
    return status == 501 || status == 505 ? HTTP_REFUSED : HTTP_FAILED;
}

static const char *advice_for(CURLcode code)
{
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION: return "; --ca-file names certificates to trust";
    case CURLE_SSL_CACERT_BADFILE: return "; is --ca-file right?";
    case CURLE_SSL_CONNECT_ERROR: return "; does it speak https?";
    case CURLE_UNSUPPORTED_PROTOCOL: return "; the answer is no HTTP";
    default: return "";
    }
}

static void describe_code(CURL *handle, CURLcode code, const struct http_response *response,
                          char message[512])
{
    const char *text = response->error[0] != '\0' ? response->error : curl_easy_strerror(code);
    if (response->is_too_large || code == CURLE_FILESIZE_EXCEEDED)
        snprintf(message, 512, "the answer is larger than %zu MiB", HTTP_ANSWER_BYTES_MAX >> 20);
    else if (response->is_too_slow)
        snprintf(message, 512, "the answer came too slowly: %zu bytes so far", response->bytes);
    else if (code == CURLE_OPERATION_TIMEDOUT && is_sent(handle))
        snprintf(message, 512, "no whole answer in time (--timeout), %zu bytes of it",
                 response->bytes);
    else
        snprintf(message, 512, "%s%s", text, advice_for(code));
}

/* Where a redirect leads, without what may hold tokens. */
static void describe_redirect(const struct http_response *response, char *text, size_t size)
{
    static const CURLUPart secret[] = {CURLUPART_USER,  CURLUPART_PASSWORD, CURLUPART_PATH,
                                       CURLUPART_QUERY, CURLUPART_FRAGMENT, CURLUPART_OPTIONS};
    CURLU *parts = curl_url();
    char *place = NULL;
    if (parts != NULL && curl_url_set(parts, CURLUPART_URL, response->location, 0) == CURLUE_OK) {
        for (size_t i = 0; i < COUNT_OF(secret); i++) curl_url_set(parts, secret[i], NULL, 0);
        curl_url_get(parts, CURLUPART_URL, &place, 0);
    }
    snprintf(text, size, "; it leads to %.200s", place == NULL ? "another path" : place);
    curl_free(place);
    curl_url_cleanup(parts);
}

static void describe_status(const struct http_response *response, enum http_outcome outcome,
                            char message[512])
{
    struct slice body = {response->body.data, response->body.size};
    http_error_text((int)response->status, body, message);
    size_t size = strlen(message);
    if (response->status >= 300 && response->status < 400)
        describe_redirect(response, message + size, 512 - size);
    else if (outcome == HTTP_HOPELESS)
        snprintf(message + size, 512 - size, "; is the key right (--api-key-env)?");
}

enum http_outcome http_outcome_of(CURL *handle, CURLcode code, const struct http_response *response,
                                  char message[512])
{
    message[0] = '\0';
    if (code != CURLE_OK) {
        describe_code(handle, code, response, message);
        return outcome_of_code(handle, code, response);
    }
    enum http_outcome outcome = outcome_of_status(response->status);
    if (outcome != HTTP_ANSWERED) describe_status(response, outcome, message);
    return outcome;
}
