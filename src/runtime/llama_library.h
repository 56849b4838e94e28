/* SPDX-License-Identifier: Apache-2.0 */
/* llama_library.h - finds and opens llama.cpp at run time, so that a user's own build serves: for
 * another processor, for a GPU.
 *
 * Its functions take and return structs by value, whose layout changes between versions: the library
 * must be of the version of the header that tidemill was built with. The defaults that it hands out are
 * compared field by field before anything else is called. */
#ifndef TIDEMILL_RUNTIME_LLAMA_LIBRARY_H
#define TIDEMILL_RUNTIME_LLAMA_LIBRARY_H

#include "base/base.h"

#include <llama.h>

#define LLAMA_FUNCTIONS(ROW)                                                                       \
    ROW(backend_init)                                                                              \
    ROW(version)                                                                                   \
    ROW(log_set)                                                                                   \
    ROW(model_default_params)                                                                      \
    ROW(context_default_params)                                                                    \
    ROW(sampler_chain_default_params)                                                              \
    ROW(model_load_from_file)                                                                      \
    ROW(model_free)                                                                                \
    ROW(model_get_vocab)                                                                           \
    ROW(model_n_ctx_train)                                                                         \
    ROW(model_n_embd)                                                                              \
    ROW(model_n_embd_out)                                                                          \
    ROW(model_n_cls_out)                                                                           \
    ROW(model_cls_label)                                                                           \
    ROW(model_meta_val_str)                                                                        \
    ROW(model_n_layer)                                                                             \
    ROW(model_n_head)                                                                              \
    ROW(model_n_head_kv)                                                                           \
    ROW(model_desc)                                                                                \
    ROW(model_chat_template)                                                                       \
    ROW(model_has_encoder)                                                                         \
    ROW(model_has_decoder)                                                                         \
    ROW(model_is_recurrent)                                                                        \
    ROW(model_is_hybrid)                                                                           \
    ROW(model_is_diffusion)                                                                        \
    ROW(init_from_model)                                                                           \
    ROW(free)                                                                                      \
    ROW(n_ctx)                                                                                     \
    ROW(n_batch)                                                                                   \
    ROW(pooling_type)                                                                              \
    ROW(get_memory)                                                                                \
    ROW(memory_seq_rm)                                                                             \
    ROW(memory_seq_cp)                                                                             \
    ROW(memory_clear)                                                                              \
    ROW(batch_init)                                                                                \
    ROW(batch_free)                                                                                \
    ROW(decode)                                                                                    \
    ROW(get_logits_ith)                                                                            \
    ROW(get_embeddings_seq)                                                                        \
    ROW(vocab_n_tokens)                                                                            \
    ROW(vocab_is_eog)                                                                              \
    ROW(vocab_bos)                                                                                 \
    ROW(vocab_eos)                                                                                 \
    ROW(vocab_sep)                                                                                 \
    ROW(vocab_get_add_bos)                                                                         \
    ROW(vocab_get_add_eos)                                                                         \
    ROW(vocab_get_add_sep)                                                                         \
    ROW(tokenize)                                                                                  \
    ROW(token_to_piece)                                                                            \
    ROW(chat_apply_template)                                                                       \
    ROW(sampler_chain_init)                                                                        \
    ROW(sampler_chain_add)                                                                         \
    ROW(sampler_free)                                                                              \
    ROW(sampler_apply)                                                                             \
    ROW(sampler_accept)                                                                            \
    ROW(sampler_init_greedy)                                                                       \
    ROW(sampler_init_dist)                                                                         \
    ROW(sampler_init_top_k)                                                                        \
    ROW(sampler_init_top_p)                                                                        \
    ROW(sampler_init_min_p)                                                                        \
    ROW(sampler_init_temp)                                                                         \
    ROW(sampler_init_penalties)                                                                    \
    ROW(sampler_init_logit_bias)                                                                   \
    ROW(sampler_init_grammar)

/* llama_decode is `decode` here, and so on. */
struct llama_library {
#define ROW(name) __typeof__(llama_##name) *name;
    LLAMA_FUNCTIONS(ROW)
#undef ROW
    char path[1024]; /* what was opened */
};

/* `given`: a file, or a folder that holds one (--llama-library); NULL: $TIDEMILL_LLAMA, the one the
 * build knows, the system's. The library stays open for the life of the process. */
tidemill_error *llama_library_open(const char *given, struct llama_library *ret);

#endif
