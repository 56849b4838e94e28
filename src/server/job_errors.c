/* SPDX-License-Identifier: Apache-2.0 */
/* job_errors.c - lines of error files.
 *
 *     batches  {"id":"batch_req_...","custom_id":"a","response":null,"error":{"code","message"}}
 *     windows  {"id":17,"index":16,"line":17,"code":"...","message":"...","record":...}
 *
 * A name is made from the job and the record's place: the same at each attempt. */
#include "server/job_errors.h"

#include "format/encode.h"

#include <inttypes.h>
#include <stdlib.h>

#include <yyjson.h>

struct job_rest job_rest_of(enum store_state end)
{
    enum error_code code = end == STORE_EXPIRED     ? ERROR_BATCH_EXPIRED
                           : end == STORE_CANCELLED ? ERROR_BATCH_CANCELLED
                                                    : ERROR_BUDGET_EXCEEDED;
    return (struct job_rest){error_code_name(code), error_code_sentence(code)};
}

static tidemill_error *write_object(yyjson_mut_doc *doc, struct buffer *out)
{
    size_t size;
    char *text = yyjson_mut_write(doc, 0, &size);
    if (text == NULL) return error_memory();
    buffer_append(out, text, size);
    buffer_byte(out, '\n');
    free(text);
    return out->is_failed ? error_memory() : NULL;
}

static void strip(enum store_kind kind, yyjson_mut_doc *doc)
{
    static const char *const own[] = {
        "input",      "index", "line", "code", "record", "record_b64", "record_truncated",
        "record_size"};
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    size_t n = kind == STORE_BATCH ? COUNT_OF(own) : 1; /* of a window: the path alone */
    for (size_t i = 0; i < n; i++) yyjson_mut_obj_remove_key(root, own[i]);
}

static bool has_code(yyjson_val *root, const char *code)
{
    yyjson_val *error = yyjson_obj_get(root, "error");
    return yyjson_equals_str(yyjson_obj_get(error != NULL ? error : root, "code"), code);
}

tidemill_error *job_error_line(enum store_kind kind, struct slice line, const struct job_rest *rest,
                               bool *ret_is_rest, struct buffer *out)
{
    yyjson_doc *doc = yyjson_read(line.data, line.size, YYJSON_READ_NUMBER_AS_RAW);
    if (doc == NULL || !yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return error_new(ERROR_CORRUPT, "a line of the job's error file is no JSON object");
    }
    if (rest != NULL) *ret_is_rest = has_code(yyjson_doc_get_root(doc), rest->code);
    yyjson_mut_doc *copy = yyjson_doc_mut_copy(doc, NULL);
    yyjson_doc_free(doc);
    if (copy == NULL) return error_memory();
    strip(kind, copy);
    tidemill_error *error = write_object(copy, out);
    yyjson_mut_doc_free(copy);
    return error;
}

/* --- records that were not run -------------------------------------------------------------------- */

static void append_reason(const struct job_rest *rest, struct buffer *out)
{
    buffer_text(out, "\"code\":");
    format_json_string(out, rest->code, strlen(rest->code));
    buffer_text(out, ",\"message\":");
    format_json_string(out, rest->message, strlen(rest->message));
}

static void append_name(const struct store_job *job, uint64_t index, struct buffer *out)
{
    char text[DIGEST_TEXT_BYTES];
    struct {
        char job[STORE_ID_BYTES];
        uint64_t index;
    } of = {.index = index};
    memcpy(of.job, job->id, strnlen(job->id, sizeof of.job));
    digest_text(hash_bytes(&of, sizeof of), text);
    buffer_printf(out, "\"batch_req_%s\"", text);
}

void job_rest_line(const struct store_job *job, uint64_t index, struct slice custom_id,
                   const struct job_rest *rest, struct buffer *out)
{
    if (job->kind == STORE_WINDOW) {
        buffer_printf(out, "{\"id\":%" PRIu64 ",\"index\":%" PRIu64 ",\"line\":%" PRIu64 ",",
                      index + 1, index, index + 1);
        append_reason(rest, out);
        buffer_text(out, "}\n");
        return;
    }
    buffer_text(out, "{\"id\":");
    append_name(job, index, out);
    buffer_text(out, ",\"custom_id\":");
    if (custom_id.size > 0)
        buffer_append(out, custom_id.data, custom_id.size);
    else
        buffer_text(out, "null");
    buffer_text(out, ",\"response\":null,\"error\":{");
    append_reason(rest, out);
    buffer_text(out, "}}\n");
}
