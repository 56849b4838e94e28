/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.c - a tokenizer.json and the library that reads it. */
#include "format/tokenizer.h"

#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>

/* The largest in use (a quarter of a million tokens, with merges) have some 40 MB. */
#define FILE_BYTES_MAX ((size_t)1 << 30)

struct tokenizer {
    struct tokenizer_library library;
    struct tokenizer_info info;
    void *handle;
};

static tidemill_error *load(struct tokenizer *tokenizer, const char *path, const char *json,
                            size_t size, size_t max_length)
{
    char *message = NULL;
    tokenizer->handle = tokenizer->library.open(json, size, max_length, &tokenizer->info, &message);
    if (tokenizer->handle != NULL) return NULL;
    tidemill_error *error =
        error_new(ERROR_MODEL_LOAD, "%s is no tokenizer that can be used: %s (tokenizers %s)", path,
                  message == NULL ? "out of memory" : message, tokenizer->library.version());
    tokenizer->library.free_text(message);
    return error;
}

tidemill_error *tokenizer_open(const struct io *io, const char *path,
                               const struct tokenizer_options *options, struct tokenizer **ret)
{
    struct tokenizer made = {.handle = NULL};
    char *json;
    size_t size;
    TRY(tokenizer_library_open(&made.library));
    TRY(io_read_file(io, path, FILE_BYTES_MAX, &json, &size));
    tidemill_error *error = load(&made, path, json, size, options->max_length);
    free(json);
    if (error != NULL) return error;
    *ret = malloc(sizeof **ret);
    if (*ret == NULL) {
        made.library.close(made.handle);
        return error_memory();
    }
    **ret = made;
    return NULL;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL) return;
    tokenizer->library.close(tokenizer->handle);
    free(tokenizer);
}

bool tokenizer_encode(const struct tokenizer *tokenizer, struct slice text,
                      const struct slice *pair, struct tokenizer_tokens *ret, char *message,
                      size_t size)
{
    char *reason = NULL;
    /* NULL says that there is no second text: an empty one has an address. */
    const char *second = pair == NULL ? NULL : pair->size == 0 ? "" : pair->data;
    if (tokenizer->library.encode(tokenizer->handle, text.data, text.size, second,
                                  pair == NULL ? 0 : pair->size, ret, &reason))
        return true;
    snprintf(message, size, "%s", reason == NULL ? "out of memory" : reason);
    tokenizer->library.free_text(reason);
    return false;
}

void tokenizer_free_tokens(const struct tokenizer *tokenizer, struct tokenizer_tokens *tokens)
{
    tokenizer->library.free(tokens);
}

int64_t tokenizer_pad_id(const struct tokenizer *tokenizer)
{
    return MAX(tokenizer->info.pad_id, (int64_t)0);
}

int64_t tokenizer_pad_type_id(const struct tokenizer *tokenizer)
{
    return MAX(tokenizer->info.pad_type_id, (int64_t)0);
}

size_t tokenizer_max_length(const struct tokenizer *tokenizer)
{
    return (size_t)MAX(tokenizer->info.max_length, (int64_t)0);
}

const char *tokenizer_version(const struct tokenizer *tokenizer)
{
    return tokenizer->library.version();
}
