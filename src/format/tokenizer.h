/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer.h - text -> token ids, exactly as Hugging Face's tokenizers does with a tokenizer.json. */
#ifndef TIDEMILL_FORMAT_TOKENIZER_H
#define TIDEMILL_FORMAT_TOKENIZER_H

#include "format/source.h"
#include "format/tokenizer_library.h"

struct io;

struct tokenizer_options {
    size_t max_length; /* tokens, special ones included; 0: what the file says */
};

/* Immutable once opened; threads share it. */
struct tokenizer;

/* Reads the file and opens the library. Errors name the file and the library's reason. */
tidemill_error *tokenizer_open(const struct io *io, const char *path,
                               const struct tokenizer_options *options, struct tokenizer **ret);
void tokenizer_close(struct tokenizer *tokenizer);

/* Turns one text, or a pair where `pair` is not NULL, into tokens: special tokens added as the file
 * says, cut to the length, never padded. *ret goes to tokenizer_free_tokens. False: `message` (of
 * `size` bytes) says why, and there is nothing to free. */
bool tokenizer_encode(const struct tokenizer *tokenizer, struct slice text,
                      const struct slice *pair, struct tokenizer_tokens *ret, char *message,
                      size_t size);
void tokenizer_free_tokens(const struct tokenizer *tokenizer, struct tokenizer_tokens *tokens);

/* From the file's padding section; else the id of "[PAD]" or "<pad>", else 0. */
int64_t tokenizer_pad_id(const struct tokenizer *tokenizer);
int64_t tokenizer_pad_type_id(const struct tokenizer *tokenizer); /* else 0 */
size_t tokenizer_max_length(const struct tokenizer *tokenizer);   /* tokens; 0: text is not cut */
const char *tokenizer_version(const struct tokenizer *tokenizer); /* of the library: "0.22.2" */

#endif
