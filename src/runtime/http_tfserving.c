/* SPDX-License-Identifier: Apache-2.0 */
/* http_tfserving.c - TF Serving's rows: {"instances":[...]} is answered with {"predictions":[...]}, one
 * a row. KServe's first protocol and Vertex AI's endpoints are the same. */
#include "runtime/http_dialects.h"

#include <stdlib.h>

static const char verb[] = ":predict";

/* ":classify" behind the last slash; NULL: no verb. */
static const char *find_verb(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? NULL : strchr(slash, ':');
}

static bool owns(const char *path)
{
    return path_ends_with(path, verb) || path_find_name(path, "/v1/models/") != NULL;
}

static tidemill_error *parse(const char *path, struct http_target *target)
{
    const char *found = find_verb(path);
    if (found != NULL && strcmp(found, verb) != 0)
        return error_new(ERROR_USAGE, "'%s' is not served by tidemill, only ':predict' is", found);
    if (!owns(path) || (found != NULL && found[-1] == '/'))
        return error_new(ERROR_USAGE, "the path '%s' is none of TF Serving's models", path);
    size_t size = found == NULL ? strlen(path) : (size_t)(found - path);
    if (found == NULL && size > 1 && path[size - 1] == '/') size--;
    target->is_batched = true;
    if (path_find_name(path, "/v1/models/") != NULL)
        TRY(path_put(&target->health_path, "%.*s", (int)size, path));
    return path_put(&target->path, "%.*s%s", (int)size, path, verb);
}

static enum error_code put_request(const struct http_target *target, const struct slice *rows,
                                   size_t n, struct buffer *out, size_t *ret_row, char *message)
{
    buffer_text(out, "{\"instances\":[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0) buffer_byte(out, ',');
        enum error_code code = http_put_row(target, rows + i, 1, out, ret_row, message);
        *ret_row = i;
        if (code != ERROR_OK) return code;
    }
    buffer_text(out, "]}");
    return ERROR_OK;
}

static enum error_code take_predictions(yyjson_val *root, size_t n, struct http_answer *answer)
{
    yyjson_val *predictions = yyjson_obj_get(root, "predictions");
    size_t start = answer->text->size, i, found;
    yyjson_val *prediction;
    if (!yyjson_is_arr(predictions)) {
        const char *said = http_json_error(root);
        http_say(answer->message, "the answer has no list of predictions%s%s",
                 said == NULL ? "" : ": ", said == NULL ? "" : said);
        return ERROR_UPSTREAM;
    }
    if (yyjson_arr_size(predictions) != n) {
        http_say(answer->message, "expected %zu prediction%s, found %zu", n, n == 1 ? "" : "s",
                 yyjson_arr_size(predictions));
        return ERROR_UPSTREAM;
    }
    yyjson_arr_foreach(predictions, i, found, prediction)
    {
        http_json_put(answer->text, prediction);
        http_answer_end(answer, start, i);
    }
    return ERROR_OK;
}

static enum error_code read_answer(const struct http_target *target, struct slice body, size_t n,
                                   struct http_answer *answer)
{
    (void)target;
    char problem[HTTP_MESSAGE_SIZE];
    yyjson_doc *doc = http_json_read(body, problem);
    if (doc == NULL) {
        http_say(answer->message, "the answer is %s", problem);
        return ERROR_UPSTREAM;
    }
    enum error_code code = take_predictions(yyjson_doc_get_root(doc), n, answer);
    yyjson_doc_free(doc);
    return code;
}

const struct http_dialect http_tfserving = {
    .name = "tfserving",
    .example = "http://HOST:8501/v1/models/NAME:predict",
    .owns = owns,
    .parse = parse,
    .put_request = put_request,
    .read_answer = read_answer,
};
