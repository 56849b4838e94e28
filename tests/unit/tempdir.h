/* SPDX-License-Identifier: Apache-2.0 */
/* tempdir.h - a folder of its own for a test on the real disk. Aborts where that fails. */
#ifndef TIDEMILL_TESTS_TEMPDIR_H
#define TIDEMILL_TESTS_TEMPDIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct tempdir {
    char path[64];
};

static inline void tempdir_open(struct tempdir *tempdir)
{
    snprintf(tempdir->path, sizeof tempdir->path, "/tmp/tidemill-test-XXXXXX");
    if (mkdtemp(tempdir->path) == NULL) abort();
}

/* "<folder>/<name>"; one of four buffers in turn. Not for several threads. */
static inline const char *tempdir_path(const struct tempdir *tempdir, const char *name)
{
    static char paths[4][256];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", tempdir->path, name);
    return path;
}

static inline void tempdir_write(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

static inline int tempdir_remove_one(const char *path, const struct stat *status, int kind,
                                     struct FTW *place)
{
    (void)status, (void)kind, (void)place;
    return remove(path);
}

static inline void tempdir_close(struct tempdir *tempdir)
{
    nftw(tempdir->path, tempdir_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
