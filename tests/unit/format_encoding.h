/* SPDX-License-Identifier: Apache-2.0 */
/* format_encoding.h - models' answers written down in tables, and an encoder with all around it. */
#ifndef TIDEMILL_TESTS_FORMAT_ENCODING_H
#define TIDEMILL_TESTS_FORMAT_ENCODING_H

#include "format/encode.h"

#include "expect.h"

#define OUTPUTS_MAX 4
#define VALUES_MAX 12

/* SHAPE(2, 3); SCALAR is the shape of one number. At file scope the literals live for ever. */
#define SHAPE(...)                                                                                 \
    {                                                                                              \
        .rank = (int32_t)COUNT_OF(((int64_t[]){__VA_ARGS__})), .dims = { __VA_ARGS__ }             \
    }
#define SCALAR                                                                                     \
    {                                                                                              \
        .rank = 0                                                                                  \
    }
#define SPEC(type_, name_, ...)                                                                    \
    {                                                                                              \
        .name = (char *)(uintptr_t)name_, .type = TENSOR_##type_, .shape = __VA_ARGS__             \
    }
#define SPEC_OTHER(kind_, name_)                                                                   \
    {                                                                                              \
        .name = (char *)(uintptr_t)name_, .kind = VALUE_##kind_, .shape = {.rank = -1 }            \
    }
/* VALUE(FLOAT, SHAPE(2, 2), float, 1, 2, 3, 4) */
#define VALUE(type_, shape_, c_type, ...)                                                          \
    {                                                                                              \
        .type = TENSOR_##type_, .shape = shape_, .data = (unsigned char *)(c_type[]){__VA_ARGS__}, \
        .bytes = sizeof((c_type[]){__VA_ARGS__})                                                   \
    }
/* Packed strings: TEXT("\1\0\0\0a" "\0\0\0\0") without the literal's own NUL. */
#define TEXT(shape_, literal)                                                                      \
    {                                                                                              \
        .type = TENSOR_STRING, .shape = shape_, .data = (const unsigned char *)literal,            \
        .bytes = sizeof literal - 1                                                                \
    }
#define PARENT(kind_, first, n)                                                                    \
    {                                                                                              \
        .kind = VALUE_##kind_, .first_child = first, .n_children = n                               \
    }
#define KEPT(key_, value_)                                                                         \
    {                                                                                              \
        {key_, sizeof key_ - 1},                                                                   \
        {                                                                                          \
            value_, sizeof value_ - 1                                                              \
        }                                                                                          \
    }

struct encoding_case {
    const char *name; /* what breaks when it fails */
    enum format format;
    const char *post;
    const char *labels[4], *keep[4];
    bool is_unbatched, keep_all;
    int64_t batch_fixed;
    enum nonfinite_policy nonfinite;
    struct value_spec outputs[OUTPUTS_MAX];
    struct value values[VALUES_MAX];
    uint32_t n_rows; /* 0: one */
    uint32_t row;
    const char *id; /* NULL: 7 */
    struct kept_field kept[4];
    const char *columns[4]; /* of CSV input */
    const char *header;
    const char *text; /* what is appended */
    enum error_code code;
    const char *message;
};

struct encoding {
    struct encoder *encoder;
    struct encode_scratch *scratch;
    struct source_schema schema;
    struct buffer out;
};

static inline size_t count_names(const char *const *names)
{
    size_t n = 0;
    while (n < 4 && names[n] != NULL) n++;
    return n;
}

static inline tidemill_error *encoding_open(struct encoding *encoding,
                                            const struct encoding_case *row)
{
    *encoding = (struct encoding){0};
    size_t n_columns = count_names(row->columns), n_outputs = 0;
    while (n_outputs < OUTPUTS_MAX && row->outputs[n_outputs].name != NULL) n_outputs++;
    encoding->schema = (struct source_schema){.format = n_columns > 0 ? FORMAT_CSV : FORMAT_JSONL,
                                              .columns = row->columns,
                                              .n_columns = n_columns};
    struct encoder_config config = {.format =
                                        row->format == FORMAT_AUTO ? FORMAT_JSONL : row->format,
                                    .outputs = row->outputs,
                                    .n_outputs = n_outputs,
                                    .is_batched = !row->is_unbatched,
                                    .batch_fixed = row->batch_fixed,
                                    .post = row->post,
                                    .labels = row->labels,
                                    .n_labels = count_names(row->labels),
                                    .nonfinite = row->nonfinite,
                                    .keep = row->keep,
                                    .n_keep = count_names(row->keep),
                                    .keep_all = row->keep_all,
                                    .schema = &encoding->schema};
    tidemill_error *error = encoder_new(&config, &encoding->encoder);
    if (error != NULL) return error;
    encoding->scratch = encode_scratch_new();
    assert_non_null(encoding->scratch);
    return NULL;
}

/* Gives the values to the encoder and appends the row. */
static inline enum error_code encoding_append(struct encoding *encoding,
                                              const struct encoding_case *row,
                                              const char **ret_message)
{
    struct record record = {.id = {row->id != NULL ? row->id : "7", 1},
                            .kept = (struct kept_field *)(uintptr_t)row->kept};
    if (row->id != NULL) record.id.size = strlen(row->id);
    while (record.n_kept < 4 && row->kept[record.n_kept].key.data != NULL) record.n_kept++;
    enum error_code code =
        encoder_set_values(encoding->encoder, encoding->scratch, row->values, VALUES_MAX,
                           row->n_rows == 0 ? 1 : row->n_rows, NULL, ret_message);
    if (code != ERROR_OK) return code;
    size_t start = encoding->out.size;
    code = encoder_append_head(encoding->encoder, &record, 7, &encoding->out);
    if (code == ERROR_OK)
        code = encoder_append_answer(encoding->encoder, encoding->scratch, row->row, &encoding->out,
                                     ret_message);
    if (code != ERROR_OK) encoding->out.size = start;
    return code;
}

static inline void encoding_close(struct encoding *encoding)
{
    encoder_free(encoding->encoder);
    encode_scratch_free(encoding->scratch);
    buffer_free(&encoding->out);
}

static inline void expect_bytes(const struct buffer *found, const char *expected, size_t size,
                                const char *row)
{
    assert_false(found->is_failed);
    if (found->size != size || (size > 0 && memcmp(found->data, expected, size) != 0))
        fail_msg("%s: got %.*s\nexpected %.*s", row, (int)found->size, found->data, (int)size,
                 expected);
}

/* A row of a table: the header, the text or the error; and that an error leaves no byte behind. */
static inline void check_case(const struct encoding_case *row)
{
    struct encoding encoding;
    const char *message = NULL;
    tidemill_error *error = encoding_open(&encoding, row);
    if (row->code == ERROR_USAGE) {
        expect_error(error, ERROR_USAGE, row->message, row->name);
        return;
    }
    expect_fine(error, row->name);
    if (row->header != NULL) {
        encoder_begin(encoding.encoder, &encoding.out);
        expect_bytes(&encoding.out, row->header, strlen(row->header), row->name);
        buffer_reset(&encoding.out, SIZE_MAX);
    }
    buffer_text(&encoding.out, "before");
    enum error_code code = encoding_append(&encoding, row, &message);
    if (code != row->code)
        fail_msg("%s: %s, not %s: %s", row->name, error_code_name(code), error_code_name(row->code),
                 message != NULL ? message : "");
    struct buffer expected = {0};
    buffer_text(&expected, "before");
    if (code == ERROR_OK) buffer_text(&expected, row->text);
    if (code != ERROR_OK && row->message != NULL) expect_text(message, row->message, row->name);
    expect_bytes(&encoding.out, expected.data, expected.size, row->name);
    buffer_free(&expected);
    encoding_close(&encoding);
}

#endif
