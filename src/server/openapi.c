/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.c - the document: each route's path, its parameters, body and answers. Bodies are those of the
 * dialects, whose own documents say more; here they are objects. */
#include "server/openapi.h"

#include "format/encode.h"
#include "server/app.h"

#include <ctype.h>
#include <stdlib.h>

static void put_text(struct buffer *out, const char *text)
{
    format_json_string(out, text, strlen(text));
}

/* Each {name} of a pattern. */
static void put_parameters(struct buffer *out, const char *pattern)
{
    bool is_first = true;
    buffer_text(out, ",\"parameters\":[");
    for (const char *p = pattern; (p = strchr(p, '{')) != NULL;) {
        const char *end = strchr(p, '}');
        buffer_printf(out,
                      "%s{\"name\":\"%.*s\",\"in\":\"path\",\"required\":true,"
                      "\"schema\":{\"type\":\"string\"}}",
                      is_first ? "" : ",", (int)(end - p - 1), p + 1);
        is_first = false;
        p = end;
    }
    buffer_byte(out, ']');
}

/* Beside JSON. */
static const struct {
    const char *operation, *type;
} other_types[] = {
    {"createFile", "multipart/form-data"},
    {"createRequest", "application/x-ndjson"},
    {"kserveInfer", "application/octet-stream"},
    {"kserveVersionInfer", "application/octet-stream"},
    {"torchPredict", "application/octet-stream"},
    {"torchPredict", "multipart/form-data"},
    {"torchVersionPredict", "application/octet-stream"},
    {"torchVersionPredict", "multipart/form-data"},
};

static void put_body(struct buffer *out, const struct net_route *route)
{
    if (route->body == NET_BODY_NONE) return;
    bool is_json = strcmp(route->operation, "createFile") != 0, is_first = !is_json;
    buffer_text(out, ",\"requestBody\":{\"content\":{");
    if (is_json) buffer_text(out, "\"application/json\":{\"schema\":{}}");
    for (size_t i = 0; i < COUNT_OF(other_types); i++) {
        if (strcmp(other_types[i].operation, route->operation) != 0) continue;
        buffer_printf(out, "%s\"%s\":{\"schema\":{}}", is_first ? "" : ",", other_types[i].type);
        is_first = false;
    }
    buffer_text(out, "}}");
}

static void put_answers(struct buffer *out, const struct route_info *info)
{
    static const struct {
        const char *status, *text;
    } answers[] = {{"2XX", "Done, or accepted"},
                   {"400", "The request is wrong; the answer says where"},
                   {"401", "A key is needed"},
                   {"403", "The key does not allow it"},
                   {"404", "There is none"},
                   {"405", "The path has other methods"},
                   {"409", "Not in this state"},
                   {"413", "Too large"},
                   {"422", "The Idempotency-Key was used for another request"},
                   {"429", "Too much at once; Retry-After says when"},
                   {"503", "Not now; Retry-After says when"},
                   {"507", "The disk is full"}};
    buffer_text(out, ",\"responses\":{");
    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        buffer_printf(out, "%s\"%s\":{\"description\":", i > 0 ? "," : "", answers[i].status);
        put_text(out, answers[i].text);
        buffer_byte(out, '}');
    }
    buffer_byte(out, '}');
    if (info->access == ROUTE_OPEN) buffer_text(out, ",\"security\":[]");
}

static void put_operation(struct buffer *out, const struct net_route *route)
{
    static const char *const tags[] = {"tidemill", "openai",    "anthropic",
                                       "kserve",   "tfserving", "torchserve"};
    const struct route_info *info = route->data;
    char method[16];
    size_t i = 0;
    for (const char *p = net_method_name(route->method); *p != '\0' && i < sizeof method - 1; p++)
        method[i++] = (char)tolower((unsigned char)*p);
    method[i] = '\0';
    buffer_printf(out, "\"%s\":{\"operationId\":\"%s\",\"tags\":[\"%s\"],\"summary\":", method,
                  route->operation, tags[info->dialect]);
    put_text(out, info->summary);
    put_parameters(out, route->pattern);
    put_body(out, route);
    put_answers(out, info);
    buffer_byte(out, '}');
}

static bool is_seen(const struct net_route *routes, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(routes[k].pattern, routes[i].pattern) == 0) return true;
    return false;
}

/* All methods of one pattern. */
static void put_path(struct buffer *out, const struct net_route *routes, size_t n, size_t first)
{
    bool is_first = true;
    put_text(out, routes[first].pattern);
    buffer_text(out, ":{");
    for (size_t i = first; i < n; i++) {
        if (strcmp(routes[i].pattern, routes[first].pattern) != 0) continue;
        if (!is_first) buffer_byte(out, ',');
        is_first = false;
        put_operation(out, &routes[i]);
    }
    buffer_byte(out, '}');
}

void openapi_write(const struct net_route *routes, size_t n, struct buffer *out)
{
    bool is_first = true;
    buffer_text(
        out,
        "{\"openapi\":\"3.1.0\",\"info\":{\"title\":\"tidemill\",\"version\":\"" TIDEMILL_VERSION
        "\",\"description\":\"Batch inference: collected over a window, run as one "
        "job\",\"license\":{\"name\":\"Apache-2.0\",\"identifier\":\"Apache-2.0\"}},"
        "\"servers\":[{\"url\":\"/\"}],\"security\":[{\"key\":[]}],"
        "\"components\":{\"securitySchemes\":{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}}},"
        "\"paths\":{");
    for (size_t i = 0; i < n; i++) {
        if (is_seen(routes, i)) continue;
        if (!is_first) buffer_byte(out, ',');
        is_first = false;
        put_path(out, routes, n, i);
    }
    buffer_text(out, "}}\n");
}
