/* SPDX-License-Identifier: Apache-2.0 */
/* json_out.c - see json_out.h. */
#include "server/json_out.h"

#include <ctype.h>
#include <stdlib.h>

void json_out_text(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, const char *text)
{
    if (text == NULL || text[0] == '\0')
        yyjson_mut_obj_add_null(doc, object, name);
    else
        yyjson_mut_obj_add_strcpy(doc, object, name, text);
}

void json_out_time(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, int64_t time_ms)
{
    if (time_ms == 0)
        yyjson_mut_obj_add_null(doc, object, name);
    else
        yyjson_mut_obj_add_sint(doc, object, name, time_ms / 1000);
}

void json_answer(struct exchange *exchange, int status, yyjson_mut_doc *doc, yyjson_mut_val *root)
{
    size_t size = 0;
    char *text =
        root == NULL ? NULL : yyjson_mut_val_write(root, YYJSON_WRITE_ALLOW_INVALID_UNICODE, &size);
    if (text == NULL)
        app_refuse_error(exchange, error_memory());
    else
        exchange_answer(exchange, status, "application/json", text, size);
    free(text);
    yyjson_mut_doc_free(doc);
}

yyjson_doc *json_body(struct exchange *exchange)
{
    struct slice body = exchange_body(exchange);
    yyjson_read_err problem;
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)body.data, body.size, YYJSON_READ_NOFLAG,
                                       NULL, &problem);
    if (doc == NULL) {
        app_refuse(exchange, 400, "invalid_json", NULL,
                   "the body is not valid JSON: %s at byte %zu",
                   body.size == 0 ? "it is empty" : problem.msg, problem.pos);
        return NULL;
    }
    if (yyjson_is_obj(yyjson_doc_get_root(doc))) return doc;
    yyjson_doc_free(doc);
    app_refuse(exchange, 400, "invalid_json", NULL, "the body is not a JSON object");
    return NULL;
}

void json_answer_list(struct exchange *exchange, yyjson_mut_doc *doc, yyjson_mut_val *data,
                      bool has_more)
{
    yyjson_mut_val *root = yyjson_mut_obj(doc);
    const char *first = NULL, *last = NULL;
    size_t n = yyjson_mut_arr_size(data);
    if (n > 0) {
        first = yyjson_mut_get_str(yyjson_mut_obj_get(yyjson_mut_arr_get_first(data), "id"));
        last = yyjson_mut_get_str(yyjson_mut_obj_get(yyjson_mut_arr_get_last(data), "id"));
    }
    yyjson_mut_obj_add_str(doc, root, "object", "list");
    yyjson_mut_obj_add_val(doc, root, "data", data);
    json_out_text(doc, root, "first_id", first);
    json_out_text(doc, root, "last_id", last);
    yyjson_mut_obj_add_bool(doc, root, "has_more", has_more);
    json_answer(exchange, 200, doc, root);
}

bool json_query_limit(struct exchange *exchange, size_t usual, size_t max, size_t *ret)
{
    const char *text = exchange_query(exchange, "limit");
    *ret = usual;
    if (text == NULL) return true;
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (isdigit((unsigned char)text[0]) && *end == '\0' && value >= 1 && value <= max) {
        *ret = value;
        return true;
    }
    app_refuse(exchange, 400, NULL, "limit", "'limit' must be a number from 1 to %zu", max);
    return false;
}
