/* SPDX-License-Identifier: Apache-2.0 */
/* llama_head.c - whether a GGUF file has the tensors of a classification head. llama.cpp does not say,
 * and without one it takes whatever numbers come first for scores; and converters leave out of
 * most rerankers' files what they are. */
#include "runtime/llama_parts.h"

#include <dlfcn.h>
#include <gguf.h>

#define GGUF_FUNCTIONS(ROW)                                                                        \
    ROW(init_from_file)                                                                            \
    ROW(free)                                                                                      \
    ROW(find_key)                                                                                  \
    ROW(find_tensor)                                                                               \
    ROW(get_tensor_size)

struct gguf_library {
#define ROW(name) __typeof__(gguf_##name) *name;
    GGUF_FUNCTIONS(ROW)
#undef ROW
};

static tidemill_error *resolve(const struct llama *llama, void *handle, struct gguf_library *ret)
{
#define ROW(name)                                                                                  \
    {                                                                                              \
        void *symbol = dlsym(handle, "gguf_" #name);                                               \
        if (symbol == NULL)                                                                        \
            return error_new(ERROR_MODEL_LOAD, "'%s' has no gguf_" #name, llama->api.path);        \
        memcpy(&ret->name, &symbol, sizeof symbol);                                                \
    }
    GGUF_FUNCTIONS(ROW)
#undef ROW
    return NULL;
}

/* They are in a library that llama.cpp's is linked with. */
static tidemill_error *open_library(const struct llama *llama, struct gguf_library *ret)
{
    void *handle = dlopen(llama->api.path, RTLD_NOW | RTLD_NOLOAD);
    if (handle == NULL) return error_new(ERROR_MODEL_LOAD, "cannot open llama.cpp: %s", dlerror());
    tidemill_error *error = resolve(llama, handle, ret);
    dlclose(handle); /* one user less: it stays open */
    return error;
}

/* Of a head in two parts `cls` is the inner one, as wide as the model; one that is all has a row a score. */
static bool is_whole(const struct llama *llama, size_t bytes)
{
    size_t width = (size_t)llama->api.model_n_embd(llama->weights);
    return bytes <= width * sizeof(float) * llama->api.model_n_cls_out(llama->weights);
}

tidemill_error *llama_head_find(const struct llama *llama, const char *path, enum llama_head *ret)
{
    struct gguf_library api = {0};
    TRY(open_library(llama, &api));
    struct gguf_context *file =
        api.init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (file == NULL) return error_new(ERROR_MODEL_LOAD, "cannot read the model '%s'", path);
    int64_t inner = api.find_tensor(file, "cls.weight");
    bool is_there = api.find_tensor(file, "cls.output.weight") >= 0 ||
                    (inner >= 0 && is_whole(llama, api.get_tensor_size(file, inner)));
    *ret = is_there ? HEAD_THERE : HEAD_NONE;
    if (!is_there && api.find_key(file, "split.count") >= 0) *ret = HEAD_UNKNOWN;
    api.free(file);
    return NULL;
}
