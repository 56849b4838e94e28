/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_library.h - libtidemill_tokenizers.so, opened at run time: Hugging Face's tokenizers
 * library, which is Rust and has no C interface, behind the C functions of src/tokenizers/lib.rs.
 * These declarations are a copy of what stands there; TOKENIZER_ABI changes with them. */
#ifndef TIDEMILL_FORMAT_TOKENIZER_LIBRARY_H
#define TIDEMILL_FORMAT_TOKENIZER_LIBRARY_H

#include "base/base.h"

#define TOKENIZER_ABI 1

/* What a tokenizer.json says beside how to cut text. -1: it does not say. */
struct tokenizer_info {
    int64_t pad_id, pad_type_id, max_length;
};

/* `size` numbers each, which live as long as `owner`. */
struct tokenizer_tokens {
    const uint32_t *ids, *type_ids;
    size_t size;
    void *owner;
};

/* *message is set where NULL or false comes back, and goes to free_text. All may be called by any
 * thread; encode by several at once with one handle. */
struct tokenizer_library {
    uint32_t (*abi)(void);
    const char *(*version)(void);
    /* max_length 0: what the file says */
    void *(*open)(const char *json, size_t size, size_t max_length, struct tokenizer_info *info,
                  char **message);
    void (*close)(void *handle);
    /* second NULL: one text, no pair */
    bool (*encode)(const void *handle, const char *first, size_t first_size, const char *second,
                   size_t second_size, struct tokenizer_tokens *ret, char **message);
    void (*free)(struct tokenizer_tokens *tokens);
    void (*free_text)(char *message);
};

/* $TIDEMILL_TOKENIZERS (a file), the one the build knows, the system's. It stays open for the life of
 * the process. ERROR_UNSUPPORTED where there is none, with what to do. */
tidemill_error *tokenizer_library_open(struct tokenizer_library *ret);

#endif
