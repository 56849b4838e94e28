/* SPDX-License-Identifier: Apache-2.0 */
/* encode_parts.h - what the encoder's files share; nobody else's.
 *
 *   encode.c        the configuration, checked and made ready; the calls of encode.h
 *   encode_rows.c   where each record's part of an answer begins
 *   encode_json.c   a part as JSON text
 *   encode_csv.c    a part as CSV cells
 *   encode_batch.c  a part as OpenAI's Batch API gives it
 *   encode_array.c  a part as .npy/.npz bytes, and the files' heads */
#ifndef TIDEMILL_FORMAT_ENCODE_PARTS_H
#define TIDEMILL_FORMAT_ENCODE_PARTS_H

#include "format/encode.h"
#include "format/post.h"

/* How one output is written. */
struct output_plan {
    const struct value_spec *spec;
    struct shape row;        /* as declared; rank -1 or dims -1 where not known */
    bool is_row_known;       /* every dimension is */
    size_t row_count;        /* elements, when known */
    struct post post;        /* no steps and no pick where --post does not apply */
    bool is_nested;          /* picks stand under the output's name */
    struct slice key;        /* JSON: ,"name": */
    bool is_cells;           /* CSV: one cell an element or pick; else JSON text in one cell */
    bool is_shape_fixed;     /* an answer of another shape than declared cannot be written */
    enum tensor_type stored; /* .npy/.npz: the element type written */
    struct shape stored_row; /* of one record */
    size_t stored_count, stored_bytes;
};

/* CSV: a column of kept values. */
struct kept_column {
    const char *name;
    struct slice key; /* as the decoder gives it: JSON text */
};

struct encoder {
    struct encoder_config config; /* strings are the caller's */
    struct arena arena;
    struct output_plan *outputs;
    struct slice *labels; /* as JSON strings */
    struct kept_column *columns;
    size_t n_columns;
};

/* One record's part of one output. */
struct row_view {
    const struct value *value; /* of a tensor: the whole tensor; else the record's own value */
    const unsigned char *data; /* of a tensor: where the record begins */
    size_t first;              /* elements at `data` that are not the record's (4-bit types) */
    const unsigned char *end;  /* of a tensor: where the tensor ends */
    struct shape shape;        /* of the record's part */
};

struct encode_scratch {
    const struct value *values;
    size_t n_values;
    uint32_t n_rows;
    struct row_lengths lengths;
    struct buffer trimmed; /* a record's part without its padding, where that lies inside */
    size_t *string_rows[MODEL_VALUES_MAX]; /* of string tensors: byte offset of each record */
    size_t string_capacity[MODEL_VALUES_MAX];
    double *numbers; /* a record's numbers during post-processing */
    size_t numbers_capacity;
    uint32_t places[1024];
    struct buffer cell;
    char message[512];
};

/* Behind a value's last byte; an empty value may have no address. */
static inline const unsigned char *value_end(const struct value *value)
{
    return value->bytes > 0 ? value->data + value->bytes : value->data;
}

/* The record's part of output i of the values that encoder_set_values has checked; its data may be
 * overwritten by the next call. */
struct row_view row_view_of(const struct encoder *encoder, struct encode_scratch *scratch, size_t i,
                            uint32_t row);
/* A tensor row's numbers as double in scratch->numbers, after the output's steps; NULL: no memory.
 * Not for strings. */
double *row_numbers(struct encode_scratch *scratch, const struct row_view *view,
                    const struct post *post, size_t *ret_count);
/* Splits a row for a pick: `n` numbers in the last dimension, `outer` stretches of them. */
void row_stretches(const struct shape *shape, size_t *ret_outer, size_t *ret_n);
/* Whether numbers from row_numbers may be written or picked from: with the policy ERROR none may be
 * NaN or infinite. The message names the place in the model's answer, not in what steps made of it. */
enum error_code check_numbers(const struct encoder *encoder, struct encode_scratch *scratch,
                              const struct output_plan *plan, const struct row_view *view,
                              const double *numbers, size_t count);
bool has_post(const struct post *post);

/* Appends ,"name":value or the picks. Errors as in encoder_append_answer. */
enum error_code json_append_output(const struct encoder *encoder, struct encode_scratch *scratch,
                                   size_t i, uint32_t row, struct buffer *out);
/* Appends the value alone, as JSON. */
enum error_code json_append_value(const struct encoder *encoder, struct encode_scratch *scratch,
                                  size_t i, uint32_t row, struct buffer *out);
void json_append_label(const struct encoder *encoder, uint32_t place, struct buffer *out);

void csv_begin(const struct encoder *encoder, struct buffer *out);
enum error_code csv_append_head(const struct encoder *encoder, const struct record *record,
                                struct buffer *out);
enum error_code csv_append_answer(const struct encoder *encoder, struct encode_scratch *scratch,
                                  uint32_t row, struct buffer *out);

/* ERROR_USAGE where the model or --keep does not fit. */
tidemill_error *batch_check(const struct encoder_config *config);
void batch_append_head(const struct encoder *encoder, const struct record *record, uint64_t index,
                       struct buffer *out);
enum error_code batch_append_answer(const struct encoder *encoder, struct encode_scratch *scratch,
                                    uint32_t row, struct buffer *out);
/* {"id":..,"custom_id":.. : the beginning of any line. */
void batch_append_names(struct buffer *out, struct digest job, uint64_t index, struct slice id);

tidemill_error *array_plan_output(struct output_plan *plan);
void array_header(const struct output_plan *plan, uint64_t n_rows, struct buffer *out);
enum error_code array_append_record(const struct encoder *encoder, struct encode_scratch *scratch,
                                    uint32_t row, struct buffer *out);
void array_append_failed(const struct output_plan *plan, struct buffer *out);

/* "output 'logits' has NaN at [3]" into scratch->message; returns ERROR_OUTPUT_NOT_FINITE. `shape`
 * is the record's part's, `place` an index into it. */
enum error_code fail_nonfinite(struct encode_scratch *scratch, const struct value_spec *spec,
                               const struct shape *shape, double value, size_t place);

#endif
