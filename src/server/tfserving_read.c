/* SPDX-License-Identifier: Apache-2.0 */
/* tfserving_read.c - TF Serving's requests into calls. */
#include "format/encode.h"
#include "server/tensor_json.h"
#include "server/tfserving.h"

struct reading {
    const struct model_signature *signature;
    struct arena *arena;
    struct tf_request *request;
    yyjson_val **rows; /* instances, examples */
    yyjson_val *context;
};

/* --- what a row has for an input ---------------------------------------------------------------------------- */

static size_t count_required(const struct model_signature *signature)
{
    size_t n = 0;
    for (size_t i = 0; i < signature->n_inputs; i++) n += !signature->inputs[i].is_optional;
    return n;
}

/* {"b64":".."} is a string, no row. */
static bool is_base64(yyjson_val *value)
{
    return yyjson_obj_size(value) == 1 && yyjson_is_str(yyjson_obj_get(value, "b64"));
}

/* NULL: the row has nothing for it. */
static yyjson_val *value_of(const struct reading *r, yyjson_val *row, const struct value_spec *spec)
{
    if (spec->is_json) return row;
    bool is_named = yyjson_is_obj(row) && !is_base64(row);
    if (!is_named) return count_required(r->signature) == 1 && !spec->is_optional ? row : NULL;
    yyjson_val *value = yyjson_obj_get(row, spec->name);
    return value != NULL ? value : yyjson_obj_get(r->context, spec->name);
}

static tidemill_error *missing(const struct value_spec *spec, size_t i, yyjson_val *row)
{
    if (yyjson_is_obj(row))
        return error_new(ERROR_MISSING_FIELD, "instance %zu has no '%s'", i, spec->name);
    return error_new(ERROR_WRONG_TYPE,
                     "instance %zu is %s; the model has several inputs, so it has to be an object "
                     "with '%s'",
                     i, json_kind(row), spec->name);
}

/* --- tensors --------------------------------------------------------------------------------------------------- */

static void add_input(struct tf_call *call, const struct value_spec *spec,
                      struct json_tensor *tensor, bool is_batched)
{
    json_tensor_fit(tensor, spec, is_batched);
    call->inputs[call->n_inputs++] = (struct serving_input){.name = spec->name,
                                                            .type = spec->type,
                                                            .shape = tensor->shape,
                                                            .data = tensor->data,
                                                            .bytes = tensor->bytes};
}

/* Input `spec` of rows [first, first + n), stacked. */
static tidemill_error *stack_input(struct reading *r, const struct value_spec *spec, size_t first,
                                   size_t n, struct json_tensor *ret, bool *ret_is_there)
{
    yyjson_val **values = arena_calloc(r->arena, n, sizeof *values);
    if (values == NULL) return error_memory();
    *ret_is_there = true;
    for (size_t i = 0; i < n; i++) {
        yyjson_val *row = r->rows[first + i];
        values[i] = value_of(r, row, spec);
        if (values[i] != NULL) continue;
        if (!spec->is_optional) return missing(spec, first + i, row);
        *ret_is_there = false;
        return NULL;
    }
    return json_tensor_rows(values, n, spec->name, spec->type, spec->is_json, r->arena, ret);
}

/* The one row's tensor, as a model without batches takes it. */
static void drop_rows(struct json_tensor *tensor)
{
    tensor->shape.rank--;
    memmove(tensor->shape.dims, tensor->shape.dims + 1,
            (size_t)tensor->shape.rank * sizeof(int64_t));
}

static tidemill_error *make_call(struct reading *r, size_t first, size_t n, struct tf_call *ret)
{
    const struct model_signature *signature = r->signature;
    ret->inputs = arena_calloc(r->arena, signature->n_inputs + 1, sizeof *ret->inputs);
    if (ret->inputs == NULL) return error_memory();
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        struct json_tensor tensor = {0};
        bool is_there = false;
        TRY(stack_input(r, spec, first, n, &tensor, &is_there));
        if (!is_there) continue;
        if (!signature->is_batched) drop_rows(&tensor);
        add_input(ret, spec, &tensor, signature->is_batched);
    }
    return NULL;
}

static tidemill_error *make_calls(struct reading *r)
{
    struct tf_request *request = r->request;
    bool is_batched = r->signature->is_batched;
    request->n_calls = is_batched ? 1 : request->n_rows;
    if (request->n_calls > TF_CALLS_MAX)
        return error_new(ERROR_OUT_OF_RANGE,
                         "%zu instances for a model that takes one at a time; ask with at most %zu",
                         request->n_rows, TF_CALLS_MAX);
    request->calls = arena_calloc(r->arena, request->n_calls + 1, sizeof *request->calls);
    if (request->calls == NULL) return error_memory();
    for (size_t i = 0; i < request->n_calls; i++)
        TRY(make_call(r, is_batched ? 0 : i, is_batched ? request->n_rows : 1, &request->calls[i]));
    return NULL;
}

/* --- by columns ---------------------------------------------------------------------------------------------------- */

static tidemill_error *read_column(struct reading *r, const struct value_spec *spec,
                                   yyjson_val *value, struct json_tensor *ret)
{
    if (!spec->is_json) return json_tensor_read(value, spec->name, spec->type, r->arena, ret);
    size_t i, n = yyjson_arr_size(value);
    yyjson_val *element;
    if (!yyjson_is_arr(value))
        return error_new(ERROR_WRONG_TYPE, "'inputs' is %s, not a list", json_kind(value));
    yyjson_val **values = arena_calloc(r->arena, n + 1, sizeof *values);
    if (values == NULL) return error_memory();
    yyjson_arr_foreach(value, i, n, element) values[i] = element;
    return json_tensor_rows(values, n, spec->name, spec->type, true, r->arena, ret);
}

static tidemill_error *read_columns(struct reading *r, yyjson_val *inputs)
{
    const struct model_signature *signature = r->signature;
    struct tf_call *call = arena_calloc(r->arena, 1, sizeof *call);
    if (call == NULL) return error_memory();
    call->inputs = arena_calloc(r->arena, signature->n_inputs + 1, sizeof *call->inputs);
    if (call->inputs == NULL) return error_memory();
    bool is_one = count_required(signature) == 1;
    for (size_t i = 0; i < signature->n_inputs; i++) {
        const struct value_spec *spec = &signature->inputs[i];
        struct json_tensor tensor = {0};
        yyjson_val *value = yyjson_obj_get(inputs, spec->name);
        bool is_bare = value == NULL && is_one && !spec->is_optional &&
                       (!yyjson_is_obj(inputs) || is_base64(inputs));
        if (is_bare) value = inputs;
        if (value == NULL && spec->is_optional) continue;
        if (value == NULL)
            return error_new(ERROR_MISSING_FIELD, "'inputs' has no '%s'", spec->name);
        TRY(read_column(r, spec, value, &tensor));
        add_input(call, spec, &tensor, signature->is_batched);
    }
    r->request->is_columnar = true;
    r->request->calls = call;
    r->request->n_calls = 1;
    return NULL;
}

/* --- the request ----------------------------------------------------------------------------------------------------- */

static tidemill_error *check_signature_name(yyjson_val *root)
{
    yyjson_val *name = yyjson_obj_get(root, "signature_name");
    if (name == NULL) return NULL;
    const char *text = json_text(name);
    if (text != NULL && (*text == '\0' || strcmp(text, "serving_default") == 0)) return NULL;
    return error_new(ERROR_WRONG_TYPE,
                     "the model has the signature 'serving_default' only, not %.80s",
                     text != NULL ? text : json_kind(name));
}

static tidemill_error *take_rows(yyjson_val *list, const char *key, struct arena *arena,
                                 yyjson_val ***ret, size_t *ret_n)
{
    size_t i, n = yyjson_arr_size(list);
    yyjson_val *row;
    if (!yyjson_is_arr(list) || n == 0)
        return error_new(ERROR_WRONG_TYPE, "'%s' is %s, not a list of rows", key,
                         yyjson_is_arr(list) ? "empty" : json_kind(list));
    if (n > TF_ROWS_MAX)
        return error_new(ERROR_OUT_OF_RANGE, "'%s' has %zu rows, more than %d", key, n,
                         TF_ROWS_MAX);
    *ret = arena_calloc(arena, n, sizeof(yyjson_val *));
    if (*ret == NULL) return error_memory();
    yyjson_arr_foreach(list, i, n, row)(*ret)[i] = row;
    *ret_n = n;
    return NULL;
}

static tidemill_error *open_root(struct slice body, struct tf_request *ret, yyjson_val **ret_root)
{
    TRY(json_body_read(body, &ret->doc));
    *ret_root = yyjson_doc_get_root(ret->doc);
    if (!yyjson_is_obj(*ret_root))
        return error_new(ERROR_WRONG_TYPE, "the request is %s, not an object",
                         json_kind(*ret_root));
    return check_signature_name(*ret_root);
}

/* The list of rows; columns: NULL, and *ret_columns. */
static tidemill_error *find_rows(yyjson_val *root, enum tf_verb verb, yyjson_val **ret,
                                 yyjson_val **ret_columns)
{
    const char *key = verb == TF_PREDICT ? "instances" : "examples";
    *ret = yyjson_obj_get(root, key);
    *ret_columns = verb == TF_PREDICT ? yyjson_obj_get(root, "inputs") : NULL;
    if (*ret != NULL && *ret_columns != NULL)
        return error_new(ERROR_WRONG_TYPE, "the request has both 'instances' and 'inputs'");
    if (*ret == NULL && *ret_columns == NULL)
        return error_new(ERROR_MISSING_FIELD, "the request has no '%s'%s", key,
                         verb == TF_PREDICT ? ", nor 'inputs'" : "");
    return NULL;
}

static tidemill_error *check_examples(const struct reading *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!yyjson_is_obj(r->rows[i]))
            return error_new(ERROR_WRONG_TYPE, "example %zu is %s, not an object of features", i,
                             json_kind(r->rows[i]));
    if (r->context == NULL || yyjson_is_obj(r->context)) return NULL;
    return error_new(ERROR_WRONG_TYPE, "'context' is %s, not an object", json_kind(r->context));
}

tidemill_error *tf_read(struct slice body, enum tf_verb verb,
                        const struct model_signature *signature, struct arena *arena,
                        struct tf_request *ret)
{
    struct reading r = {.signature = signature, .arena = arena, .request = ret};
    yyjson_val *root, *list, *columns;
    *ret = (struct tf_request){.verb = verb};
    TRY(open_root(body, ret, &root));
    TRY(find_rows(root, verb, &list, &columns));
    if (columns != NULL) return read_columns(&r, columns);
    TRY(take_rows(list, verb == TF_PREDICT ? "instances" : "examples", arena, &r.rows,
                  &ret->n_rows));
    if (verb != TF_PREDICT) {
        r.context = yyjson_obj_get(root, "context");
        TRY(check_examples(&r, ret->n_rows));
    }
    return make_calls(&r);
}

tidemill_error *tf_read_single(struct slice body, const struct model_signature *signature,
                               struct arena *arena, struct tf_request *ret)
{
    struct reading r = {.signature = signature, .arena = arena, .request = ret};
    yyjson_val *root;
    *ret = (struct tf_request){.is_single = true, .n_rows = 1};
    TRY(json_body_read(body, &ret->doc));
    root = yyjson_doc_get_root(ret->doc);
    r.rows = &root;
    return make_calls(&r);
}

/* --- rows as records -------------------------------------------------------------------------------------------------- */

static tidemill_error *put_record(const struct model_signature *signature, yyjson_val *row,
                                  struct buffer *out)
{
    bool is_whole = signature != NULL && signature->n_inputs > 0 && signature->inputs[0].is_json;
    bool is_bare = !yyjson_is_obj(row) || is_base64(row);
    if (is_bare && !is_whole && (signature == NULL || count_required(signature) != 1))
        return error_new(ERROR_WRONG_TYPE,
                         "an instance that waits for its window has to be an object that names the "
                         "model's inputs, such as {\"x\":[1,2]}");
    if (is_bare && !is_whole) {
        const char *name = signature->inputs[0].name;
        buffer_byte(out, '{');
        format_json_string(out, name, strlen(name));
        buffer_byte(out, ':');
    }
    json_put(out, row);
    buffer_text(out, is_bare && !is_whole ? "}\n" : "\n");
    return NULL;
}

static tidemill_error *put_records(struct tf_request *request, struct arena *arena,
                                   struct slice body, enum tf_verb verb,
                                   const struct model_signature *signature, struct buffer *out,
                                   uint64_t *ret_n)
{
    yyjson_val *root, *list, *columns, **rows;
    size_t n;
    TRY(open_root(body, request, &root));
    TRY(find_rows(root, verb, &list, &columns));
    if (columns != NULL)
        return error_new(ERROR_UNSUPPORTED, "requests that wait for their window come as rows: "
                                            "{\"instances\":[...]}");
    TRY(take_rows(list, "instances", arena, &rows, &n));
    for (size_t i = 0; i < n; i++) TRY(put_record(signature, rows[i], out));
    *ret_n = n;
    return NULL;
}

tidemill_error *tf_lines(struct slice body, enum tf_verb verb,
                         const struct model_signature *signature, struct buffer *out,
                         uint64_t *ret_n)
{
    struct tf_request request = {0};
    struct arena arena = {0};
    tidemill_error *error = put_records(&request, &arena, body, verb, signature, out, ret_n);
    yyjson_doc_free(request.doc);
    arena_free(&arena);
    return error;
}
