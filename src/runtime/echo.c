/* SPDX-License-Identifier: Apache-2.0 */
/* echo.c - a model that answers what it is asked: input "x", output "y" = x. Deterministic, with
 * programmable slowness and faults; for demonstrations, measurements of the engine, and fault tests.
 *
 *     echo                                   x float32 [batch, any]
 *     echo:width=4,type=int64,latency_us=50  x int64 [batch, 4], 50 us a call
 *
 *     echo:json=1                            record and response: JSON text, whatever it is
 *     echo:json=1,usage=1                    counts words as tokens: half of a text's are cached
 *     echo:json=1,serial=1                   answers 1, 2, 3, ..., whatever it is asked
 *     echo:units=8                           keeps up to 8 units, answers the newest first
 *     echo:units=8,room=2                    two of them, and the others wait in the socket
 *
 * An option `..._on=V` acts when the first element of some row equals V. */
#include "runtime/model.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define WIDTH_MAX (1 << 24)
#define OOM_BYTES_MAX ((size_t)2 << 30)
#define SERIAL_BYTES_MAX 32 /* of a number as a packed string */

enum option {
    OPTION_WIDTH,
    OPTION_LATENCY_US,
    OPTION_ROW_LATENCY_US,
    OPTION_CRASH_ON,
    OPTION_ABORT_ON,
    OPTION_EXIT_ON,
    OPTION_HANG_ON,
    OPTION_OOM_ON,
    OPTION_ERROR_ON,
    OPTION_NAN_ON,
    OPTION_WRONG_ROWS,
    OPTION_LOAD_MS,
    OPTION_LOAD_FAIL,
    OPTION_FIXED,
    OPTION_JSON,
    OPTION_USAGE,
    OPTION_SERIAL,
    OPTION_UNITS,
    OPTION_ROOM,
    OPTION_COUNT
};

static const struct {
    const char *name;
    double min, max;
} option_table[OPTION_COUNT] = {
    [OPTION_WIDTH] = {"width", 0, WIDTH_MAX},
    [OPTION_LATENCY_US] = {"latency_us", 0, 1e9},
    [OPTION_ROW_LATENCY_US] = {"row_latency_us", 0, 1e9},
    [OPTION_CRASH_ON] = {"crash_on", -1e300, 1e300},
    [OPTION_ABORT_ON] = {"abort_on", -1e300, 1e300},
    [OPTION_EXIT_ON] = {"exit_on", -1e300, 1e300},
    [OPTION_HANG_ON] = {"hang_on", -1e300, 1e300},
    [OPTION_OOM_ON] = {"oom_on", -1e300, 1e300},
    [OPTION_ERROR_ON] = {"error_on", -1e300, 1e300},
    [OPTION_NAN_ON] = {"nan_on", -1e300, 1e300},
    [OPTION_WRONG_ROWS] = {"wrong_rows", 0, 1},
    [OPTION_LOAD_MS] = {"load_ms", 0, 1e7},
    [OPTION_LOAD_FAIL] = {"load_fail", 0, 1},
    [OPTION_FIXED] = {"fixed", 1, 1 << 20},
    [OPTION_JSON] = {"json", 0, 1},
    [OPTION_USAGE] = {"usage", 0, 1},
    [OPTION_SERIAL] = {"serial", 0, 1},
    [OPTION_UNITS] = {"units", 3, 256},
    [OPTION_ROOM] = {"room", 1, 256},
};

struct echo {
    struct model model;
    bool is_set[OPTION_COUNT];
    double value[OPTION_COUNT];
    enum tensor_type type;
    uint64_t n_answered; /* rows */
    atomic_bool is_cancelled;
    struct model_unit *units[256]; /* with units=: given, in that order */
    size_t n_units;
};

bool model_is_echo(const char *name)
{
    return strncmp(name, "echo", 4) == 0 && (name[4] == '\0' || name[4] == ':');
}

/* Options. */

static tidemill_error *set_option(struct echo *echo, const char *name, const char *text)
{
    if (strcmp(name, "type") == 0) {
        echo->type = tensor_type_of_name(text);
        if (echo->type != TENSOR_UNDEFINED) return NULL;
        return error_new(ERROR_MODEL_LOAD, "echo: '%s' is not an element type", text);
    }
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(option_table[i].name, name) != 0) continue;
        char *end;
        double value = strtod(text, &end);
        if (end == text || *end != '\0' ||
            !(value >= option_table[i].min && value <= option_table[i].max))
            return error_new(ERROR_MODEL_LOAD, "echo: %s=%s is not a number from %g to %g", name,
                             text, option_table[i].min, option_table[i].max);
        echo->is_set[i] = true;
        echo->value[i] = value;
        return NULL;
    }
    return error_new(ERROR_MODEL_LOAD, "echo: there is no option '%s'", name);
}

static tidemill_error *parse_options(struct echo *echo, char *text)
{
    char *rest = NULL;
    for (char *part = strtok_r(text, ",", &rest); part != NULL; part = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(part, '=');
        if (equals == NULL)
            return error_new(ERROR_MODEL_LOAD, "echo: '%s' is not option=value", part);
        *equals = '\0';
        TRY(set_option(echo, part, equals + 1));
    }
    return NULL;
}

/* Waiting that a cancel ends. */
static void wait_us(struct echo *echo, double us)
{
    int64_t end_ns = clock_now_ns() + (int64_t)(us * 1e3), left_ns;
    while ((left_ns = end_ns - clock_now_ns()) > 0 && !atomic_load(&echo->is_cancelled)) {
        if (left_ns > 10000000) left_ns = 10000000;
        struct timespec pause = {.tv_nsec = left_ns};
        nanosleep(&pause, NULL);
    }
}

static tidemill_error *make_spec(struct echo *echo, const char *name, struct value_spec *ret)
{
    int64_t batch = echo->is_set[OPTION_FIXED] ? (int64_t)echo->value[OPTION_FIXED] : -1;
    int64_t width = echo->is_set[OPTION_WIDTH] ? (int64_t)echo->value[OPTION_WIDTH] : -1;
    *ret = (struct value_spec){.kind = VALUE_TENSOR,
                               .type = echo->type,
                               .shape = {.rank = 2, .dims = {batch, width}},
                               .name = strdup(name)};
    if (batch < 0) ret->dim_names[0] = strdup("batch");
    if (width < 0) ret->dim_names[1] = strdup("width");
    bool is_fine = ret->name != NULL && (batch >= 0 || ret->dim_names[0] != NULL) &&
                   (width >= 0 || ret->dim_names[1] != NULL);
    return is_fine ? NULL : error_memory();
}

static tidemill_error *make_signature(struct echo *echo, const struct model_options *options)
{
    struct model_signature *signature = &echo->model.signature;
    bool is_json = echo->value[OPTION_JSON] != 0;
    if (!is_json && (echo->value[OPTION_USAGE] != 0 || echo->value[OPTION_SERIAL] != 0))
        return error_new(ERROR_MODEL_LOAD, "echo: usage and serial are for json=1");
    if (is_json) return signature_make_json(signature, "record", "response", true);
    signature->inputs = calloc(1, sizeof *signature->inputs);
    signature->outputs = calloc(1, sizeof *signature->outputs);
    if (signature->inputs == NULL || signature->outputs == NULL) return error_memory();
    signature->n_inputs = signature->n_outputs = 1;
    TRY(make_spec(echo, "x", &signature->inputs[0]));
    TRY(make_spec(echo, "y", &signature->outputs[0]));
    for (size_t i = 0; i < options->n_output_names; i++)
        if (strcmp(options->output_names[i], "y") != 0 || i > 0)
            return error_new(ERROR_MODEL_LOAD, "echo has no output '%s'; it has: y",
                             options->output_names[i]);
    return signature_detect_batch(signature, options->batch_dimension);
}

static void echo_close(struct model *model)
{
    model_signature_free(&model->signature);
    free(model);
}

static tidemill_error *open_echo(struct echo *echo, const struct model_options *options, char *text)
{
    echo->type = TENSOR_FLOAT;
    TRY(parse_options(echo, text));
    TRY(make_signature(echo, options));
    echo->model.units_max = (uint32_t)echo->value[OPTION_UNITS];
    snprintf(echo->model.description, sizeof echo->model.description, "echo");
    wait_us(echo, echo->value[OPTION_LOAD_MS] * 1e3);
    if (echo->value[OPTION_LOAD_FAIL] != 0)
        return error_new(ERROR_MODEL_LOAD, "echo was told to fail to load");
    return NULL;
}

static tidemill_error *echo_open(const struct model_options *options, struct model **ret)
{
    struct echo *echo = calloc(1, sizeof *echo);
    char *text = strdup(options->model + (options->model[4] == ':' ? 5 : 4));
    tidemill_error *error = error_memory();
    if (echo != NULL && text != NULL) {
        echo->model.impl = &model_echo;
        error = open_echo(echo, options, text);
    }
    free(text);
    if (error == NULL)
        *ret = &echo->model;
    else if (echo != NULL)
        echo_close(&echo->model);
    return error;
}

/* Running. */

static double element_value(enum tensor_type type, const unsigned char *data)
{
#define ELEMENT(tensor, c_type)                                                                    \
    case tensor: {                                                                                 \
        c_type value;                                                                              \
        memcpy(&value, data, sizeof value);                                                        \
        return (double)value;                                                                      \
    }
    uint16_t half;
    switch (type) {
        ELEMENT(TENSOR_FLOAT, float)
        ELEMENT(TENSOR_DOUBLE, double)
        ELEMENT(TENSOR_INT8, int8_t)
        ELEMENT(TENSOR_INT16, int16_t)
        ELEMENT(TENSOR_INT32, int32_t)
        ELEMENT(TENSOR_INT64, int64_t)
        ELEMENT(TENSOR_UINT8, uint8_t)
        ELEMENT(TENSOR_UINT16, uint16_t)
        ELEMENT(TENSOR_UINT32, uint32_t)
        ELEMENT(TENSOR_UINT64, uint64_t)
        ELEMENT(TENSOR_BOOL, uint8_t)
    case TENSOR_FLOAT16:
    case TENSOR_BFLOAT16:
        memcpy(&half, data, sizeof half);
        return (double)(type == TENSOR_FLOAT16 ? float_from_half(half) : float_from_bfloat16(half));
    default: return 0;
    }
#undef ELEMENT
}

/* Takes and touches memory until somebody stops it; gives up, loudly, at a limit. */
static void eat_memory(struct echo *echo)
{
    size_t piece = (size_t)16 << 20;
    for (size_t eaten = 0; eaten < OOM_BYTES_MAX && !atomic_load(&echo->is_cancelled);
         eaten += piece) {
        volatile unsigned char *memory = malloc(piece);
        if (memory == NULL) break;
        for (size_t i = 0; i < piece; i += 4096) memory[i] = 1;
    }
    abort();
}

static bool is_on(const struct echo *echo, enum option option, double value)
{
    return echo->is_set[option] && echo->value[option] == value;
}

static tidemill_error *act_on_row(struct echo *echo, double value)
{
    if (is_on(echo, OPTION_CRASH_ON, value)) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would turn it into an exit */
        raise(SIGSEGV);
    }
    if (is_on(echo, OPTION_ABORT_ON, value)) abort();
    if (is_on(echo, OPTION_EXIT_ON, value)) _exit(0);
    if (is_on(echo, OPTION_OOM_ON, value)) eat_memory(echo);
    if (is_on(echo, OPTION_HANG_ON, value)) wait_us(echo, 1e15);
    if (is_on(echo, OPTION_ERROR_ON, value))
        return error_new(ERROR_MODEL_ERROR, "echo was told to refuse %g", value);
    return NULL;
}

static void put_nan(enum tensor_type type, unsigned char *data)
{
    float single = __builtin_nanf("");
    double wide = __builtin_nan("");
    uint16_t half = type == TENSOR_FLOAT16 ? 0x7e00 : 0x7fc0;
    if (type == TENSOR_FLOAT) memcpy(data, &single, sizeof single);
    if (type == TENSOR_DOUBLE) memcpy(data, &wide, sizeof wide);
    if (type == TENSOR_FLOAT16 || type == TENSOR_BFLOAT16) memcpy(data, &half, sizeof half);
}

static tidemill_error *answer_rows(struct echo *echo, const struct model_input *input,
                                   size_t n_rows, size_t row_bytes, struct answer *answer)
{
    struct shape shape = input->shape;
    size_t bytes = input->bytes;
    if (echo->value[OPTION_WRONG_ROWS] != 0 && n_rows > 0 && row_bytes > 0) {
        shape.dims[0] -= 1;
        bytes -= row_bytes;
    }
    unsigned char *data = NULL;
    struct wire_value *value = NULL;
    TRY(answer_place(answer, bytes, &data));
    if (bytes > 0) memcpy(data, input->data, bytes);
    for (size_t at = 0; row_bytes > 0 && at < bytes && echo->is_set[OPTION_NAN_ON]; at += row_bytes)
        if (is_on(echo, OPTION_NAN_ON, element_value(input->type, data + at)))
            put_nan(input->type, data + at);
    TRY(answer_add(answer, &value));
    answer_set_tensor(answer, value, input->type, &shape, data, bytes);
    return NULL;
}

/* Words are tokens here, of the question as of the answer. `data` are packed strings. */
static struct token_usage count_words(const unsigned char *data, size_t bytes)
{
    uint64_t n = 0;
    for (size_t at = 0; bytes - at >= sizeof(uint32_t);) {
        uint32_t size;
        bool is_inside = false;
        memcpy(&size, data + at, sizeof size);
        at += sizeof size;
        size_t end = at + MIN((size_t)size, bytes - at);
        for (; at < end; at++) {
            bool is_letter = isalnum(data[at]) != 0;
            n += is_letter && !is_inside;
            is_inside = is_letter;
        }
    }
    return (struct token_usage){.in = n, .cached = n / 2, .out = n};
}

/* Numbers from 1 on instead of the rows: equal rows that ran once have equal ones. */
static tidemill_error *answer_serials(struct echo *echo, const struct model_input *input,
                                      size_t n_rows, struct answer *answer)
{
    unsigned char *data = NULL;
    struct wire_value *value = NULL;
    size_t bytes = 0;
    TRY(answer_place(answer, n_rows * SERIAL_BYTES_MAX, &data));
    for (size_t i = 0; i < n_rows; i++) {
        char text[SERIAL_BYTES_MAX];
        uint32_t size =
            (uint32_t)snprintf(text, sizeof text, "%llu", (unsigned long long)++echo->n_answered);
        memcpy(data + bytes, &size, sizeof size);
        memcpy(data + bytes + sizeof size, text, size);
        bytes += sizeof size + size;
    }
    TRY(answer_add(answer, &value));
    answer_set_tensor(answer, value, input->type, &input->shape, data, bytes);
    return NULL;
}

static tidemill_error *echo_run(struct model *model, const struct model_input *inputs,
                                uint32_t n_rows, struct answer *answer)
{
    struct echo *echo = (struct echo *)model;
    const struct model_input *input = &inputs[0];
    size_t rows = input->shape.rank > 0 ? (size_t)MAX(input->shape.dims[0], INT64_C(0)) : 1;
    /* Packed strings have rows of different lengths: no faults there. */
    size_t row_bytes = rows > 0 && input->type != TENSOR_STRING ? input->bytes / rows : 0;
    wait_us(echo, echo->value[OPTION_LATENCY_US] + echo->value[OPTION_ROW_LATENCY_US] * n_rows);
    /* Rows that fill up a fixed batch do nothing. */
    size_t acting = model->signature.is_batched ? MIN(rows, (size_t)n_rows) : rows;
    for (size_t i = 0; i < acting && row_bytes > 0; i++)
        TRY(act_on_row(echo, element_value(input->type, input->data + i * row_bytes)));
    if (atomic_load(&echo->is_cancelled)) return error_new(ERROR_MODEL_ERROR, "cancelled");
    if (echo->value[OPTION_USAGE] != 0) answer->usage = count_words(input->data, input->bytes);
    if (echo->value[OPTION_SERIAL] != 0) return answer_serials(echo, input, rows, answer);
    return answer_rows(echo, input, rows, row_bytes, answer);
}

/* Many at a time. */

static bool echo_has_room(const struct model *model)
{
    const struct echo *echo = (const struct echo *)model;
    size_t room = echo->is_set[OPTION_ROOM] ? (size_t)echo->value[OPTION_ROOM] : model->units_max;
    return echo->n_units < MIN(room, (size_t)model->units_max);
}

static void echo_give(struct model *model, struct model_unit *unit)
{
    struct echo *echo = (struct echo *)model;
    echo->units[echo->n_units++] = unit;
}

static void echo_step(struct model *model)
{
    struct echo *echo = (struct echo *)model;
    struct model_unit *unit = echo->units[--echo->n_units];
    unit->error = echo_run(model, unit->inputs, unit->n_rows, &unit->answer);
    unit->usage = (struct token_usage){.in = unit->n_rows, .out = 1};
    unit->is_done = true;
}

static void echo_cancel(struct model *model)
{
    atomic_store(&((struct echo *)model)->is_cancelled, true);
}

const struct model_impl model_echo = {.name = "echo",
                                      .open = echo_open,
                                      .run = echo_run,
                                      .has_room = echo_has_room,
                                      .give = echo_give,
                                      .step = echo_step,
                                      .cancel = echo_cancel,
                                      .close = echo_close};
