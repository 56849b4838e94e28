/* SPDX-License-Identifier: Apache-2.0 */
/* format_decoding.h - a decoder with everything around it, for tests. */
#ifndef TIDEMILL_TESTS_FORMAT_DECODING_H
#define TIDEMILL_TESTS_FORMAT_DECODING_H

#include "format/decode_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define TEST_AREA_BYTES ((size_t)1 << 16)

struct bench {
    struct decoder *decoder;
    struct decode_scratch *scratch;
    struct arena arena;
    struct tensor_area area;
    struct record record;
};

static inline struct value_spec test_input(const char *name, enum tensor_type type, int rank,
                                           const int64_t *dims)
{
    struct value_spec spec = {.name = (char *)(uintptr_t)name, .type = type};
    spec.shape.rank = rank + 1;
    spec.shape.dims[0] = -1;
    for (int i = 0; i < rank; i++) spec.shape.dims[i + 1] = dims[i];
    return spec;
}

static inline tidemill_error *bench_open(struct bench *bench, struct decoder_config config,
                                         const struct value_spec *inputs, size_t n_inputs,
                                         const char *sample)
{
    struct model_signature signature = {
        .inputs = (struct value_spec *)(uintptr_t)inputs,
        .n_inputs = n_inputs,
        .is_batched = true,
    };
    config.signature = &signature;
    *bench = (struct bench){0};
    tidemill_error *error =
        decoder_new(&config, (struct slice){sample, strlen(sample)}, &bench->decoder);
    if (error != NULL) return error;
    bench->scratch = decode_scratch_new();
    bench->area.base = calloc(n_inputs + 1, TEST_AREA_BYTES);
    bench->area.input_capacity = TEST_AREA_BYTES;
    if (bench->scratch == NULL || bench->area.base == NULL) abort();
    return NULL;
}

static inline const struct record *bench_decode(struct bench *bench, const void *data, size_t size)
{
    char *copy = malloc(size + 1); /* exact, so that a sanitizer sees a byte too far */
    if (copy == NULL) abort();
    memcpy(copy, data, size);
    const char *bytes = arena_copy(&bench->arena, copy, size);
    free(copy);
    struct raw_record raw = {.bytes = {bytes, size}, .line = 17, .size = size};
    memset(bench->area.used, 0, sizeof bench->area.used);
    decoder_decode(bench->decoder, bench->scratch, &raw, &bench->area, &bench->arena,
                   &bench->record);
    return &bench->record;
}

static inline const void *bench_row(const struct bench *bench, size_t input)
{
    return bench->area.base + bench->record.inputs[input].offset;
}

static inline void bench_close(struct bench *bench)
{
    decoder_free(bench->decoder);
    decode_scratch_free(bench->scratch);
    arena_free(&bench->arena);
    free(bench->area.base);
}

#endif
