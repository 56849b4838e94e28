/* SPDX-License-Identifier: Apache-2.0 */
/* decode_fuzz.c - any bytes as a JSONL record: the plain way and the tree give the same answer, to
 * the last byte, under several models. The first byte chooses the model. */
#include "format/decode_parts.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define AREA_BYTES 4096

struct setup {
    struct value_spec inputs[2];
    size_t n_inputs;
    const char *maps[3];
    size_t n_maps;
    const char *keep[2];
    size_t n_keep;
    bool keep_all;
    enum nonfinite_policy nonfinite;
    const char *template_text;
    const char *text_sample; /* the first record: it has text for input_ids */
};

#define X(t, ...)                                                                                  \
    {                                                                                              \
        .name = (char *)(uintptr_t) "x", .type = TENSOR_##t, .shape = __VA_ARGS__                  \
    }
#define Y(t, ...)                                                                                  \
    {                                                                                              \
        .name = (char *)(uintptr_t) "y", .type = TENSOR_##t, .shape = __VA_ARGS__                  \
    }

#define IDS                                                                                        \
    {                                                                                              \
        .name = (char *)(uintptr_t) "input_ids", .type = TENSOR_INT64, .shape = { 2, {-1, -1} }    \
    }
#define MASK(t)                                                                                    \
    {                                                                                              \
        .name = (char *)(uintptr_t) "attention_mask", .type = TENSOR_##t, .shape = { 2, {-1, -1} } \
    }

static const struct setup setups[] = {
    {.inputs = {X(FLOAT, {2, {-1, 4}})}, .n_inputs = 1, .keep = {"k"}, .n_keep = 1},
    {.inputs = {X(INT64, {2, {-1, -1}}), Y(DOUBLE, {1, {-1}})}, .n_inputs = 2, .keep_all = true},
    {.inputs = {X(UINT8, {4, {-1, 2, 2, 2}})}, .n_inputs = 1, .nonfinite = NONFINITE_NULL},
    {.inputs = {X(STRING, {1, {-1}}), Y(INT32, {3, {-1, -1, 2}})}, .n_inputs = 2},
    {.inputs = {X(FLOAT16, {2, {-1, 3}}), Y(BOOL, {2, {-1, 1}})}, .n_inputs = 2, .keep_all = true},
    {.inputs = {X(FLOAT, {2, {-1, 3}})}, .n_inputs = 1, .maps = {"x=a,b,c"}, .n_maps = 1},
    {.inputs = {X(DOUBLE, {2, {-1, -1}})}, .n_inputs = 1, .maps = {"x=/a/b"}, .n_maps = 1},
    {.inputs = {X(FLOAT, {2, {-1, 4}})},
     .n_inputs = 1,
     .template_text = "{\"x\":\"{{a}}\",\"s\":\"<{{b}}>\"}"},
    {.inputs = {X(INT4, {2, {-1, -1}}), Y(UINT64, {1, {-1}})}, .n_inputs = 2},
    {.inputs = {IDS, MASK(FLOAT)}, .n_inputs = 2},
    {.inputs = {MASK(BOOL), IDS},
     .n_inputs = 2,
     .text_sample = "{\"text\":\"\"}",
     .keep_all = true},
    {.inputs = {IDS, MASK(INT32)},
     .n_inputs = 2,
     .maps = {"input_ids=a,b"},
     .n_maps = 1,
     .text_sample = "{\"a\":\"\",\"b\":\"\"}"},
};

struct pair {
    struct decoder *fast, *tree;
};

static struct decoder *make(const struct setup *setup)
{
    static const struct source_schema schema = {.format = FORMAT_JSONL};
    struct model_signature signature = {
        .inputs = (struct value_spec *)(uintptr_t)setup->inputs,
        .n_inputs = setup->n_inputs,
        .is_batched = true,
    };
    struct decoder_config config = {
        .schema = &schema,
        .signature = &signature,
        .maps = setup->maps,
        .n_maps = setup->n_maps,
        .id_field = "id",
        .keep = setup->keep,
        .n_keep = setup->n_keep,
        .keep_all = setup->keep_all,
        .nonfinite = setup->nonfinite,
        .template_text = setup->template_text,
        .template_size = setup->template_text == NULL ? 0 : strlen(setup->template_text),
    };
    /* Decoding asks the tokenizer nothing: that there is one is enough. */
    if (setup->text_sample != NULL)
        config.tokenizer = (const struct tokenizer *)(const void *)setup;
    const char *sample = setup->text_sample == NULL ? "" : setup->text_sample;
    struct decoder *decoder = NULL;
    if (decoder_new(&config, (struct slice){sample, strlen(sample)}, &decoder) != NULL) abort();
    return decoder;
}

static void require(bool is_true, const char *what)
{
    if (is_true) return;
    fprintf(stderr, "the two ways differ: %s\n", what);
    abort();
}

static bool same_slice(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static void compare(const struct record *a, const struct record *b, size_t n_inputs,
                    const unsigned char *area_a, const unsigned char *area_b)
{
    require(a->error == b->error, "error");
    require(same_slice(a->id, b->id), "id");
    require(a->n_kept == b->n_kept, "number of kept fields");
    if (a->error != ERROR_OK) {
        require(a->message != NULL && strcmp(a->message, b->message) == 0, "message");
        return;
    }
    for (size_t i = 0; i < a->n_kept; i++) {
        require(same_slice(a->kept[i].key, b->kept[i].key), "key");
        require(same_slice(a->kept[i].value, b->kept[i].value), "kept value");
    }
    require(a->n_texts == b->n_texts, "number of texts");
    for (size_t i = 0; i < a->n_texts; i++) require(same_slice(a->text[i], b->text[i]), "text");
    for (size_t i = 0; i < n_inputs; i++) {
        const struct record_input *x = &a->inputs[i], *y = &b->inputs[i];
        require(x->bytes == y->bytes && x->offset == y->offset, "size");
        require(memcmp(area_a + x->offset, area_b + y->offset, x->bytes) == 0, "bytes");
        require(x->shape.rank == y->shape.rank, "rank");
        for (int32_t k = 0; k < x->shape.rank; k++) {
            require(x->shape.dims[k] == y->shape.dims[k], "shape");
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pair pairs[COUNT_OF(setups)];
    static struct decode_scratch *scratch_fast, *scratch_tree;
    static unsigned char area_fast[2 * AREA_BYTES], area_tree[2 * AREA_BYTES];
    if (size < 1) return 0;
    size_t which = data[0] % COUNT_OF(setups);
    if (scratch_fast == NULL) {
        scratch_fast = decode_scratch_new();
        scratch_tree = decode_scratch_new();
        for (size_t i = 0; i < COUNT_OF(setups); i++) {
            pairs[i].fast = make(&setups[i]);
            pairs[i].tree = make(&setups[i]);
            decoder_disable_fast(pairs[i].tree);
        }
    }
    char *text = malloc(size); /* of its own, so that a byte too far is seen */
    if (text == NULL) return 0;
    memcpy(text, data + 1, size - 1);
    struct raw_record raw = {.bytes = {text, size - 1}, .line = 7, .size = size - 1};
    struct arena arena = {0};
    /* Twice: the second time the order of the keys is remembered. */
    for (int round = 0; round < 2; round++) {
        struct tensor_area fast = {.base = area_fast, .input_capacity = AREA_BYTES};
        struct tensor_area tree = {.base = area_tree, .input_capacity = AREA_BYTES};
        struct record a, b;
        decoder_decode(pairs[which].fast, scratch_fast, &raw, &fast, &arena, &a);
        decoder_decode(pairs[which].tree, scratch_tree, &raw, &tree, &arena, &b);
        compare(&a, &b, setups[which].n_inputs, area_fast, area_tree);
        require(memcmp(fast.used, tree.used, sizeof fast.used) == 0, "room used");
    }
    arena_free(&arena);
    free(text);
    return 0;
}
