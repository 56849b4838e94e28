/* SPDX-License-Identifier: Apache-2.0 */
/* llama_library.c - where llama.cpp is looked for, and whether it is of the right version. */
#include "runtime/llama_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LIBRARY "libllama.so"

/* Returned by value, a struct is written where the caller says: a library whose struct is longer must
 * not write behind it. */
struct roomy_model_params {
    struct llama_model_params params;
    char more[1024];
};
struct roomy_context_params {
    struct llama_context_params params;
    char more[1024];
};

static bool are_model_defaults(const struct llama_model_params *p)
{
    return p->devices == NULL && p->tensor_buft_overrides == NULL && p->n_gpu_layers == -1 &&
           p->split_mode == LLAMA_SPLIT_MODE_LAYER && p->load_mode == LLAMA_LOAD_MODE_AUTO &&
           p->lazy_mode == LLAMA_LAZY_MODE_AUTO && p->progress_callback == NULL &&
           p->kv_overrides == NULL && p->use_extra_bufts;
}

static bool are_context_defaults(const struct llama_context_params *p)
{
    return p->n_ctx == 512 && p->n_batch == 2048 && p->n_ubatch == 512 && p->n_seq_max == 1 &&
           p->n_outputs_max == 0 && p->n_threads == p->n_threads_batch &&
           p->pooling_type == LLAMA_POOLING_TYPE_UNSPECIFIED &&
           p->flash_attn_type == LLAMA_FLASH_ATTN_TYPE_AUTO && p->yarn_ext_factor == -1.0F &&
           p->type_k == GGML_TYPE_F16 && p->type_v == GGML_TYPE_F16 && !p->embeddings &&
           p->offload_kqv && p->op_offload && !p->kv_unified && p->samplers == NULL &&
           p->n_samplers == 0;
}

static tidemill_error *check_layout(const struct llama_library *library)
{
    struct roomy_model_params (*get_model_params)(void);
    struct roomy_context_params (*get_context_params)(void);
    memcpy(&get_model_params, &library->model_default_params, sizeof get_model_params);
    memcpy(&get_context_params, &library->context_default_params, sizeof get_context_params);
    struct roomy_model_params model = get_model_params();
    struct roomy_context_params context = get_context_params();
    if (are_model_defaults(&model.params) && are_context_defaults(&context.params)) return NULL;
    return error_new(ERROR_MODEL_LOAD,
                     "'%s' is llama.cpp %s, another version than the one whose header tidemill was "
                     "built with; tools/bootstrap --with llama builds the right one",
                     library->path, library->version());
}

static tidemill_error *resolve(void *handle, struct llama_library *ret)
{
#define ROW(name)                                                                                  \
    {                                                                                              \
        void *symbol = dlsym(handle, "llama_" #name);                                              \
        if (symbol == NULL)                                                                        \
            return error_new(ERROR_MODEL_LOAD,                                                     \
                             "'%s' is not llama.cpp, or of another version: it has no "            \
                             "llama_" #name,                                                       \
                             ret->path);                                                           \
        memcpy(&ret->name, &symbol, sizeof symbol);                                                \
    }
    LLAMA_FUNCTIONS(ROW)
#undef ROW
    return check_layout(ret);
}

/* Never closed, as it leaves threads behind. */
static tidemill_error *open_path(const char *path, struct llama_library *ret)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) return error_new(ERROR_MODEL_LOAD, "cannot open llama.cpp: %s", dlerror());
    snprintf(ret->path, sizeof ret->path, "%s", path);
    return resolve(handle, ret);
}

static bool find_in(const char *folder, char *path, size_t size)
{
    static const char *const below[] = {"", "/lib"};
    struct stat status;
    for (size_t i = 0; i < COUNT_OF(below); i++) {
        int length = snprintf(path, size, "%s%s/" LIBRARY, folder, below[i]);
        if (length > 0 && (size_t)length < size && stat(path, &status) == 0) return true;
    }
    return false;
}

/* A path that the user named: that one or an error. */
static tidemill_error *open_given(const char *given, struct llama_library *ret)
{
    char path[2048];
    struct stat status;
    if (stat(given, &status) != 0)
        return error_errno(ERROR_MODEL_LOAD, errno, "cannot open llama.cpp at '%s'", given);
    if (!S_ISDIR(status.st_mode))
        snprintf(path, sizeof path, "%s%s", strchr(given, '/') == NULL ? "./" : "", given);
    else if (!find_in(given, path, sizeof path))
        return error_new(ERROR_MODEL_LOAD, "there is no " LIBRARY " in '%s'", given);
    return open_path(path, ret);
}

tidemill_error *llama_library_open(const char *given, struct llama_library *ret)
{
    *ret = (struct llama_library){0};
    if (given != NULL) return error_context(open_given(given, ret), "--llama-library");
    const char *variable = getenv("TIDEMILL_LLAMA");
    if (variable != NULL && *variable != '\0')
        return error_context(open_given(variable, ret), "$TIDEMILL_LLAMA");
#ifdef TIDEMILL_DEPS_LLAMA
    char path[2048];
    if (find_in(TIDEMILL_DEPS_LLAMA, path, sizeof path)) return open_path(path, ret);
#endif
    void *handle = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return error_new(ERROR_MODEL_LOAD,
                         "llama.cpp was not found: tools/bootstrap --with llama builds it, or name "
                         "the library or its folder with --llama-library");
    snprintf(ret->path, sizeof ret->path, "%s", LIBRARY);
    return resolve(handle, ret);
}
