/* SPDX-License-Identifier: Apache-2.0 */
/* paths.c - see paths.h. */
#include "job/paths.h"

#include "io/io.h"

#include <stdio.h>
#include <stdlib.h>

char *path_with(const char *path, const char *ending)
{
    char *joined;
    return asprintf(&joined, "%s%s", path, ending) < 0 ? NULL : joined;
}

tidemill_error *path_of_tokenizer(const struct job_spec *spec, const struct io *io, char **ret)
{
    const char *given = spec->tokenizer;
    *ret = NULL;
    if (given != NULL && strcmp(given, "none") == 0) return NULL;
    if (given != NULL && given[0] != '\0') {
        *ret = strdup(given);
        return *ret == NULL ? error_memory() : NULL;
    }
    if (!io_exists(io, spec->model)) return NULL; /* echo */
    const char *slash = strrchr(spec->model, '/');
    int folder = slash == NULL ? 0 : (int)(slash - spec->model) + 1;
    if (asprintf(ret, "%.*stokenizer.json", folder, spec->model) < 0) {
        *ret = NULL;
        return error_memory();
    }
    if (io_exists(io, *ret)) return NULL;
    free(*ret);
    *ret = NULL;
    return NULL;
}
