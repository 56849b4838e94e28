/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h - one raw record -> id, kept fields, the model's input rows.
 *
 * JSON is read twice as fast as a tree allows by a scanner that writes numbers straight into the
 * tensor; it takes a plain subset and hands every record that is not plainly in it, right or wrong,
 * to yyjson, which alone decides what is an error. So the two ways give the same bytes. */
#ifndef TIDEMILL_FORMAT_DECODE_H
#define TIDEMILL_FORMAT_DECODE_H

#include "format/source.h"
#include "format/tensor.h"

struct tokenizer;

/* NaN and infinity, in inputs ("NaN" strings, CSV cells, base64 and .npy data, numbers that overflow
 * the type) and in outputs. ERROR: that record fails. Inputs: NULL and STRING both let them through.
 * Outputs: NULL writes null; STRING writes "NaN", "Infinity", "-Infinity". */
enum nonfinite_policy { NONFINITE_ERROR, NONFINITE_NULL, NONFINITE_STRING };

#define JSON_DEPTH_MAX 128

struct decoder_config {
    const struct source_schema *schema;
    const struct model_signature *signature;
    const char *const *maps; /* "INPUT=FIELD": FIELD a key, a "/json/pointer", a list "a,b,c" or a
                                range of columns "p0..p63" joined into one row */
    size_t n_maps;
    const char *id_field; /* NULL: custom_id, else id, where the sample has it, else line numbers;
                             "": line numbers */
    const char *const *keep; /* fields carried into the output */
    size_t n_keep;
    bool keep_all;
    const char *template_text; /* NULL, or JSON with {{field}} places; maps then name its fields */
    size_t template_size;
    enum nonfinite_policy nonfinite;
    const struct tokenizer *tokenizer; /* NULL: none; borrowed. Text in the field of input_ids */
    const char *const *masks;          /* inputs that are made of ones where a record has none */
    size_t n_masks;
};

/* A record's part of one model input. */
struct record_input {
    size_t offset; /* in the area, from its base */
    size_t bytes;
    struct shape shape; /* of the row, without a batch dimension */
};

struct kept_field {
    struct slice key;   /* JSON text, quotes included */
    struct slice value; /* JSON text; a CSV cell has become a JSON string */
};

struct record {
    struct slice id; /* JSON text, a string or a number as it came; the line number where none */
    enum error_code error;
    const char *message;         /* with an error: "field 'x': expected 64 numbers, found 63" */
    struct record_input *inputs; /* n_inputs of the signature; in the arena */
    struct kept_field *kept;
    size_t n_kept;
    struct slice text[2]; /* UTF-8, unescaped; lives as long as raw record and arena */
    uint32_t n_texts;     /* > 0: decoder_tokenize has to turn it into tokens before it can run */
};

/* Where input rows are written. Each input has its own stretch of input_capacity bytes, so that rows
 * of one shape lie one behind another, ready to be one tensor. A failed record leaves no trace. */
struct tensor_area {
    unsigned char *base;
    size_t input_capacity;
    size_t used[MODEL_VALUES_MAX];
};

/* Immutable once made; threads share it. */
struct decoder;
/* `sample`: the first record of the input that can be read, for the automatic parts (which field is
 * which input, which is the id, which holds text); may be broken or absent (size 0). ERROR_USAGE where a map names what is not there or
 * an input finds no field; the message lists the fields and shows a --map line to write. */
tidemill_error *decoder_new(const struct decoder_config *config, struct slice sample,
                            struct decoder **ret);
/* Whether this record would do as a sample: a JSON object, a CSV line with all its cells. */
bool decoder_can_sample(const struct source_schema *schema, struct slice record);
/* Whether the sample has text where decoder_new would want config->tokenizer, which is not looked at. */
tidemill_error *decoder_brings_text(const struct decoder_config *config, struct slice sample,
                                    bool *ret);
/* What was decided: one "INPUT=FIELD" a line, and "id=FIELD". Borrowed. */
const char *decoder_description(const struct decoder *decoder);
void decoder_free(struct decoder *decoder);

/* One thread's working memory. */
struct decode_scratch;
struct decode_scratch *decode_scratch_new(void);
void decode_scratch_free(struct decode_scratch *scratch);

/* Never fails as a call: what is wrong with the record stands in ret->error and ret->message (also
 * when raw->error is set, and when memory or the area runs out). Slices of *ret point into raw, the
 * arena or static memory. With n_texts > 0 the inputs that the text gives have 0 bytes so far. */
void decoder_decode(const struct decoder *decoder, struct decode_scratch *scratch,
                    const struct raw_record *raw, struct tensor_area *area, struct arena *arena,
                    struct record *ret);

/* For a record with n_texts > 0: text -> tokens, and the inputs that follow from them, into the area.
 * Then n_texts is 0; or the record's error is set. Any thread with its own scratch. */
void decoder_tokenize(const struct decoder *decoder, struct decode_scratch *scratch,
                      struct tensor_area *area, struct arena *arena, struct record *record);

#endif
