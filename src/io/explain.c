/* SPDX-License-Identifier: Apache-2.0 */
/* explain.c - one table from errno to what a person can do about it. */
#include "io/explain.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define AGAIN "and run the same command again"

static const struct {
    int errnum;
    const char *reading;
    const char *writing; /* NULL: the same */
} advice_table[] = {
    {ENOSPC, "free some space " AGAIN, NULL},
    {EDQUOT, "delete files or ask for a larger quota, " AGAIN, NULL},
    {EFBIG, "raise the limit on file sizes (ulimit -f) or use another file system, " AGAIN, NULL},
    {EMFILE, "raise the limit on open files (ulimit -n) " AGAIN, NULL},
    {ENFILE, "the whole machine has too many files open; close some " AGAIN, NULL},
    {EROFS, "the file system is read-only; choose another place", NULL},
    {EACCES, "check the permissions of the file and of the folders above it",
     "check the permissions of the file and of its folder, or choose another place"},
    {EPERM, "check the permissions of the file", "check the owner and attributes of the file"},
    {ENOENT, "check the name", "check that the folder is there"},
    {ENOTDIR, "a part of the path is a file, not a folder", NULL},
    {EISDIR, "name a file in it", NULL},
    {ELOOP, "the symbolic links go in a circle", NULL},
    {ENAMETOOLONG, "choose a shorter name", NULL},
    {EIO,
     "the disk or its connection is failing; check the system log, then run the same command "
     "again",
     NULL},
    {ESTALE, "the file was replaced on the server; run the same command again", NULL},
    {ETXTBSY, "the file is a program that runs; choose another name", NULL},
    {ENXIO, "nothing is at the other end of it", NULL},
    {EPIPE, "nothing is at the other end of it", "the program that was reading it has gone"},
};

static const char *find_advice(int errnum, bool is_reading)
{
    for (size_t i = 0; i < sizeof advice_table / sizeof advice_table[0]; i++) {
        if (advice_table[i].errnum != errnum) continue;
        if (!is_reading && advice_table[i].writing != NULL) return advice_table[i].writing;
        return advice_table[i].reading;
    }
    return NULL;
}

static enum error_code choose_code(enum error_code code, int errnum)
{
    if (errnum == ENOSPC || errnum == EDQUOT) return ERROR_NO_SPACE;
    return errnum == ENOMEM ? ERROR_MEMORY : code;
}

tidemill_error *io_explain(enum error_code code, int errnum, const char *verb, const char *path)
{
    char text[128];
    bool is_reading = strncmp(verb, "read", 4) == 0 || strncmp(verb, "stat", 4) == 0;
    const char *advice = find_advice(errnum, is_reading);
    return error_new(choose_code(code, errnum), "cannot %s %s: %s%s%s", verb, path,
                     strerror_r(errnum, text, sizeof text), advice == NULL ? "" : "; ",
                     advice == NULL ? "" : advice);
}
