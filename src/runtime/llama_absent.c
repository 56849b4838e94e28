/* SPDX-License-Identifier: Apache-2.0 */
/* llama_absent.c - in place of llama*.c where llama.h was not there when this was built. */
#include "runtime/model.h"

static tidemill_error *absent_open(const struct model_options *options, struct model **ret)
{
    (void)ret;
    return error_new(ERROR_UNSUPPORTED,
                     "cannot load '%s': this build has no llama.cpp; tools/bootstrap --with llama, "
                     "then build again",
                     options->model);
}

const struct model_impl model_llama = {.name = "llama", .open = absent_open};
