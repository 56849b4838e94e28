/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_library.c - where the tokenizers library is looked for. */
#include "format/tokenizer_library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>

#define LIBRARY "libtidemill_tokenizers.so"

static const struct {
    const char *name;
    size_t offset;
} functions[] = {
    {"tidemill_tokenizers_abi", offsetof(struct tokenizer_library, abi)},
    {"tidemill_tokenizers_version", offsetof(struct tokenizer_library, version)},
    {"tidemill_tokenizers_open", offsetof(struct tokenizer_library, open)},
    {"tidemill_tokenizers_close", offsetof(struct tokenizer_library, close)},
    {"tidemill_tokenizers_encode", offsetof(struct tokenizer_library, encode)},
    {"tidemill_tokenizers_free", offsetof(struct tokenizer_library, free)},
    {"tidemill_tokenizers_free_text", offsetof(struct tokenizer_library, free_text)},
};

static tidemill_error *take_functions(void *handle, const char *path, struct tokenizer_library *ret)
{
    for (size_t i = 0; i < COUNT_OF(functions); i++) {
        void *symbol = dlsym(handle, functions[i].name);
        if (symbol == NULL)
            return error_new(ERROR_UNSUPPORTED, "'%s' is not " LIBRARY ": it has no %s", path,
                             functions[i].name);
        memcpy((char *)ret + functions[i].offset, &symbol, sizeof symbol);
    }
    if (ret->abi() == TOKENIZER_ABI) return NULL;
    return error_new(ERROR_UNSUPPORTED,
                     "'%s' belongs to another version of tidemill (interface %u, %d is needed)",
                     path, (unsigned)ret->abi(), TOKENIZER_ABI);
}

/* Never closed: it may keep threads and what belongs to them. */
static tidemill_error *open_path(const char *path, struct tokenizer_library *ret)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return error_new(ERROR_UNSUPPORTED, "cannot open the tokenizers library: %s", dlerror());
    return take_functions(handle, path, ret);
}

tidemill_error *tokenizer_library_open(struct tokenizer_library *ret)
{
    const char *variable = getenv("TIDEMILL_TOKENIZERS");
    if (variable != NULL && *variable != '\0')
        return error_context(open_path(variable, ret), "$TIDEMILL_TOKENIZERS");
#ifdef TIDEMILL_DEPS_TOKENIZERS
#define BUILT TIDEMILL_DEPS_TOKENIZERS "/" LIBRARY
    static const char *const names[] = {BUILT, LIBRARY};
#define ALSO ", " BUILT
#else
    static const char *const names[] = {LIBRARY};
#define ALSO ""
#endif
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (handle != NULL) return take_functions(handle, names[i], ret);
    }
    return error_new(ERROR_UNSUPPORTED,
                     "text needs the tokenizers library, which was not found. Looked for: "
                     "$TIDEMILL_TOKENIZERS (not set)" ALSO ", " LIBRARY
                     " among the system's libraries. Build it in tidemill's source tree with "
                     "tools/bootstrap (or: cargo build --release --locked, in src/tokenizers) and "
                     "name the file with TIDEMILL_TOKENIZERS");
}
