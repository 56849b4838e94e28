/* SPDX-License-Identifier: Apache-2.0 */
/* encode.h - one record's answer -> a line of JSONL or CSV, or a row of .npy or .npz; and a failed
 * record -> a line of the error sink. float32 is written in the shortest form that reads back to the
 * same float32, float64 likewise. */
#ifndef TIDEMILL_FORMAT_ENCODE_H
#define TIDEMILL_FORMAT_ENCODE_H

#include "format/decode.h"
#include "format/source.h"
#include "format/tensor.h"

struct encoder_config {
    enum format format;
    const struct value_spec *outputs; /* the outputs wanted, as the model declares them */
    size_t n_outputs;
    bool is_batched;
    int64_t batch_fixed; /* > 0: every answer holds that many rows, the last ones may be filler */
    const char *post;    /* NULL or "none", or a chain of softmax, sigmoid, argmax, topk:K */
    const char *const *labels; /* NULL, or a name for each class */
    size_t n_labels;
    enum nonfinite_policy nonfinite;
    const char *const *keep; /* the decoder's; a CSV header needs the names */
    size_t n_keep;
    bool keep_all;
    struct digest job;                  /* FORMAT_OPENAI_BATCH: names of lines are made from it */
    const struct source_schema *schema; /* with keep_all and CSV output: the columns */
    const uint32_t
        *padded_dims; /* NULL, or of each output a bit for each dimension of the record's part
                                    that is padded when records are */
};

/* Immutable once made; threads share it. ERROR_USAGE where the format cannot hold what is asked for
 * (.npy: one numeric output of a known row shape; --post on a string output; a kept field and an
 * output of one name; labels with no argmax or topk). */
struct encoder;
tidemill_error *encoder_new(const struct encoder_config *config, struct encoder **ret);
void encoder_free(struct encoder *encoder);

/* What comes before the first row (CSV: the header; .npy: 128 bytes that encoder_finish_header
 * fills once the count is known). */
void encoder_begin(const struct encoder *encoder, struct buffer *out);
/* .npy: the header for n_rows, to be written over the one of encoder_begin. False: nothing to do. */
bool encoder_finish_header(const struct encoder *encoder, uint64_t n_rows, struct buffer *out);
/* .npz: rows lie interleaved in the spool; this writes the archive from it. Others: false. */
bool encoder_must_assemble(const struct encoder *encoder);
tidemill_error *encoder_assemble(const struct encoder *encoder, const struct io *io,
                                 const char *rows_path, uint64_t n_rows, const char *archive_path);

/* One thread's working memory. */
struct encode_scratch;
struct encode_scratch *encode_scratch_new(void);
void encode_scratch_free(struct encode_scratch *scratch);

/* How long each record of a microbatch is along the padded dimension, and what it was padded to. */
struct row_lengths {
    const uint32_t *lengths; /* NULL: nothing was padded */
    uint32_t padded;
};

/* Called once a microbatch, before its rows: checks that the values have n_rows records in them and
 * finds where each begins. ERROR_MODEL_ERROR with one sentence where they have not. Returns OK or a
 * code; *ret_message then points to static or scratch memory. `values` and what `lengths` points to
 * are borrowed until the next call; padding is cut off the outputs that bear it. */
enum error_code encoder_set_values(const struct encoder *encoder, struct encode_scratch *scratch,
                                   const struct value *values, size_t n_values, uint32_t n_rows,
                                   const struct row_lengths *lengths, const char **ret_message);
/* A record's line (row) is a head, which is the record's own, and an answer, which is the same for
 * every record with the same input: id and kept fields, then the outputs of row `row` of the values
 * and the line's end. Arrays have no head. `index`: of the record in the job. On an error code nothing is appended. */
enum error_code encoder_append_head(const struct encoder *encoder, const struct record *record,
                                    uint64_t index, struct buffer *out);
enum error_code encoder_append_answer(const struct encoder *encoder, struct encode_scratch *scratch,
                                      uint32_t row, struct buffer *out, const char **ret_message);
/* What stands in the output for a failed record: nothing in text; in .npy and .npz, where
 * rows are counted, a row of NaN (floats) or zeros. */
void encoder_append_failed(const struct encoder *encoder, struct buffer *out);

/* One line of the error sink:
 * {"id":..,"index":..,"line":..,"input":"a.jsonl","code":"wrong_shape","message":"..","record":..}
 * index: 0-based number of the record in the job. record: the JSON itself where it is JSON (compact,
 * one line), a CSV row as an object by column, .npy/.npz rows as {"name":{"b64","dtype","shape"}},
 * else the text as a string; "record_b64" instead where it is not UTF-8; with
 * "record_truncated":true and its size where it was too long. With `batch_job` (else NULL), the job that
 * FORMAT_OPENAI_BATCH makes names from, it begins as such a line of a failed request does,
 * {"id":"batch_req_..","custom_id":..,"response":null,"error":{"code":"..","message":".."}, and
 * "index", "line", "input", "code" and the record follow. */
void error_line_append(struct buffer *out, const struct source_schema *schema,
                       const struct raw_record *raw, const char *input_path, uint64_t index,
                       struct slice id, enum error_code code, const char *message,
                       const struct digest *batch_job);

/* --- numbers and text, for whoever else writes JSON ------------------------------------------------ */

/* Shortest decimal that reads back to `value`; finite. At most 32 bytes, no NUL; returns the end. */
char *format_float(char *out, float value);
char *format_double(char *out, double value);
char *format_int64(char *out, int64_t value);
char *format_uint64(char *out, uint64_t value);
/* A JSON string with quotes. Bytes that are not UTF-8 become U+FFFD. */
void format_json_string(struct buffer *out, const char *text, size_t size);
bool format_is_utf8(const char *text, size_t size);
/* A CSV cell, quoted where RFC 4180 wants it. */
void format_csv_cell(struct buffer *out, const char *text, size_t size);
void format_base64(struct buffer *out, const void *data, size_t size);
/* Decodes into `out` (room for size / 4 * 3 + 3 bytes). False: not base64. */
bool parse_base64(const char *text, size_t size, unsigned char *out, size_t *ret_size);

#endif
