/* SPDX-License-Identifier: Apache-2.0 */
/* sink_jsonl.c - all windows' answers appended to one file, each window's exactly once.
 *
 * TO.journal tells how far: before a window's lines are appended, "begin EVENT OFFSET", and when they are on
 * the disk, "end EVENT". A begin without its end is a try that was cut off: what stands from OFFSET on
 * is looked at, and as far as it is what was to be written, it is not written again. Nothing is ever cut
 * from the file, so lines that somebody else appended stay. Where the file was changed or replaced meanwhile the
 * window's lines are appended as a whole: then they are there at least once.
 *
 * Both files are this server's to append to: one sink, one file. */
#include "server/delivery_parts.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define JOURNAL_BYTES_MAX ((size_t)64 << 20)
#define BLOCK_BYTES ((size_t)256 << 10)

struct appending {
    const struct io *io;
    const char *to, *event;
    char *journal_path;
    int from_fd, to_fd, journal_fd;
    char *blocks; /* two of BLOCK_BYTES */
};

/* --- the journal ---------------------------------------------------------------------------------- */

struct past {
    bool is_begun, is_ended;
    uint64_t offset;
};

/* The last words about this event. A line that was cut off by a kill says nothing. */
static void read_lines(char *text, const char *event, struct past *ret)
{
    char name[STORE_ID_BYTES];
    uint64_t offset;
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (sscanf(line, "begin %39s %" SCNu64, name, &offset) == 2 && strcmp(name, event) == 0) {
            ret->is_begun = true;
            ret->offset = offset;
        } else if (sscanf(line, "end %39s", name) == 1 && strcmp(name, event) == 0) {
            ret->is_ended = true;
        }
    }
}

static tidemill_error *read_past(struct appending *appending, struct past *ret)
{
    char *text;
    size_t size;
    if (!io_exists(appending->io, appending->journal_path)) return NULL;
    TRY(io_read_file(appending->io, appending->journal_path, JOURNAL_BYTES_MAX, &text, &size));
    read_lines(text, appending->event, ret);
    free(text);
    return NULL;
}

static tidemill_error *sync_file(struct appending *appending, int fd, const char *path)
{
    if (appending->io->fsync(appending->io->context, fd) == 0) return NULL;
    return error_errno(ERROR_IO, errno, "cannot sync %s", path);
}

/* With a line's end in front, so that a line that a kill cut off ends there. */
static tidemill_error *note(struct appending *appending, const char *line)
{
    TRY(io_write_all(appending->io, appending->journal_fd, appending->journal_path, line,
                     strlen(line)));
    return sync_file(appending, appending->journal_fd, appending->journal_path);
}

static tidemill_error *note_begin(struct appending *appending, uint64_t offset)
{
    char line[96];
    snprintf(line, sizeof line, "\nbegin %s %" PRIu64 "\n", appending->event, offset);
    return note(appending, line);
}

static tidemill_error *note_end(struct appending *appending)
{
    char line[64];
    snprintf(line, sizeof line, "\nend %s\n", appending->event);
    return note(appending, line);
}

/* --- the file ------------------------------------------------------------------------------------- */

static tidemill_error *size_of(struct appending *appending, uint64_t *ret)
{
    struct stat status;
    if (appending->io->fstat(appending->io->context, appending->to_fd, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot stat %s", appending->to);
    *ret = (uint64_t)status.st_size;
    return NULL;
}

static ssize_t read_block(struct appending *appending, int fd, char *block, uint64_t offset)
{
    size_t n = 0;
    while (n < BLOCK_BYTES) {
        ssize_t some = appending->io->pread(appending->io->context, fd, block + n, BLOCK_BYTES - n,
                                            (off_t)(offset + n));
        if (some < 0) return -1;
        if (some == 0) break;
        n += (size_t)some;
    }
    return (ssize_t)n;
}

/* How much of what is to be written stands at `offset`, up to the file's end; *ret_is_ours false: something
 * else does. */
static tidemill_error *compare(struct appending *appending, uint64_t offset, uint64_t *ret_same,
                               bool *ret_is_ours)
{
    char *ours = appending->blocks, *theirs = ours + BLOCK_BYTES;
    *ret_same = 0;
    *ret_is_ours = true;
    for (;;) {
        ssize_t n = read_block(appending, appending->to_fd, theirs, offset + *ret_same);
        ssize_t m = read_block(appending, appending->from_fd, ours, *ret_same);
        if (n < 0 || m < 0) return error_errno(ERROR_IO, errno, "cannot read %s", appending->to);
        ssize_t both = MIN(n, m);
        if (memcmp(ours, theirs, (size_t)both) != 0) {
            *ret_is_ours = false;
            return NULL;
        }
        *ret_same += (uint64_t)both;
        /* Beyond ours another's lines may stand; but where ours is not whole, ours must be the end. */
        if (both < (ssize_t)BLOCK_BYTES) return NULL;
    }
}

static tidemill_error *append_from(struct appending *appending, uint64_t from)
{
    for (;;) {
        ssize_t n = read_block(appending, appending->from_fd, appending->blocks, from);
        if (n < 0) return error_errno(ERROR_IO, errno, "cannot read what %s gets", appending->to);
        if (n == 0) break;
        TRY(io_write_all(appending->io, appending->to_fd, appending->to, appending->blocks,
                         (size_t)n));
        from += (uint64_t)n;
    }
    return sync_file(appending, appending->to_fd, appending->to);
}

static tidemill_error *append(struct appending *appending)
{
    struct past past = {0};
    uint64_t size = 0, same = 0;
    bool is_ours = false;
    TRY(read_past(appending, &past));
    if (past.is_ended) return NULL;
    TRY(size_of(appending, &size));
    if (past.is_begun && size >= past.offset) TRY(compare(appending, past.offset, &same, &is_ours));
    if (!is_ours) {
        same = 0;
        TRY(note_begin(appending, size));
    }
    TRY(append_from(appending, same));
    return note_end(appending);
}

/* --- the sink ------------------------------------------------------------------------------------- */

static tidemill_error *open_all(struct appending *appending, const char *from)
{
    const int flags = O_RDWR | O_CREAT | O_APPEND;
    bool is_new = !io_exists(appending->io, appending->to);
    if (asprintf(&appending->journal_path, "%s.journal", appending->to) < 0) {
        appending->journal_path = NULL;
        return error_memory();
    }
    if ((appending->blocks = malloc(2 * BLOCK_BYTES)) == NULL) return error_memory();
    TRY(io_open(appending->io, from, O_RDONLY, 0, &appending->from_fd));
    TRY(io_open(appending->io, appending->to, flags, 0644, &appending->to_fd));
    TRY(io_open(appending->io, appending->journal_path, flags, 0644, &appending->journal_fd));
    return is_new ? io_sync_directory(appending->io, appending->to) : NULL;
}

tidemill_error *sink_jsonl(const struct sink_source *source, const char *to)
{
    struct appending appending = {.io = source->app->io,
                                  .to = to,
                                  .event = source->event,
                                  .from_fd = -1,
                                  .to_fd = -1,
                                  .journal_fd = -1};
    tidemill_error *error = open_all(&appending, source->path);
    if (error == NULL) error = append(&appending);
    io_close(appending.io, appending.from_fd);
    io_close(appending.io, appending.to_fd);
    io_close(appending.io, appending.journal_fd);
    free(appending.blocks);
    free(appending.journal_path);
    return error;
}
