/* SPDX-License-Identifier: Apache-2.0 */
/* http_target.c - addresses. One parser reads them, libcurl's, which also opens the connections: two
 * that disagree on where the host ends would send keys to the wrong one. */
#include "runtime/http_dialects.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct http_dialect *const dialects[] = {
    [PROTOCOL_OPENAI] = &http_openai,       [PROTOCOL_KSERVE] = &http_kserve,
    [PROTOCOL_TFSERVING] = &http_tfserving, [PROTOCOL_TORCHSERVE] = &http_torchserve,
    [PROTOCOL_JSON] = &http_json,
};

/* Which is asked first where the path has to tell: "/v1/models/NAME:predict" is not OpenAI's. */
static const enum http_protocol by_path[] = {PROTOCOL_TFSERVING, PROTOCOL_KSERVE,
                                             PROTOCOL_TORCHSERVE, PROTOCOL_OPENAI};

const struct http_dialect *http_dialect_of(const struct http_target *target)
{
    return dialects[target->protocol];
}

bool path_ends_with(const char *path, const char *end)
{
    size_t size = strlen(path), wanted = strlen(end);
    return size > wanted && strcmp(path + size - wanted, end) == 0;
}

const char *path_find_name(const char *path, const char *marker)
{
    const char *found = NULL;
    for (const char *p = path; (p = strstr(p, marker)) != NULL; p++) {
        const char *name = p + strlen(marker);
        if (*name != '\0' && *name != '/' && *name != ':') found = name;
    }
    return found;
}

tidemill_error *path_put(char **ret, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(ret, format, arguments);
    va_end(arguments);
    if (length >= 0) return NULL;
    *ret = NULL;
    return error_memory();
}

/* NULL is a part that is not there. */
static char *get_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    return curl_url_get(url, part, &text, 0) == CURLUE_OK ? text : NULL;
}

/* An address may hold what nobody else should see; then it is not repeated. */
static tidemill_error *refuse(const char *address, const char *reason)
{
    bool is_secret = strchr(address, '@') != NULL || strchr(address, '?') != NULL;
    return error_new(ERROR_USAGE, "the server's address%s%s%s %s", is_secret ? "" : " '",
                     is_secret ? "" : address, is_secret ? "" : "'", reason);
}

static tidemill_error *set_address(CURLU *url, const char *address)
{
    if (strncasecmp(address, "http://", 7) != 0 && strncasecmp(address, "https://", 8) != 0)
        return refuse(address, "does not begin with http:// or https://");
    CURLUcode code = curl_url_set(url, CURLUPART_URL, address, CURLU_DISALLOW_USER);
    if (code == CURLUE_OK) return NULL;
    if (code == CURLUE_USER_NOT_ALLOWED)
        return refuse(address, "has a user or a password in it: put a key into an environment "
                               "variable and name that with --api-key-env");
    char reason[128];
    snprintf(reason, sizeof reason, "cannot be read: %s", curl_url_strerror(code));
    return refuse(address, reason);
}

/* "http://host:port", as libcurl would write it. */
static tidemill_error *take_origin(CURLU *url, struct http_target *target)
{
    if (curl_url_set(url, CURLUPART_PATH, "/", 0) != CURLUE_OK ||
        curl_url_set(url, CURLUPART_QUERY, NULL, 0) != CURLUE_OK)
        return error_memory();
    char *text = get_part(url, CURLUPART_URL);
    if (text == NULL) return error_memory();
    size_t size = strlen(text);
    tidemill_error *error = path_put(&target->origin, "%.*s", (int)(size > 0 ? size - 1 : 0), text);
    curl_free(text);
    return error;
}

static tidemill_error *find_protocol(const char *address, const char *path,
                                     enum http_protocol *protocol)
{
    char reason[700] = "does not tell what the server speaks: add --protocol openai, kserve, "
                       "tfserving, torchserve or json, or write it like one of these: ";
    if (*protocol != PROTOCOL_AUTO) return NULL;
    for (size_t i = 0; i < COUNT_OF(by_path); i++) {
        const struct http_dialect *dialect = dialects[by_path[i]];
        size_t size = strlen(reason);
        if (dialect->owns(path)) {
            *protocol = by_path[i];
            return NULL;
        }
        snprintf(reason + size, sizeof reason - size, "%s%s", i > 0 ? ", " : "", dialect->example);
    }
    return refuse(address, reason);
}

static tidemill_error *check_path(const char *path)
{
    char checked[2048], message[HTTP_MESSAGE_SIZE];
    enum error_code code = http_record_path((struct slice){path, strlen(path)}, checked, message);
    return code == ERROR_OK ? NULL : error_new(ERROR_USAGE, "the server's address: %s", message);
}

/* Requests carry the query of the address ("?api-version=..."). */
static tidemill_error *add_query(const char *query, struct http_target *target)
{
    char *path;
    if (query == NULL || *query == '\0') return NULL;
    if (target->path == NULL)
        return error_new(ERROR_USAGE, "the server's address has a query ('?...') but no path: "
                                      "each record's own url comes behind it");
    TRY(path_put(&path, "%s?%s", target->path, query));
    free(target->path);
    target->path = path;
    return check_path(path);
}

static tidemill_error *parse_parts(const char *address, const char *path, const char *query,
                                   CURLU *url, struct http_target *ret)
{
    TRY(check_path(path));
    TRY(find_protocol(address, path, &ret->protocol));
    TRY(take_origin(url, ret));
    TRY(dialects[ret->protocol]->parse(path, ret));
    return add_query(query, ret);
}

static tidemill_error *parse(const char *address, CURLU *url, struct http_target *ret)
{
    TRY(set_address(url, address));
    char *path = get_part(url, CURLUPART_PATH), *query = get_part(url, CURLUPART_QUERY);
    char *fragment = get_part(url, CURLUPART_FRAGMENT);
    tidemill_error *error = path == NULL ? error_memory() : NULL;
    if (error == NULL && fragment != NULL)
        error = refuse(address, "has a fragment ('#...'), which is never sent");
    if (error == NULL) error = parse_parts(address, path, query, url, ret);
    curl_free(path);
    curl_free(query);
    curl_free(fragment);
    return error;
}

tidemill_error *http_target_parse(const char *address, enum http_protocol protocol,
                                  struct http_target *ret)
{
    *ret = (struct http_target){.protocol = protocol};
    CURLU *url = curl_url();
    if (url == NULL) return error_memory();
    tidemill_error *error = parse(address, url, ret);
    curl_url_cleanup(url);
    if (error != NULL) http_target_free(ret);
    return error;
}

void http_target_free(struct http_target *target)
{
    free(target->origin);
    free(target->path);
    free(target->health_path);
    free(target->metadata_path);
    kserve_model_free(target->kserve);
    *target = (struct http_target){0};
}

/* The size of a dot at `i`, "." or "%2E", which some servers and newer libcurls take for one; 0: none. */
static size_t dot_at(struct slice url, size_t i)
{
    if (i < url.size && url.data[i] == '.') return 1;
    bool is_escaped = url.size - MIN(i, url.size) >= 3 && strncasecmp(url.data + i, "%2e", 3) == 0;
    return is_escaped ? 3 : 0;
}

static const char *path_problem(struct slice url)
{
    if (url.size == 0 || url.data[0] != '/') return "does not begin with '/'";
    if (url.size > 1 && url.data[1] == '/') return "begins with two '/'";
    if (url.size >= 2048) return "is longer than 2047 bytes";
    for (size_t i = 0; i < url.size; i++) {
        unsigned char c = (unsigned char)url.data[i];
        if (c <= ' ' || c >= 0x7f || c == '\\' || c == '#')
            return "has a character that must be written as %XX";
        size_t dot = dot_at(url, i);
        if (dot > 0 && dot_at(url, i + dot) > 0) return "has '..' in it";
    }
    return NULL;
}

enum error_code http_record_path(struct slice url, char ret[2048], char message[512])
{
    const char *problem = path_problem(url);
    if (problem != NULL) {
        http_say(message, "the path '%.*s' %s; write it like /v1/chat/completions",
                 (int)MIN(url.size, (size_t)100), url.size == 0 ? "" : url.data, problem);
        return ERROR_WRONG_TYPE;
    }
    memcpy(ret, url.data, url.size);
    ret[url.size] = '\0';
    return ERROR_OK;
}
