/* SPDX-License-Identifier: Apache-2.0 */
/* decode_parts.h - what the decode_*.c files share; nobody else's.
 *
 * A `reading` says which top-level keys (columns, arrays) of a record matter. Reading a record fills
 * scratch->found (raw JSON text of each field) and, in the tree's way, scratch->values. With a
 * template there are two readings: of the row, and of the body that the row is expanded to. */
#ifndef TIDEMILL_FORMAT_DECODE_PARTS_H
#define TIDEMILL_FORMAT_DECODE_PARTS_H

#include "format/decode.h"
#include "format/decode_value.h"
#include "format/template.h"
#include "format/tokenizer.h"

#include <yyjson.h>

/* One key that matters. */
struct field {
    struct slice name;   /* the key itself */
    struct slice quoted; /* as JSON text */
    bool is_text_wanted; /* as id, kept field or in a template */
    int32_t input;       /* the input that it goes to; -1: none */
    uint32_t part;       /* which part of that */
    uint32_t column;     /* CSV column, array */
};

/* A field, or what a JSON pointer finds in it. */
struct field_ref {
    uint32_t field;
    const struct slice *tokens; /* the pointer's, after the first; unescaped */
    size_t n_tokens;
    const char *text; /* as written, for messages */
};

/* What an input consists of where a record has no field for it. */
enum making {
    MAKE_NOTHING,   /* that record is wrong */
    MAKE_ONES,      /* attention_mask */
    MAKE_TYPES,     /* token_type_ids: the tokenizer's, or zeros */
    MAKE_POSITIONS, /* 0, 1, 2, ... */
};

struct input_plan {
    const char *name;
    enum tensor_type type;
    struct shape row_shape;
    char *const *dim_names;
    bool is_fixed; /* all dimensions known; then: */
    size_t count;
    const struct field_ref *parts;
    size_t n_parts;
    bool is_joined;   /* each part gives one element */
    bool is_text;     /* token ids of its parts' text: one, or a pair */
    bool is_json;     /* the text of a JSON value */
    bool is_whole;    /* that of the whole record, or of the expanded template */
    bool is_optional; /* "" where a record has no field for it */
    enum making making;
    size_t source;     /* with a making: the input whose shape it takes */
    const char *label; /* field as written, for messages */
};

struct reading {
    struct field *fields;
    size_t n_fields;
    uint32_t *slots; /* hash of names -> field + 1 */
    size_t n_slots;  /* a power of two; 0: no fields */
    bool is_plain;   /* the fast way may try */
    bool has_inputs; /* the model's inputs come from this one */
    bool wants_all;  /* collect all members as kept fields, the id's field excepted */
    int64_t id_field;
    uint64_t digest; /* of the names: key memories of another reading do not serve */
    size_t memory;   /* which of the scratch's key memories */
};

struct decoder {
    struct arena arena; /* holds all below */
    enum format format;
    struct input_plan *inputs;
    size_t n_inputs;
    struct reading row, body; /* body: only with a template */
    struct template_text *template_text;
    struct field_ref *template_refs; /* of the row, in the order of the template's fields */
    bool has_id;
    struct field_ref id;
    struct field_ref *keep;
    struct slice *keep_keys; /* JSON text */
    size_t n_keep;
    bool keep_all;
    const char **columns; /* CSV */
    struct slice *column_keys;
    size_t n_columns;
    struct source_array *arrays; /* .npy, .npz */
    size_t n_arrays;
    enum nonfinite_policy nonfinite;
    const struct tokenizer *tokenizer;
    const struct input_plan *text_input; /* the one that is_text; NULL: none */
    bool has_making;
    bool is_fast_off;
    char *description;
};

/* The order of keys in the last record. The next record's keys are compared with it first. */
#define KEY_MEMORY_MAX 128
#define KEY_TEXT_MAX 60
struct key_memory {
    uint64_t digest;
    size_t n;
    struct remembered_key {
        char text[KEY_TEXT_MAX]; /* with quotes */
        int16_t size;
        int16_t field; /* -1: does not matter */
    } keys[KEY_MEMORY_MAX];
};

struct decode_scratch {
    struct slice *found;
    yyjson_val **values;
    size_t n_found;
    struct row rows[MODEL_VALUES_MAX];
    struct key_memory memories[2];
    yyjson_alc *allocator;
    yyjson_doc *doc;
    struct buffer text;     /* yyjson's copy, changed in place */
    struct buffer body;     /* expanded template */
    struct buffer binary;   /* decoded base64 */
    struct buffer all_kept; /* struct kept_field */
    struct buffer key_set;  /* uint32_t slots */
    struct buffer cells;    /* struct slice */
};

/* One record at work. */
struct decoding {
    const struct decoder *decoder;
    struct decode_scratch *scratch;
    const struct raw_record *raw;
    struct tensor_area *area;
    struct arena *arena;
    struct record *record;
};

/* Sets the record's error; returns false. */
bool decoding_fail(struct decoding *decoding, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool decoding_fail_memory(struct decoding *decoding);

/* Field number of a key; -1: it does not matter. */
int32_t reading_find(const struct reading *reading, const char *name, size_t size);
/* Empties scratch->found and values for a record of this reading. */
bool reading_reset(struct decoding *decoding, const struct reading *reading);
/* The place where input `index` of this record goes. */
void decoding_begin_row(struct decoding *decoding, size_t index, struct row *row);

/* decode_fast.c. False: not plain (nothing is decided); true: found and rows are filled. */
bool fast_read(struct decoding *decoding, const struct reading *reading, struct slice text);

/* decode_json.c. False: the record failed. */
bool json_read(struct decoding *decoding, const struct reading *reading, struct slice text);
bool json_put_inputs(struct decoding *decoding, const struct reading *reading);
/* Reads a value that stands alone (a CSV cell) into the row. */
bool json_put_text(struct decoding *decoding, struct row *row, struct slice text);
/* Follows the pointer; false: not there. `ret_text` may be NULL. Only after json_read when the
 * reference has tokens. */
bool json_resolve(const struct decoding *decoding, const struct field_ref *ref,
                  yyjson_val **ret_value, struct slice *ret_text);

/* decode_whole.c: JSON as it stands, for inputs that take JSON text. */
bool json_put_whole(struct decoding *decoding, const struct reading *reading, struct row *row);
bool json_put_verbatim(struct decoding *decoding, struct row *row, struct slice text);
bool csv_put_whole(struct decoding *decoding, const struct slice *cells, struct row *row);
bool csv_put_verbatim(struct decoding *decoding, struct row *row, struct slice cell);

/* decode_csv.c, decode_rows.c */
bool csv_decode(struct decoding *decoding);
bool csv_put_inputs(struct decoding *decoding);
bool rows_decode(struct decoding *decoding);

/* decode_tokens.c. Text number `part` of the record; the bytes are the caller's to keep. */
void decoding_take_text(struct decoding *decoding, uint32_t part, struct slice text);
/* After all fields: marks what waits for decoder_tokenize, or fills what is made. */
bool decoding_finish_rows(struct decoding *decoding);

/* For tests: every record goes to the tree. */
void decoder_disable_fast(struct decoder *decoder);

#endif
