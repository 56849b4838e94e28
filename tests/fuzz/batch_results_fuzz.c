/* SPDX-License-Identifier: Apache-2.0 */
/* batch_results_fuzz.c - what a server with a batch API can send: lines of results, objects, lists. The
 * first byte chooses the dialect and what is read. */
#include "runtime/batch_api.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_known(void *context, const char *id)
{
    (void)context;
    return id[0] == 'k';
}

static void fuzz_line(enum batch_dialect dialect, struct slice text)
{
    static struct buffer body;
    struct batch_result result = {.body = &body};
    char id[BATCH_ID_BYTES];
    error_free(batch_result_read(dialect, "0123456789abcdef0123456789abcdef", text, &result));
    if (memchr(result.message, '\0', sizeof result.message) == NULL) abort();
    if (result.verdict == BATCH_STRANGE) return;
    batch_custom_id(dialect, result.index, "0123456789abcdef0123456789abcdef", id);
    if (memmem(text.data, text.size, "tidemill", 8) == NULL &&
        memchr(text.data, '\\', text.size) == NULL)
        abort(); /* an id that is not there */
    if (result.verdict == BATCH_ANSWERED && (body.size == 0 || memchr(body.data, '\n', body.size)))
        abort();
}

static void fuzz_objects(enum batch_dialect dialect, struct slice text)
{
    struct batch_object object;
    struct batch_search search = {.tag = "t", .after = "a", .n_requests = 1, .is_known = is_known};
    char *id, *last;
    if (batch_object_read(dialect, text, &object)) {
        if (object.id == NULL || strchr(object.id, '/') != NULL) abort();
        batch_object_free(&object);
    }
    batch_list_find(dialect, text, &search, &id, &last);
    free(id);
    free(last);
    free(batch_list_first(text));
    free(batch_read_id(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    char *copy = malloc(size - 1 > 0 ? size - 1 : 1); /* exact, so that a read beyond is seen */
    if (copy == NULL) return 0;
    memcpy(copy, data + 1, size - 1);
    struct slice text = {copy, size - 1};
    enum batch_dialect dialect = data[0] & 1 ? BATCH_ANTHROPIC : BATCH_OPENAI;
    if (data[0] & 2)
        fuzz_objects(dialect, text);
    else
        fuzz_line(dialect, text);
    free(copy);
    return 0;
}
