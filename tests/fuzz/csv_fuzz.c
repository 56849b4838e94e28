/* SPDX-License-Identifier: Apache-2.0 */
/* csv_fuzz.c - any bytes as CSV: records end at the same places whether the text comes at once or
 * byte by byte, and every record splits or is refused without a byte read too far. */
#include "format/csv.h"
#include "format/decode_parts.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool is_true)
{
    if (!is_true) abort();
}

/* The end of the record at `p`, one byte a call. */
static const char *find_slowly(const char *p, const char *end, uint64_t *lines)
{
    enum csv_state state = CSV_CELL_START;
    for (; p < end; p++) {
        if (csv_find_end(p, p + 1, &state, lines) != NULL) return p;
    }
    return NULL;
}

static void decode(struct slice text)
{
    static struct decoder *decoder;
    static struct decode_scratch *scratch;
    static unsigned char bytes[512];
    if (decoder == NULL) {
        static const char *const columns[] = {"id", "a", "b"};
        static const struct source_schema schema = {
            .format = FORMAT_CSV, .columns = columns, .n_columns = 3};
        struct value_spec inputs[] = {
            {.name = (char *)(uintptr_t) "a", .type = TENSOR_FLOAT, .shape = {2, {-1, -1}}},
            {.name = (char *)(uintptr_t) "b", .type = TENSOR_INT32, .shape = {1, {-1}}},
        };
        struct model_signature signature = {.inputs = inputs, .n_inputs = 2, .is_batched = true};
        struct decoder_config config = {
            .schema = &schema, .signature = &signature, .keep_all = true};
        require(decoder_new(&config, (struct slice){"", 0}, &decoder) == NULL);
        scratch = decode_scratch_new();
    }
    struct tensor_area area = {.base = bytes, .input_capacity = 256};
    struct raw_record raw = {.bytes = text, .line = 2, .size = text.size};
    struct arena arena = {0};
    struct record record;
    decoder_decode(decoder, scratch, &raw, &area, &arena, &record);
    require(record.id.size > 0 && (record.error == ERROR_OK) == (record.message == NULL));
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL) return 0;
    if (size > 0) memcpy(text, data, size);
    const char *p = text, *end = text + size;
    while (p < end) {
        enum csv_state state = CSV_CELL_START;
        uint64_t lines = 0, slow_lines = 0;
        const char *stop = csv_find_end(p, end, &state, &lines);
        require(stop == find_slowly(p, end, &slow_lines) && lines == slow_lines);
        size_t length = (size_t)((stop == NULL ? end : stop) - p);
        char *copy = malloc(length + 1);
        if (copy == NULL) break;
        memcpy(copy, p, length);
        decode((struct slice){copy, length});
        free(copy);
        if (stop == NULL) break;
        p = stop + 1;
    }
    free(text);
    return 0;
}
