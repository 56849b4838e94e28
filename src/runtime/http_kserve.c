/* SPDX-License-Identifier: Apache-2.0 */
/* http_kserve.c - KServe's V2 protocol (Triton, KServe, MLServer, OpenVINO Model Server): rows are
 * stacked into the tensors that the model's metadata names, and answers cut back into rows.
 *
 * Source: kserve/open-inference-protocol, specification/protocol/inference_rest.md. Tensors travel as
 * JSON, row-major, flat; a server may answer flat or nested. */
#include "format/number.h"
#include "runtime/http_dialects.h"

#define NAME_BYTES_MAX 1024 /* it is written for each record */

#include <math.h>
#include <stdlib.h>

struct kserve_tensor {
    char *name;
    char datatype[8];
    struct shape shape; /* rank -1: not declared */
};

struct kserve_model {
    struct kserve_tensor inputs[MODEL_VALUES_MAX];
    size_t n_inputs;
};

/* What JSON can carry. */
static const struct datatype {
    const char *name;
    enum { ELEMENT_BOOL, ELEMENT_UNSIGNED, ELEMENT_INTEGER, ELEMENT_REAL, ELEMENT_TEXT } element;
    int bits; /* of a number */
    const char *wanted;
} datatypes[] = {
    {"BOOL", ELEMENT_BOOL, 0, "true or false"},
    {"UINT8", ELEMENT_UNSIGNED, 8, "a whole number from 0"},
    {"UINT16", ELEMENT_UNSIGNED, 16, "a whole number from 0"},
    {"UINT32", ELEMENT_UNSIGNED, 32, "a whole number from 0"},
    {"UINT64", ELEMENT_UNSIGNED, 64, "a whole number from 0"},
    {"INT8", ELEMENT_INTEGER, 8, "a whole number"},
    {"INT16", ELEMENT_INTEGER, 16, "a whole number"},
    {"INT32", ELEMENT_INTEGER, 32, "a whole number"},
    {"INT64", ELEMENT_INTEGER, 64, "a whole number"},
    {"FP32", ELEMENT_REAL, 32, "a number"},
    {"FP64", ELEMENT_REAL, 64, "a number"},
    {"BYTES", ELEMENT_TEXT, 0, "a string"},
};

static const struct datatype *find_datatype(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(datatypes); i++) {
        if (strcmp(datatypes[i].name, name) == 0) return &datatypes[i];
    }
    return NULL;
}

/* --- addresses --- */

static bool owns(const char *path)
{
    return path_find_name(path, "/v2/models/") != NULL;
}

static tidemill_error *parse(const char *path, struct http_target *target)
{
    const char *name = path_find_name(path, "/v2/models/");
    if (name == NULL)
        return error_new(ERROR_USAGE,
                         "the path '%s' is none of KServe's models: "
                         "http://HOST:8000/v2/models/NAME/infer",
                         path);
    size_t size = strlen(path);
    if (path_ends_with(path, "/")) size--;
    size_t verb = strlen("/infer");
    if (size >= verb && memcmp(path + size - verb, "/infer", verb) == 0) size -= verb;
    size_t prefix = (size_t)(name - path) - strlen("/v2/models/");
    TRY(path_put(&target->path, "%.*s/infer", (int)size, path));
    TRY(path_put(&target->metadata_path, "%.*s", (int)size, path));
    return path_put(&target->health_path, "%.*s/v2/health/ready", (int)prefix, path);
}

/* --- metadata --- */

/* -1 is any length. False: not a shape. */
static bool read_dims(yyjson_val *dims, struct shape *ret)
{
    size_t i, n;
    yyjson_val *dim;
    *ret = (struct shape){.rank = -1};
    if (dims == NULL || yyjson_is_null(dims)) return true;
    if (!yyjson_is_arr(dims) || yyjson_arr_size(dims) > TENSOR_RANK_MAX) return false;
    ret->rank = 0;
    yyjson_arr_foreach(dims, i, n, dim)
    {
        uint64_t count = 0;
        bool is_any = yyjson_is_raw(dim) && yyjson_get_raw(dim)[0] == '-';
        if (!is_any && !http_json_count(dim, &count)) return false;
        ret->dims[ret->rank++] = is_any ? -1 : (int64_t)count;
    }
    return true;
}

static tidemill_error *read_tensor(yyjson_val *entry, struct kserve_tensor *ret)
{
    const char *name = yyjson_get_str(yyjson_obj_get(entry, "name"));
    const char *datatype = yyjson_get_str(yyjson_obj_get(entry, "datatype"));
    if (name == NULL || datatype == NULL)
        return error_new(ERROR_MODEL_LOAD, "an input without name or datatype");
    if (find_datatype(datatype) == NULL)
        return error_new(ERROR_MODEL_LOAD,
                         "input '%.100s' is of type %.20s, which cannot be sent as "
                         "JSON",
                         name, datatype);
    if (!read_dims(yyjson_obj_get(entry, "shape"), &ret->shape))
        return error_new(ERROR_MODEL_LOAD,
                         "the shape of input '%.100s' is none, or has more than %d "
                         "dimensions",
                         name, TENSOR_RANK_MAX);
    memcpy(ret->datatype, datatype, strlen(datatype) + 1);
    ret->name = strdup(name);
    return ret->name == NULL ? error_memory() : NULL;
}

static bool is_open(const struct shape *shape)
{
    return shape->rank >= 1 && shape->dims[0] == -1;
}

/* The first dimension counts rows where all inputs and outputs leave it open. */
static bool finds_batch(const struct kserve_model *model, yyjson_val *outputs)
{
    size_t i, n;
    yyjson_val *output;
    for (size_t k = 0; k < model->n_inputs; k++) {
        if (!is_open(&model->inputs[k].shape)) return false;
    }
    yyjson_arr_foreach(outputs, i, n, output)
    {
        struct shape shape;
        if (!read_dims(yyjson_obj_get(output, "shape"), &shape) ||
            (shape.rank >= 0 && !is_open(&shape)))
            return false;
    }
    return true;
}

static tidemill_error *read_model(yyjson_val *root, struct kserve_model *ret)
{
    yyjson_val *inputs = yyjson_obj_get(root, "inputs"), *entry;
    size_t i, n;
    if (!yyjson_is_obj(root) || !yyjson_is_arr(inputs)) {
        const char *said = http_json_error(root);
        return error_new(ERROR_MODEL_LOAD, "no list of inputs%s%.200s", said == NULL ? "" : ": ",
                         said == NULL ? "" : said);
    }
    n = yyjson_arr_size(inputs);
    if (n == 0)
        return error_new(ERROR_MODEL_LOAD, "it names no inputs; with --protocol json and the path "
                                           "that ends in /infer each record is a whole request");
    if (n > MODEL_VALUES_MAX)
        return error_new(ERROR_MODEL_LOAD, "%zu inputs, more than %d", n, MODEL_VALUES_MAX);
    yyjson_arr_foreach(inputs, i, n, entry)
    {
        TRY(read_tensor(entry, &ret->inputs[i]));
        ret->n_inputs = i + 1;
    }
    return NULL;
}

tidemill_error *kserve_read_metadata(struct slice body, bool *ret_is_batched,
                                     struct kserve_model **ret)
{
    char problem[HTTP_MESSAGE_SIZE];
    yyjson_doc *doc = http_json_read(body, problem);
    if (doc == NULL) return error_new(ERROR_MODEL_LOAD, "the model's metadata is %s", problem);
    struct kserve_model *model = calloc(1, sizeof *model);
    yyjson_val *root = yyjson_doc_get_root(doc);
    tidemill_error *error = model == NULL ? error_memory() : read_model(root, model);
    if (error == NULL) *ret_is_batched = finds_batch(model, yyjson_obj_get(root, "outputs"));
    yyjson_doc_free(doc);
    if (error == NULL)
        *ret = model;
    else
        kserve_model_free(model);
    return error_context(error, "the model's metadata");
}

void kserve_model_free(struct kserve_model *model)
{
    if (model == NULL) return;
    for (size_t i = 0; i < COUNT_OF(model->inputs); i++) free(model->inputs[i].name);
    free(model);
}

tidemill_error *http_target_take_metadata(struct http_target *target, struct slice body)
{
    struct kserve_model *model = NULL;
    if (target->protocol != PROTOCOL_KSERVE) return NULL;
    TRY(kserve_read_metadata(body, &target->is_batched, &model));
    kserve_model_free(target->kserve);
    target->kserve = model;
    return NULL;
}

/* --- requests --- */

struct stacking {
    const struct http_target *target;
    const struct kserve_tensor *input;
    struct shape shape; /* of each row, once the first is there */
    struct buffer *out;
    char *message;
};

static bool is_element(const struct datatype *datatype, yyjson_val *value)
{
    if (datatype->element == ELEMENT_BOOL) return yyjson_is_bool(value);
    if (datatype->element == ELEMENT_TEXT) return yyjson_is_str(value);
    if (!yyjson_is_raw(value)) return false;
    if (datatype->element == ELEMENT_REAL) return true;
    const char *text = yyjson_get_raw(value);
    size_t size = yyjson_get_len(value);
    if (memchr(text, '.', size) != NULL || memchr(text, 'e', size) != NULL ||
        memchr(text, 'E', size) != NULL)
        return false;
    return datatype->element == ELEMENT_INTEGER || text[0] != '-';
}

/* Servers cut what does not fit, and say nothing: 300 becomes 44 as INT8, 1e39 infinity as FP32. */
static bool is_in_range(const struct datatype *datatype, yyjson_val *value)
{
    struct number number;
    uint64_t magnitude;
    const char *text = yyjson_get_raw(value), *end;
    if (text == NULL) return true;
    end = text + yyjson_get_len(value);
    if (number_scan(text, end, &number) != end) return false;
    if (datatype->element == ELEMENT_REAL) {
        double real = number_to_double(&number, text, end);
        return datatype->bits == 32 ? isfinite((float)real) : isfinite(real);
    }
    if (number_to_integer(&number, &magnitude) != ERROR_OK) return false;
    int bits = datatype->bits - (datatype->element == ELEMENT_INTEGER ? 1 : 0);
    uint64_t max = UINT64_MAX >> (64 - bits);
    return magnitude <= max || (number.is_negative && magnitude == max + 1);
}

static bool fits(const struct shape *declared, const struct shape *shape, int32_t first)
{
    if (declared->rank < 0) return true;
    if (declared->rank - first != shape->rank) return false;
    for (int32_t d = 0; d < shape->rank; d++) {
        int64_t dim = declared->dims[d + first];
        if (dim >= 0 && dim != shape->dims[d]) return false;
    }
    return true;
}

static void declared_text(const struct kserve_tensor *input, int32_t first, char *text, size_t size)
{
    struct shape row = {.rank = MAX(input->shape.rank - first, 0)};
    memcpy(row.dims, input->shape.dims + first, (size_t)row.rank * sizeof *row.dims);
    shape_text(&row, NULL, text, size);
}

/* `is_first`: the row that the others have to be like. */
static enum error_code check_shape(struct stacking *s, yyjson_val *value, bool is_first)
{
    int32_t first = s->target->is_batched ? 1 : 0;
    char wanted[160], found[160];
    struct shape shape;
    if (!tensor_shape_of(value, &shape)) {
        http_say(s->message,
                 "input '%s': its lists differ in length, hold objects, or are nested "
                 "deeper than %d",
                 s->input->name, TENSOR_RANK_MAX);
        return ERROR_WRONG_SHAPE;
    }
    shape_text(&shape, NULL, found, sizeof found);
    if (!fits(&s->input->shape, &shape, first)) {
        declared_text(s->input, first, wanted, sizeof wanted);
        http_say(s->message, "input '%s': expected shape %s, found %s", s->input->name, wanted,
                 found);
        return ERROR_WRONG_SHAPE;
    }
    if (is_first) s->shape = shape;
    if (fits(&s->shape, &shape, 0)) return ERROR_OK;
    shape_text(&s->shape, NULL, wanted, sizeof wanted);
    http_say(s->message, "input '%s': shape %s, but %s in the records that are asked with it",
             s->input->name, found, wanted);
    return ERROR_WRONG_SHAPE;
}

static enum error_code put_elements(struct stacking *s, yyjson_val *value, bool is_first)
{
    const struct datatype *datatype = find_datatype(s->input->datatype);
    struct tensor_walk walk;
    tensor_walk_begin(&walk, value);
    for (yyjson_val *element; (element = tensor_walk_next(&walk)) != NULL; is_first = false) {
        if (!is_element(datatype, element)) {
            http_say(s->message, "input '%s': expected %s (%s), found %s", s->input->name,
                     datatype->wanted, datatype->name, http_json_kind(element));
            return ERROR_WRONG_TYPE;
        }
        if (!is_in_range(datatype, element)) {
            http_say(s->message, "input '%s': %.*s does not fit %s", s->input->name,
                     (int)MIN(yyjson_get_len(element), (size_t)40), yyjson_get_raw(element),
                     datatype->name);
            return ERROR_OUT_OF_RANGE;
        }
        if (!is_first) buffer_byte(s->out, ',');
        http_json_put_scalar(s->out, element);
    }
    return ERROR_OK;
}

/* A model with one input takes its value as it is, too. */
static yyjson_val *find_value(const struct kserve_model *model, const struct kserve_tensor *input,
                              yyjson_val *row)
{
    return model->n_inputs == 1 && !yyjson_is_obj(row) ? row : yyjson_obj_get(row, input->name);
}

static enum error_code check_row(struct stacking *s, yyjson_val *row, bool is_first,
                                 yyjson_val **ret)
{
    *ret = find_value(s->target->kserve, s->input, row);
    if (*ret != NULL) return check_shape(s, *ret, is_first);
    http_say(s->message,
             yyjson_is_obj(row) ? "input '%s' is not there"
                                : "expected an object with the model's inputs ('%s')",
             s->input->name);
    return yyjson_is_obj(row) ? ERROR_MISSING_FIELD : ERROR_WRONG_TYPE;
}

static void put_head(struct stacking *s, size_t n)
{
    buffer_text(s->out, "{\"name\":");
    http_json_put_string(s->out, s->input->name, strlen(s->input->name));
    buffer_text(s->out, ",\"shape\":[");
    if (s->target->is_batched) buffer_printf(s->out, "%zu", n);
    for (int32_t d = 0; d < s->shape.rank; d++)
        buffer_printf(s->out, "%s%lld", d > 0 || s->target->is_batched ? "," : "",
                      (long long)s->shape.dims[d]);
    buffer_printf(s->out, "],\"datatype\":\"%s\",\"data\":[", s->input->datatype);
}

static enum error_code put_input(struct stacking *s, yyjson_doc *const *docs, size_t n,
                                 size_t *ret_row)
{
    for (size_t i = 0; i < n; i++) {
        yyjson_val *value;
        *ret_row = i;
        enum error_code code = check_row(s, yyjson_doc_get_root(docs[i]), i == 0, &value);
        if (code == ERROR_OK && i == 0) put_head(s, n);
        if (code == ERROR_OK) code = put_elements(s, value, i == 0);
        if (code != ERROR_OK) return code;
    }
    buffer_text(s->out, "]}");
    return ERROR_OK;
}

static enum error_code put_inputs(const struct http_target *target, yyjson_doc *const *docs,
                                  size_t n, struct buffer *out, size_t *ret_row, char *message)
{
    for (size_t k = 0; k < target->kserve->n_inputs; k++) {
        struct stacking stacking = {
            .target = target, .input = &target->kserve->inputs[k], .out = out, .message = message};
        if (k > 0) buffer_byte(out, ',');
        enum error_code code = put_input(&stacking, docs, n, ret_row);
        if (code != ERROR_OK) return code;
    }
    buffer_text(out, "]}");
    return ERROR_OK;
}

static enum error_code put_request(const struct http_target *target, const struct slice *rows,
                                   size_t n, struct buffer *out, size_t *ret_row, char *message)
{
    yyjson_doc **docs = calloc(n, sizeof *docs);
    enum error_code code = docs == NULL ? ERROR_MEMORY : ERROR_OK;
    if (docs == NULL) http_say(message, "out of memory for the request");
    for (size_t i = 0; i < n && code == ERROR_OK; i++) {
        *ret_row = i;
        docs[i] = http_json_read(rows[i], message);
        if (docs[i] == NULL) code = ERROR_INVALID_JSON;
    }
    /* Optional, but some servers cannot answer a request without. The same request has the same one. */
    buffer_printf(out, "{\"id\":\"%016llx\",\"inputs\":[",
                  (unsigned long long)hash_checksum(rows[0].data, rows[0].size));
    if (code == ERROR_OK) code = put_inputs(target, docs, n, out, ret_row, message);
    for (size_t i = 0; docs != NULL && i < n; i++) yyjson_doc_free(docs[i]);
    free(docs);
    return code;
}

/* --- answers --- */

struct kserve_output {
    yyjson_val *name;
    struct shape row;
    size_t row_scalars;
    struct tensor_walk walk;
};

struct unstacking {
    const struct http_target *target;
    size_t n; /* rows */
    struct kserve_output outputs[MODEL_VALUES_MAX];
    size_t n_outputs;
    char *message;
};

static bool refuse(struct unstacking *u, const char *name, const char *problem)
{
    http_say(u->message, "output '%s' of the answer %s", name == NULL ? "?" : name, problem);
    return false;
}

/* Flat, or nested as the shape says. */
static bool data_fits(yyjson_val *data, const struct shape *shape)
{
    struct shape found;
    size_t count;
    if (!shape_count(shape, &count) || !tensor_shape_of(data, &found)) return false;
    if (found.rank == 1 && (size_t)found.dims[0] == count) return true;
    if (shape->rank == 0 && found.rank == 0) return true;
    return fits(shape, &found, 0);
}

static bool take_output(struct unstacking *u, yyjson_val *entry, struct kserve_output *ret)
{
    yyjson_val *data = yyjson_obj_get(entry, "data"), *dims = yyjson_obj_get(entry, "shape");
    const char *name = yyjson_get_str(yyjson_obj_get(entry, "name"));
    int32_t first = u->target->is_batched ? 1 : 0;
    struct shape shape;
    if (name == NULL) return refuse(u, name, "has no name");
    if (strlen(name) > NAME_BYTES_MAX) return refuse(u, "?", "has too long a name");
    for (size_t i = 0; i < u->n_outputs; i++) {
        if (yyjson_equals(u->outputs[i].name, yyjson_obj_get(entry, "name")))
            return refuse(u, name, "is there twice");
    }
    if (data == NULL) return refuse(u, name, "has no data");
    if (!read_dims(dims, &shape) || shape.rank < first) return refuse(u, name, "has no shape");
    if (first == 1 && shape.dims[0] != (int64_t)u->n) {
        http_say(u->message, "expected %zu row%s in output '%s', found %lld", u->n,
                 u->n == 1 ? "" : "s", name, (long long)shape.dims[0]);
        return false;
    }
    if (!data_fits(data, &shape)) return refuse(u, name, "has data that is not of its shape");
    *ret = (struct kserve_output){.name = yyjson_obj_get(entry, "name"),
                                  .row = {.rank = shape.rank - first}};
    memcpy(ret->row.dims, shape.dims + first, (size_t)ret->row.rank * sizeof *ret->row.dims);
    tensor_walk_begin(&ret->walk, data);
    return shape_count(&ret->row, &ret->row_scalars) || refuse(u, name, "is too large");
}

static bool take_outputs(struct unstacking *u, yyjson_val *root)
{
    yyjson_val *outputs = yyjson_obj_get(root, "outputs"), *entry;
    size_t i, n = yyjson_arr_size(outputs);
    if (n == 0 || n > MODEL_VALUES_MAX) {
        const char *said = http_json_error(root);
        http_say(u->message, "the answer has no outputs, or more than %d%s%s", MODEL_VALUES_MAX,
                 said == NULL ? "" : ": ", said == NULL ? "" : said);
        return false;
    }
    yyjson_arr_foreach(outputs, i, n, entry)
    {
        if (!take_output(u, entry, &u->outputs[i])) return false;
        u->n_outputs = i + 1;
    }
    return true;
}

static void put_rows(struct unstacking *u, struct http_answer *answer)
{
    size_t start = answer->text->size;
    for (size_t i = 0; i < u->n; i++) {
        for (size_t k = 0; k < u->n_outputs; k++) {
            struct kserve_output *output = &u->outputs[k];
            buffer_byte(answer->text, k == 0 ? '{' : ',');
            http_json_put_scalar(answer->text, output->name);
            buffer_byte(answer->text, ':');
            tensor_put_nested(answer->text, &output->walk, &output->row, output->row_scalars);
        }
        buffer_byte(answer->text, '}');
        http_answer_end(answer, start, i);
    }
}

static enum error_code read_answer(const struct http_target *target, struct slice body, size_t n,
                                   struct http_answer *answer)
{
    char problem[HTTP_MESSAGE_SIZE];
    struct unstacking unstacking = {.target = target, .n = n, .message = answer->message};
    yyjson_doc *doc = http_json_read(body, problem);
    if (doc == NULL) {
        http_say(answer->message, "the answer is %s", problem);
        return ERROR_UPSTREAM;
    }
    bool is_fine = take_outputs(&unstacking, yyjson_doc_get_root(doc));
    if (is_fine) put_rows(&unstacking, answer);
    yyjson_doc_free(doc);
    return is_fine ? ERROR_OK : ERROR_UPSTREAM;
}

const struct http_dialect http_kserve = {
    .name = "kserve",
    .example = "http://HOST:8000/v2/models/NAME/infer",
    .owns = owns,
    .parse = parse,
    .put_request = put_request,
    .read_answer = read_answer,
};
