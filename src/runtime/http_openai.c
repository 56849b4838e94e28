/* SPDX-License-Identifier: Apache-2.0 */
/* http_openai.c - servers that speak OpenAI's API: OpenAI, vLLM, llama-server, SGLang and many more.
 * A row is the request's object as it is; the answer's body is the row's answer. */
#include "runtime/http_dialects.h"

#include <stdlib.h>

/* The last "/v1" that is a whole segment; NULL: there is none. */
static const char *find_version(const char *path)
{
    const char *found = NULL;
    for (const char *p = path; (p = strstr(p, "/v1")) != NULL; p += 3) {
        if (p[3] == '/' || p[3] == '\0') found = p;
    }
    return found;
}

static bool owns(const char *path)
{
    return find_version(path) != NULL || path_ends_with(path, "/chat/completions");
}

/* What stands before "/v1" belongs to the server: the paths of records' urls come behind it. */
static tidemill_error *take_prefix(struct http_target *target, const char *path, size_t size)
{
    char *origin;
    if (size == 0) return NULL;
    TRY(path_put(&origin, "%s%.*s", target->origin, (int)size, path));
    free(target->origin);
    target->origin = origin;
    return NULL;
}

static tidemill_error *parse(const char *path, struct http_target *target)
{
    const char *version = find_version(path);
    bool is_bare = strcmp(path, "/") == 0;
    if (version != NULL) {
        TRY(take_prefix(target, path, (size_t)(version - path)));
        path = version;
        is_bare = strcmp(path, "/v1") == 0 || strcmp(path, "/v1/") == 0;
    }
    /* Not every server of this kind has it; but each answers something. */
    if (version != NULL || is_bare) TRY(path_put(&target->health_path, "/v1/models"));
    return is_bare ? NULL : path_put(&target->path, "%s", path);
}

static enum error_code put_request(const struct http_target *target, const struct slice *rows,
                                   size_t n, struct buffer *out, size_t *ret_row, char *message)
{
    size_t i = 0;
    while (i < rows[0].size && (unsigned char)rows[0].data[i] <= ' ') i++;
    if (i < rows[0].size && rows[0].data[i] == '{')
        return http_put_row(target, rows, n, out, ret_row, message);
    *ret_row = 0;
    http_say(message, "a request to this server is an object such as {\"model\":\"...\","
                      "\"messages\":[...]}; --template makes one from a record's fields");
    return ERROR_WRONG_TYPE;
}

static uint64_t count_at(yyjson_val *object, const char *name)
{
    uint64_t count = 0;
    return http_json_count(yyjson_obj_get(object, name), &count) ? count : 0;
}

/* Chat completions and their kin; the Responses API; Anthropic's messages, whose input_tokens leave
 * out what the cache had or took. */
static struct token_usage read_usage(yyjson_val *usage)
{
    uint64_t cache_read = count_at(usage, "cache_read_input_tokens");
    struct token_usage ret = {
        .in = count_at(usage, "prompt_tokens"),
        .cached = count_at(yyjson_obj_get(usage, "prompt_tokens_details"), "cached_tokens"),
        .out = count_at(usage, "completion_tokens"),
    };
    if (ret.cached == 0)
        ret.cached = count_at(yyjson_obj_get(usage, "input_tokens_details"), "cached_tokens");
    if (ret.cached == 0) ret.cached = cache_read; /* some gateways send two of them */
    if (ret.in == 0)
        ret.in = count_at(usage, "input_tokens") + cache_read +
                 count_at(usage, "cache_creation_input_tokens");
    if (ret.out == 0) ret.out = count_at(usage, "output_tokens");
    if (ret.cached > ret.in) ret.cached = ret.in;
    return ret;
}

static enum error_code read_answer(const struct http_target *target, struct slice body, size_t n,
                                   struct http_answer *answer)
{
    (void)target, (void)n; /* one row */
    char problem[HTTP_MESSAGE_SIZE];
    size_t start = answer->text->size;
    yyjson_doc *doc = http_json_read(body, problem);
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *error = yyjson_obj_get(root, "error");
    enum error_code code = ERROR_UPSTREAM;
    if (doc == NULL) {
        http_say(answer->message, "the answer is %s", problem);
    } else if (!yyjson_is_obj(root)) {
        http_say(answer->message, "the answer is %s, not an object", http_json_kind(root));
    } else if (yyjson_is_obj(error) || yyjson_is_str(error)) {
        const char *said = http_json_error(root); /* some gateways answer 200 and this */
        http_say(answer->message, "the answer is an error: %s", said == NULL ? "unnamed" : said);
    } else {
        answer->usage = read_usage(yyjson_obj_get(root, "usage"));
        http_json_put(answer->text, root);
        http_answer_end(answer, start, 0);
        code = ERROR_OK;
    }
    yyjson_doc_free(doc);
    return code;
}

const struct http_dialect http_openai = {
    .name = "openai",
    .example = "http://HOST:PORT/v1/chat/completions",
    .owns = owns,
    .parse = parse,
    .put_request = put_request,
    .read_answer = read_answer,
    .join_stream = http_stream_join,
};
