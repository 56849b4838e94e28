/* SPDX-License-Identifier: Apache-2.0 */
/* llama_grammar.h - what a grammar (GBNF) costs before llama.cpp reads it. */
#ifndef TIDEMILL_RUNTIME_LLAMA_GRAMMAR_H
#define TIDEMILL_RUNTIME_LLAMA_GRAMMAR_H

#include "base/base.h"

#define LLAMA_GRAMMAR_DEPTH_MAX 64 /* parentheses open at a time: llama.cpp's parser calls itself */
#define LLAMA_GRAMMAR_REPEATS_MAX                                                                  \
    2000 /* of one repetition; llama.cpp takes more for "any number" */
/* Of what all repetitions of a grammar make: about 200 bytes each in llama.cpp, so 10 MB. */
#define LLAMA_GRAMMAR_COPIES_MAX 50000

/* ERROR_MODEL_ERROR where it goes beyond these limits. Whether it is a grammar at all is for llama.cpp to
 * say. */
tidemill_error *llama_grammar_check(const char *grammar);

#endif
