/* SPDX-License-Identifier: Apache-2.0 */
/* ort_library.c - where ONNX Runtime is looked for, and which version of its interface is asked. */
#include "runtime/ort_library.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define LIBRARY "libonnxruntime.so"

static tidemill_error *check_api(void *handle, struct ort_library *ret)
{
    const OrtApiBase *(*get_base)(void);
    void *symbol = dlsym(handle, "OrtGetApiBase");
    if (symbol == NULL)
        return error_new(ERROR_MODEL_LOAD, "'%s' is not ONNX Runtime: it has no OrtGetApiBase",
                         ret->path);
    memcpy(&get_base, &symbol, sizeof get_base);
    const OrtApiBase *base = get_base();
    snprintf(ret->version, sizeof ret->version, "%s", base->GetVersionString());

    /* Asked for more than it has, an old library says so on standard error: ask by its version. */
    unsigned major = 0, minor = 0;
    if (sscanf(ret->version, "%u.%u", &major, &minor) != 2 || major != 1) minor = ORT_API_VERSION;
    for (uint32_t version = MIN(minor, ORT_API_VERSION); version >= ORT_API_OLDEST; version--) {
        ret->api = base->GetApi(version);
        if (ret->api != NULL) return NULL;
    }
    return error_new(ERROR_MODEL_LOAD, "'%s' is ONNX Runtime %s; 1.%d or newer is needed",
                     ret->path, ret->version, ORT_API_OLDEST);
}

/* RTLD_LOCAL: its many symbols are its own business. Never closed, as it leaves threads behind. */
static tidemill_error *open_path(const char *path, struct ort_library *ret)
{
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return error_new(ERROR_MODEL_LOAD, "cannot open ONNX Runtime: %s", dlerror());
    snprintf(ret->path, sizeof ret->path, "%s", path);
    return check_api(handle, ret);
}

/* The library in a folder, in the folder's lib, or in the Python package's capi; with any version
 * behind its name. */
static bool find_in(const char *folder, char *path, size_t size)
{
    static const char *const below[] = {"", "/lib", "/capi", "/onnxruntime/capi"};
    for (size_t i = 0; i < COUNT_OF(below); i++) {
        char name[1024];
        int length = snprintf(name, sizeof name, "%s%s", folder, below[i]);
        DIR *dir = length < (int)sizeof name ? opendir(name) : NULL;
        if (dir == NULL) continue;
        bool is_found = false;
        for (struct dirent *entry; !is_found && (entry = readdir(dir)) != NULL;) {
            const char *rest = entry->d_name + strlen(LIBRARY);
            if (strncmp(entry->d_name, LIBRARY, strlen(LIBRARY)) != 0) continue;
            if (*rest != '\0' && *rest != '.') continue;
            length = snprintf(path, size, "%s/%s", name, entry->d_name);
            is_found = length > 0 && (size_t)length < size;
        }
        closedir(dir);
        if (is_found) return true;
    }
    return false;
}

/* A path that the user named: that one or an error. */
static tidemill_error *open_given(const char *given, struct ort_library *ret)
{
    char path[2048];
    struct stat status;
    if (stat(given, &status) != 0)
        return error_errno(ERROR_MODEL_LOAD, errno, "cannot open ONNX Runtime at '%s'", given);
    if (!S_ISDIR(status.st_mode)) {
        /* A bare name would be looked for in the system's folders. */
        snprintf(path, sizeof path, "%s%s", strchr(given, '/') == NULL ? "./" : "", given);
    } else if (!find_in(given, path, sizeof path)) {
        return error_new(ERROR_MODEL_LOAD, "there is no " LIBRARY " in '%s'", given);
    }
    return open_path(path, ret);
}

/* Distributions put the minor version into the name that programs link with. */
static void *open_system(char *name, size_t size)
{
    static const char *const names[] = {LIBRARY ".1", LIBRARY};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        snprintf(name, size, "%s", names[i]);
        void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (handle != NULL) return handle;
    }
    for (int minor = 40; minor >= ORT_API_OLDEST; minor--) {
        snprintf(name, size, LIBRARY ".1.%d", minor);
        void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (handle != NULL) return handle;
    }
    return NULL;
}

tidemill_error *ort_library_open(const char *given, struct ort_library *ret)
{
    *ret = (struct ort_library){0};
    if (given != NULL) return error_context(open_given(given, ret), "--onnxruntime");
    const char *variable = getenv("TIDEMILL_ONNXRUNTIME");
    if (variable != NULL && *variable != '\0')
        return error_context(open_given(variable, ret), "$TIDEMILL_ONNXRUNTIME");
    void *handle = open_system(ret->path, sizeof ret->path);
    if (handle != NULL) return check_api(handle, ret);
#ifdef TIDEMILL_DEPS_ORT
    char path[2048];
    if (find_in(TIDEMILL_DEPS_ORT, path, sizeof path)) return open_path(path, ret);
#define ALSO ", " TIDEMILL_DEPS_ORT
#else
#define ALSO ""
#endif
    return error_new(
        ERROR_MODEL_LOAD,
        "ONNX Runtime was not found. Looked for: $TIDEMILL_ONNXRUNTIME (not set), " LIBRARY
        ".1 and " LIBRARY " among the system's libraries" ALSO ". Install it (Debian 13, Ubuntu: "
        "apt install libonnxruntime-dev; anywhere: pip install onnxruntime, or a release from "
        "github.com/microsoft/onnxruntime) and name the file or its folder with --onnxruntime");
}
