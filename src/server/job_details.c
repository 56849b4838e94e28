/* SPDX-License-Identifier: Apache-2.0 */
/* job_details.c - reads and writes members of a job's details. */
#include "server/job_details.h"

#include "format/encode.h"

#include <stdlib.h>

#include <yyjson.h>

static yyjson_doc *read_details(const struct store_job *job)
{
    if (job->details == NULL) return NULL;
    return yyjson_read(job->details, strlen(job->details), YYJSON_READ_NUMBER_AS_RAW);
}

/* What cannot be read counts as {}: it is not ours to repair, and a job must not hang on it. */
static tidemill_error *copy_for_change(const struct store_job *job, yyjson_mut_doc **ret)
{
    yyjson_doc *doc = read_details(job);
    yyjson_val *root = yyjson_doc_get_root(doc);
    *ret = yyjson_is_obj(root) ? yyjson_doc_mut_copy(doc, NULL) : yyjson_mut_doc_new(NULL);
    yyjson_doc_free(doc);
    if (*ret == NULL) return error_memory();
    if (yyjson_mut_doc_get_root(*ret) == NULL) yyjson_mut_doc_set_root(*ret, yyjson_mut_obj(*ret));
    return NULL;
}

static tidemill_error *put(yyjson_mut_doc *doc, const char *name, const char *json)
{
    yyjson_mut_val *root = yyjson_mut_doc_get_root(doc);
    yyjson_mut_obj_remove_key(root, name);
    if (json == NULL) return NULL;
    yyjson_doc *value = yyjson_read(json, strlen(json), YYJSON_READ_NUMBER_AS_RAW);
    if (value == NULL)
        return error_new(ERROR_INTERNAL, "details.%s is no JSON: %.100s", name, json);
    yyjson_mut_val *copy = yyjson_val_mut_copy(doc, yyjson_doc_get_root(value));
    bool is_put = copy != NULL && yyjson_mut_obj_add(root, yyjson_mut_strcpy(doc, name), copy);
    yyjson_doc_free(value);
    return is_put ? NULL : error_memory();
}

tidemill_error *details_set(struct store_job *job, const char *name, const char *json)
{
    yyjson_mut_doc *doc;
    TRY(copy_for_change(job, &doc));
    tidemill_error *error = put(doc, name, json);
    char *text = error == NULL ? yyjson_mut_write(doc, 0, NULL) : NULL;
    if (error == NULL && text == NULL) error = error_memory();
    yyjson_mut_doc_free(doc);
    if (error != NULL) return error;
    free(job->details);
    job->details = text;
    return NULL;
}

static tidemill_error *set_buffer(struct store_job *job, const char *name, struct buffer *json)
{
    buffer_byte(json, '\0');
    tidemill_error *error = json->is_failed ? error_memory() : details_set(job, name, json->data);
    buffer_free(json);
    return error;
}

tidemill_error *details_set_number(struct store_job *job, const char *name, double number)
{
    struct buffer json = {0};
    buffer_printf(&json, "%.15g", number);
    return set_buffer(job, name, &json);
}

static void append_without(struct buffer *out, const char *text, const char *secret)
{
    size_t size = strlen(secret);
    for (const char *found; size > 0 && (found = strstr(text, secret)) != NULL;) {
        buffer_append(out, text, (size_t)(found - text));
        text = found + size;
        text += *text == '/';
    }
    buffer_text(out, text);
}

tidemill_error *details_set_reason(struct store_job *job, const char *name, const char *code,
                                   const char *message, const char *secret, int attempts)
{
    struct buffer json = {0}, shown = {0};
    append_without(&shown, message, secret);
    buffer_text(&json, "{\"code\":");
    format_json_string(&json, code, strlen(code));
    buffer_text(&json, ",\"message\":");
    format_json_string(&json, shown.data, shown.size);
    json.is_failed |= shown.is_failed;
    buffer_free(&shown);
    if (attempts >= 0) buffer_printf(&json, ",\"attempts\":%d", attempts);
    buffer_byte(&json, '}');
    return set_buffer(job, name, &json);
}

/* --- reading ------------------------------------------------------------------------------------ */

static yyjson_val *member_of(yyjson_doc *doc, const char *name, const char *inner)
{
    yyjson_val *value = yyjson_obj_get(yyjson_doc_get_root(doc), name);
    return inner == NULL ? value : yyjson_obj_get(value, inner);
}

char *details_inner_text(const struct store_job *job, const char *name, const char *inner)
{
    yyjson_doc *doc = read_details(job);
    const char *text = yyjson_get_str(member_of(doc, name, inner));
    char *copy = text == NULL ? NULL : strdup(text);
    yyjson_doc_free(doc);
    return copy;
}

char *details_text(const struct store_job *job, const char *name)
{
    return details_inner_text(job, name, NULL);
}

double details_inner_number(const struct store_job *job, const char *name, const char *inner,
                            double otherwise)
{
    yyjson_doc *doc = read_details(job);
    const char *text = yyjson_get_raw(member_of(doc, name, inner));
    double number = text == NULL ? otherwise : strtod(text, NULL);
    yyjson_doc_free(doc);
    return number;
}

double details_number(const struct store_job *job, const char *name, double otherwise)
{
    return details_inner_number(job, name, NULL, otherwise);
}

bool details_has(const struct store_job *job, const char *name)
{
    yyjson_doc *doc = read_details(job);
    bool has = member_of(doc, name, NULL) != NULL;
    yyjson_doc_free(doc);
    return has;
}
