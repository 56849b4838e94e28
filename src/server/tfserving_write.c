/* SPDX-License-Identifier: Apache-2.0 */
/* tfserving_write.c - values as TF Serving answers them.
 *
 * classify: the scores are the output called "scores", else the first one of floating-point numbers; the
 * labels the output called "classes", else the classes' numbers as strings. regress: the output called
 * "outputs", else the first one of floating-point numbers; one number a row. */
#include "format/decode_value.h"
#include "format/encode.h"
#include "server/tensor_json.h"
#include "server/tfserving.h"

#include <stdio.h>

static void put_string(struct buffer *out, const char *text)
{
    format_json_string(out, text, strlen(text));
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), length = strlen(end);
    return size >= length && strcmp(text + size - length, end) == 0;
}

static struct element_walk walk_of(const struct value_spec *spec, const struct value *value)
{
    struct element_walk walk = element_walk_of(value, spec->name);
    walk.is_bare = true;
    walk.is_json = spec->is_json;
    walk.is_b64 = ends_with(spec->name, "_bytes");
    return walk;
}

/* --- predict ------------------------------------------------------------------------------------------------ */

/* One row: the value of the only output, or an object of all. */
static tidemill_error *put_row(const struct model_signature *signature, struct element_walk *walks,
                               const struct shape *shapes, struct buffer *out)
{
    bool is_one = signature->n_outputs == 1;
    if (!is_one) buffer_byte(out, '{');
    for (size_t i = 0; i < signature->n_outputs; i++) {
        if (!is_one) {
            if (i > 0) buffer_byte(out, ',');
            put_string(out, signature->outputs[i].name);
            buffer_byte(out, ':');
        }
        TRY(element_walk_nested(&walks[i], &shapes[i], out));
    }
    if (!is_one) buffer_byte(out, '}');
    return NULL;
}

/* All rows of a call's values, with commas between. */
static tidemill_error *put_rows(const struct model_signature *signature, const struct value *values,
                                size_t n_rows, struct buffer *out)
{
    struct element_walk walks[MODEL_VALUES_MAX];
    struct shape shapes[MODEL_VALUES_MAX];
    for (size_t i = 0; i < signature->n_outputs; i++) {
        walks[i] = walk_of(&signature->outputs[i], &values[i]);
        shapes[i] = values[i].shape;
        if (!signature->is_batched) continue;
        shapes[i].rank--;
        memmove(shapes[i].dims, shapes[i].dims + 1, (size_t)shapes[i].rank * sizeof(int64_t));
    }
    for (size_t r = 0; r < n_rows; r++) {
        if (r > 0) buffer_byte(out, ',');
        TRY(put_row(signature, walks, shapes, out));
    }
    return NULL;
}

static tidemill_error *put_predictions(const struct tf_request *request,
                                       const struct model_signature *signature,
                                       struct value *const *values, struct buffer *out)
{
    if (!request->is_single) buffer_text(out, "{\"predictions\":[");
    for (size_t i = 0; i < request->n_calls; i++) {
        if (i > 0) buffer_byte(out, ',');
        TRY(put_rows(signature, values[i], signature->is_batched ? request->n_rows : 1, out));
    }
    if (!request->is_single) buffer_text(out, "]}");
    return NULL;
}

static tidemill_error *put_columns(const struct model_signature *signature,
                                   const struct value *values, struct buffer *out)
{
    bool is_one = signature->n_outputs == 1;
    buffer_text(out, is_one ? "{\"outputs\":" : "{\"outputs\":{");
    for (size_t i = 0; i < signature->n_outputs; i++) {
        struct element_walk walk = walk_of(&signature->outputs[i], &values[i]);
        if (!is_one) {
            if (i > 0) buffer_byte(out, ',');
            put_string(out, signature->outputs[i].name);
            buffer_byte(out, ':');
        }
        TRY(element_walk_nested(&walk, &values[i].shape, out));
    }
    buffer_text(out, is_one ? "}" : "}}");
    return NULL;
}

/* --- classify and regress -------------------------------------------------------------------------------------- */

/* The output of that name, else the first one that fits; -1: none. */
static int find_output(const struct model_signature *signature, const struct value *values,
                       const char *name)
{
    for (size_t i = 0; i < signature->n_outputs; i++)
        if (strcmp(signature->outputs[i].name, name) == 0) return (int)i;
    for (size_t i = 0; i < signature->n_outputs; i++)
        if (type_is_float(values[i].type)) return (int)i;
    return -1;
}

static size_t elements_a_row(const struct value *value, size_t n_rows)
{
    size_t count;
    return shape_count(&value->shape, &count) && n_rows > 0 ? count / n_rows : 0;
}

static tidemill_error *put_label(struct element_walk *labels, size_t k, struct buffer *out)
{
    if (labels != NULL) return element_walk_flat(labels, 1, out);
    buffer_printf(out, "\"%zu\"", k);
    return NULL;
}

static tidemill_error *put_classes(const struct model_signature *signature,
                                   const struct value *values, size_t n_rows, struct buffer *out)
{
    int scores = find_output(signature, values, "scores"), classes = -1;
    for (size_t i = 0; i < signature->n_outputs; i++)
        if (strcmp(signature->outputs[i].name, "classes") == 0) classes = (int)i;
    if (scores < 0 || values[scores].type == TENSOR_STRING)
        return error_new(ERROR_UNSUPPORTED, "the model has no output of scores");
    size_t n = elements_a_row(&values[scores], n_rows);
    if (classes >= 0 &&
        (values[classes].type != TENSOR_STRING || elements_a_row(&values[classes], n_rows) != n))
        classes = -1;
    struct element_walk walk = walk_of(&signature->outputs[scores], &values[scores]), names;
    if (classes >= 0) names = walk_of(&signature->outputs[classes], &values[classes]);
    for (size_t r = 0; r < n_rows; r++) {
        buffer_text(out, r > 0 ? ",[" : "[");
        for (size_t k = 0; k < n; k++) {
            buffer_text(out, k > 0 ? ",[" : "[");
            TRY(put_label(classes >= 0 ? &names : NULL, k, out));
            buffer_byte(out, ',');
            TRY(element_walk_flat(&walk, 1, out));
            buffer_byte(out, ']');
        }
        buffer_byte(out, ']');
    }
    return NULL;
}

static tidemill_error *put_numbers(const struct model_signature *signature,
                                   const struct value *values, size_t n_rows, struct buffer *out)
{
    int found = find_output(signature, values, "outputs");
    if (found < 0 || elements_a_row(&values[found], n_rows) != 1)
        return error_new(ERROR_UNSUPPORTED, "the model has no output of one number a row");
    struct element_walk walk = walk_of(&signature->outputs[found], &values[found]);
    return element_walk_flat(&walk, n_rows, out);
}

static tidemill_error *put_results(const struct tf_request *request,
                                   const struct model_signature *signature,
                                   struct value *const *values, struct buffer *out)
{
    buffer_text(out, "{\"results\":[");
    size_t n = signature->is_batched ? request->n_rows : 1;
    for (size_t i = 0; i < request->n_calls; i++) {
        if (i > 0) buffer_byte(out, ',');
        if (request->verb == TF_CLASSIFY)
            TRY(put_classes(signature, values[i], n, out));
        else
            TRY(put_numbers(signature, values[i], n, out));
    }
    buffer_text(out, "]}");
    return NULL;
}

tidemill_error *tf_write(const struct tf_request *request, const struct model_signature *signature,
                         struct value *const *values, struct buffer *out)
{
    if (request->is_columnar)
        TRY(put_columns(signature, values[0], out));
    else if (request->verb == TF_PREDICT)
        TRY(put_predictions(request, signature, values, out));
    else
        TRY(put_results(request, signature, values, out));
    return out->is_failed ? error_memory() : NULL;
}

/* --- about models ------------------------------------------------------------------------------------------------- */

void tf_put_status(struct buffer *out, bool is_ready)
{
    buffer_printf(out,
                  "\"model_version_status\":[{\"version\":\"1\",\"state\":\"%s\",\"status\":{"
                  "\"error_code\":\"%s\",\"error_message\":\"%s\"}}]",
                  is_ready ? "AVAILABLE" : "UNLOADING", is_ready ? "OK" : "UNAVAILABLE",
                  is_ready ? "" : "it did not load");
}

static const char *dtype_of(enum tensor_type type)
{
    switch (type) {
    case TENSOR_FLOAT: return "DT_FLOAT";
    case TENSOR_DOUBLE: return "DT_DOUBLE";
    case TENSOR_FLOAT16: return "DT_HALF";
    case TENSOR_BFLOAT16: return "DT_BFLOAT16";
    case TENSOR_INT8: return "DT_INT8";
    case TENSOR_INT16: return "DT_INT16";
    case TENSOR_INT32: return "DT_INT32";
    case TENSOR_INT64: return "DT_INT64";
    case TENSOR_UINT8: return "DT_UINT8";
    case TENSOR_UINT16: return "DT_UINT16";
    case TENSOR_UINT32: return "DT_UINT32";
    case TENSOR_UINT64: return "DT_UINT64";
    case TENSOR_BOOL: return "DT_BOOL";
    case TENSOR_STRING: return "DT_STRING";
    default: return "DT_INVALID";
    }
}

static void put_spec(struct buffer *out, const struct value_spec *spec, bool is_batched)
{
    put_string(out, spec->name);
    buffer_printf(out, ":{\"dtype\":\"%s\",\"tensor_shape\":{\"dim\":[", dtype_of(spec->type));
    for (int32_t d = 0; d < spec->shape.rank; d++) {
        int64_t dim = d == 0 && is_batched ? -1 : spec->shape.dims[d];
        buffer_printf(out, "%s{\"size\":\"%lld\",\"name\":\"\"}", d > 0 ? "," : "", (long long)dim);
    }
    buffer_printf(out, "],\"unknown_rank\":%s},\"name\":", spec->shape.rank < 0 ? "true" : "false");
    put_string(out, spec->name);
    buffer_byte(out, '}');
}

static void put_specs(struct buffer *out, const struct value_spec *specs, size_t n, bool is_batched)
{
    const char *comma = "";
    buffer_byte(out, '{');
    for (size_t i = 0; i < n; i++) {
        if (specs[i].is_optional) continue;
        buffer_text(out, comma);
        comma = ",";
        put_spec(out, &specs[i], is_batched);
    }
    buffer_byte(out, '}');
}

void tf_put_metadata(const char *model, const struct model_signature *signature, struct buffer *out)
{
    buffer_text(out, "{\"model_spec\":{\"name\":");
    put_string(out, model);
    buffer_text(out, ",\"signature_name\":\"\",\"version\":\"1\"},\"metadata\":{\"signature_def\":{"
                     "\"signature_def\":{\"serving_default\":{\"inputs\":");
    put_specs(out, signature->inputs, signature->n_inputs, signature->is_batched);
    buffer_text(out, ",\"outputs\":");
    put_specs(out, signature->outputs, signature->n_outputs, signature->is_batched);
    buffer_text(out, ",\"method_name\":\"tensorflow/serving/predict\"}}}}}");
}
