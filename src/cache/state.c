/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - may the data file be believed, and who uses it?
 *
 * The file holds STATE_BYTES of text, filled up with spaces, written by one call:
 *
 *     tidemill cache 1
 *     open boot=UUID inode=N
 *
 * while somebody uses the data file. As long as the machine runs, whatever was written is in the
 * kernel's memory, also after kill -9; so an open file of this boot is good. Of another boot it is
 * not: the machine went down before everything was on the disk. Nor is a copy that was made
 * meanwhile, whose state file has another inode. After the last user:
 *
 *     sealed boot=UUID size=N mtime=N inode=N digest=HEX
 *
 * The digest is that of io_fingerprint. It is not computed again in the same boot where size, mtime
 * and inode are the same. And, after an error that says so:
 *
 *     broken
 *
 * Locks are those of open file descriptions (fcntl F_OFD_SETLK): they go with the process, become
 * shared without a gap, and are not lost when another descriptor of the file is closed. Byte 0 of
 * LOCK_BASE is held shared by every user and alone by who opens first or closes last; byte 1 is the
 * right to write. */
#include "cache/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>

#define STATE_MAGIC "tidemill cache "
#define STATE_VERSION "1\n"
#define LOCK_BASE 4096
#define LOCK_USERS 0
#define LOCK_WRITER 1
#define USERS_WAIT_MS 10000

/* --- locks ------------------------------------------------------------------------------------ */

static bool lock_byte(const struct state *state, short type, off_t byte)
{
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_BASE + byte, .l_len = 1};
    int result;
    do {
        result = fcntl(state->fd, F_OFD_SETLK, &lock);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

/* Asks again until the time is over: a wait without an end would be one for a stopped process. */
static bool lock_byte_within(const struct state *state, short type, off_t byte, int wait_ms)
{
    struct timespec pause = {.tv_nsec = 1000000};
    for (int64_t end_ns = clock_now_ns() + (int64_t)wait_ms * 1000000;;) {
        if (lock_byte(state, type, byte)) return true;
        if ((errno != EAGAIN && errno != EACCES) || clock_now_ns() >= end_ns) return false;
        nanosleep(&pause, NULL);
    }
}

void state_share(struct state *state)
{
    lock_byte(state, F_RDLCK, LOCK_USERS);
}

bool state_try_alone(struct state *state)
{
    return lock_byte(state, F_WRLCK, LOCK_USERS);
}

/* Lets go before it asks: of two who leave at once and both hold on, neither would be the last. */
bool state_leave(struct state *state)
{
    return lock_byte(state, F_UNLCK, LOCK_USERS) && lock_byte(state, F_WRLCK, LOCK_USERS);
}

bool state_lock_writer(struct state *state, int wait_ms)
{
    return lock_byte_within(state, F_WRLCK, LOCK_WRITER, wait_ms);
}

void state_unlock_writer(struct state *state)
{
    lock_byte(state, F_UNLCK, LOCK_WRITER);
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Magic numbers of statfs(2) and of the kernel's linux/magic.h. */
static const struct {
    unsigned magic;
    const char *name;
} network_file_systems[] = {
    {0x6969, "NFS"},        {0x517b, "SMB"},      {0xfe534d42, "SMB"},    {0xff534d42, "CIFS"},
    {0x0bd00bd0, "Lustre"}, {0x5346414f, "AFS"},  {0x00c36400, "Ceph"},   {0x47504653, "GPFS"},
    {0x01021997, "9P"},     {0x73757245, "Coda"}, {0x19830326, "BeeGFS"},
};

static tidemill_error *refuse_network(const char *folder)
{
    struct statfs status;
    if (statfs(folder, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at the file system of %s", folder);
    for (size_t i = 0; i < COUNT_OF(network_file_systems); i++)
        if ((unsigned)status.f_type == network_file_systems[i].magic)
            return error_new(ERROR_UNSUPPORTED,
                             "%s is on a network file system (%s), where a cache cannot be shared "
                             "safely; name a folder on a disk of this machine",
                             folder, network_file_systems[i].name);
    return NULL;
}

static tidemill_error *read_text(struct state *state, char text[STATE_BYTES + 1])
{
    ssize_t size = state->io->pread(state->io->context, state->fd, text, STATE_BYTES, 0);
    if (size < 0) return error_errno(ERROR_IO, errno, "cannot read %s", state->path);
    text[size] = '\0';
    return NULL;
}

/* Whether the status begins with `word`. */
static tidemill_error *says(struct state *state, const char *word, bool *ret)
{
    char text[STATE_BYTES + 1];
    static const char begin[] = STATE_MAGIC STATE_VERSION;
    TRY(read_text(state, text));
    *ret = strncmp(text, begin, sizeof begin - 1) == 0 &&
           strncmp(text + sizeof begin - 1, word, strlen(word)) == 0;
    return NULL;
}

/* Alone, or among users of a file that is said to be open. Who waited for the last user to seal it is
 * the next first one: sharing it then would leave the seal on a file that changes. */
static tidemill_error *take_place(struct state *state, bool *ret_is_alone, bool *ret_is_taken)
{
    bool is_open = false, is_broken = false;
    *ret_is_taken = *ret_is_alone = lock_byte(state, F_WRLCK, LOCK_USERS);
    if (!*ret_is_alone && errno != EAGAIN && errno != EACCES)
        return error_errno(ERROR_UNSUPPORTED, errno, "cannot lock %s", state->path);
    if (*ret_is_alone || !lock_byte(state, F_RDLCK, LOCK_USERS)) return NULL;
    TRY(says(state, "open ", &is_open));
    TRY(says(state, "broken", &is_broken));
    *ret_is_taken = is_open;
    if (!is_open) lock_byte(state, F_UNLCK, LOCK_USERS);
    return is_broken ? error_new(ERROR_CORRUPT,
                                 "%s says that the cache is broken; it is dropped when the "
                                 "processes that use it have ended",
                                 state->path)
                     : NULL;
}

static tidemill_error *take_place_within(struct state *state, int wait_ms, bool *ret_is_alone)
{
    struct timespec pause = {.tv_nsec = 1000000};
    for (int64_t end_ns = clock_now_ns() + (int64_t)wait_ms * 1000000;;) {
        bool is_taken;
        TRY(take_place(state, ret_is_alone, &is_taken));
        if (is_taken) return NULL;
        if (clock_now_ns() >= end_ns)
            return error_new(ERROR_LOCKED,
                             "%s: another process has been opening or closing this cache for ten "
                             "seconds; try again, or name another folder",
                             state->path);
        nanosleep(&pause, NULL);
    }
}

tidemill_error *state_open(const struct io *io, const char *folder, const char *path,
                           struct state *ret, bool *ret_is_alone)
{
    *ret = (struct state){.io = io, .path = path, .fd = -1};
    TRY(refuse_network(folder));
    TRY(io_open(io, path, O_RDWR | O_CREAT, 0600, &ret->fd));
    tidemill_error *error = take_place_within(ret, USERS_WAIT_MS, ret_is_alone);
    if (error != NULL) state_close(ret);
    return error;
}

void state_close(struct state *state)
{
    if (state->fd >= 0) io_close(state->io, state->fd);
    state->fd = -1;
}

/* --- what it says ------------------------------------------------------------------------------- */

struct seal {
    char boot[64];
    unsigned long long size, inode;
    long long mtime_ns;
    char digest[DIGEST_TEXT_BYTES];
};

/* "unknown" is like no other boot: then only a seal counts. */
static void read_boot(const struct io *io, char boot[64])
{
    char *data = NULL;
    size_t size;
    tidemill_error *error = io_read_file(io, "/proc/sys/kernel/random/boot_id", 4096, &data, &size);
    snprintf(boot, 64, "%.*s", error == NULL ? (int)MIN(strcspn(data, "\n"), (size_t)63) : 7,
             error == NULL ? data : "unknown");
    error_free(error);
    free(data);
}

static bool is_this_boot(const struct io *io, const char *boot)
{
    char now[64];
    read_boot(io, now);
    return strcmp(boot, now) == 0 && strcmp(boot, "unknown") != 0;
}

static tidemill_error *write_text(struct state *state, const char *status)
{
    char text[STATE_BYTES + 1];
    snprintf(text, sizeof text, "%s%s%-*s", STATE_MAGIC, STATE_VERSION,
             (int)(STATE_BYTES - sizeof STATE_MAGIC - sizeof STATE_VERSION + 2), status);
    ssize_t size = state->io->pwrite(state->io->context, state->fd, text, STATE_BYTES, 0);
    if (size < 0) return error_errno(ERROR_IO, errno, "cannot write %s", state->path);
    if (size != STATE_BYTES) return error_new(ERROR_NO_SPACE, "cannot write %s", state->path);
    if (state->io->fdatasync(state->io->context, state->fd) != 0)
        return error_errno(ERROR_IO, errno, "cannot sync %s", state->path);
    return NULL;
}

static long long mtime_ns(const struct stat *status)
{
    return (long long)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
}

static bool has_same_status(const struct seal *seal, const struct stat *status)
{
    return seal->size == (unsigned long long)status->st_size &&
           seal->inode == (unsigned long long)status->st_ino && seal->mtime_ns == mtime_ns(status);
}

/* Whether the data file is the one that was sealed. */
static bool is_seal_whole(struct state *state, const struct seal *seal, const char *data_path)
{
    struct stat status;
    struct digest digest;
    char text[DIGEST_TEXT_BYTES];
    uint64_t size;
    if (state->io->stat(state->io->context, data_path, &status) != 0) return false;
    if (has_same_status(seal, &status) && is_this_boot(state->io, seal->boot)) return true;
    tidemill_error *error = io_fingerprint(state->io, data_path, &digest, &size);
    bool is_read = error == NULL;
    error_free(error);
    if (!is_read) return false;
    digest_text(digest, text);
    return size == seal->size && strcmp(text, seal->digest) == 0;
}

static bool is_own_inode(struct state *state, unsigned long long inode)
{
    struct stat status;
    return state->io->fstat(state->io->context, state->fd, &status) == 0 &&
           inode == (unsigned long long)status.st_ino;
}

static const char *judge_status(struct state *state, const char *status, const char *data_path,
                                bool *ret_is_sealed)
{
    struct seal seal = {0};
    if (sscanf(status, "open boot=%63s inode=%llu", seal.boot, &seal.inode) == 2)
        return !is_this_boot(state->io, seal.boot)
                   ? "the machine went down before it was written out"
               : !is_own_inode(state, seal.inode) ? "it was copied while it was in use"
                                                  : NULL;
    if (sscanf(status, "sealed boot=%63s size=%llu mtime=%lld inode=%llu digest=%32s", seal.boot,
               &seal.size, &seal.mtime_ns, &seal.inode, seal.digest) != 5)
        return "it was found broken before";
    *ret_is_sealed = is_seal_whole(state, &seal, data_path);
    snprintf(state->seal, sizeof state->seal, "%.*s\n", (int)strcspn(status, "\n"), status);
    return *ret_is_sealed ? NULL : "it is not what its last user left";
}

tidemill_error *state_judge(struct state *state, const char *data_path, const char **ret_reason,
                            bool *ret_is_sealed)
{
    char text[STATE_BYTES + 1];
    static const char begin[] = STATE_MAGIC STATE_VERSION;
    *ret_reason = NULL;
    *ret_is_sealed = false;
    TRY(read_text(state, text));
    if (text[0] == '\0') { /* new, or killed before the first word: nothing was stored yet */
        if (!io_exists(state->io, data_path)) return NULL;
        return error_new(ERROR_EXISTS, "%s is not a cache of tidemill; name another folder",
                         data_path);
    }
    if (strncmp(text, STATE_MAGIC, sizeof STATE_MAGIC - 1) != 0)
        return error_new(ERROR_EXISTS, "%s is not a file of tidemill; name another folder",
                         state->path);
    if (strncmp(text, begin, sizeof begin - 1) != 0)
        return error_new(ERROR_EXISTS,
                         "%s says that another version of tidemill made this cache; remove its "
                         "folder, or name another",
                         state->path);
    if (io_exists(state->io, data_path))
        *ret_reason = judge_status(state, text + sizeof begin - 1, data_path, ret_is_sealed);
    return NULL;
}

tidemill_error *state_mark_open(struct state *state)
{
    struct stat file;
    char boot[64], status[STATE_BYTES];
    if (state->io->fstat(state->io->context, state->fd, &file) != 0)
        return error_errno(ERROR_IO, errno, "cannot stat %s", state->path);
    read_boot(state->io, boot);
    snprintf(status, sizeof status, "open boot=%s inode=%llu\n", boot,
             (unsigned long long)file.st_ino);
    return write_text(state, status);
}

tidemill_error *state_mark_broken(struct state *state)
{
    return write_text(state, "broken\n");
}

static tidemill_error *sync_data(struct state *state, const char *data_path)
{
    int fd = -1;
    TRY(io_open(state->io, data_path, O_RDONLY, 0, &fd));
    tidemill_error *error = NULL;
    if (state->io->fsync(state->io->context, fd) != 0)
        error = error_errno(ERROR_IO, errno, "cannot sync %s", data_path);
    io_close(state->io, fd);
    return error;
}

/* The line of a data file as it is now. */
static tidemill_error *describe(struct state *state, const char *data_path)
{
    struct stat file;
    struct digest digest;
    char boot[64], digest_hex[DIGEST_TEXT_BYTES];
    uint64_t size;
    TRY(sync_data(state, data_path));
    TRY(io_fingerprint(state->io, data_path, &digest, &size));
    if (state->io->stat(state->io->context, data_path, &file) != 0)
        return error_errno(ERROR_IO, errno, "cannot stat %s", data_path);
    read_boot(state->io, boot);
    digest_text(digest, digest_hex);
    snprintf(state->seal, sizeof state->seal,
             "sealed boot=%s size=%llu mtime=%lld inode=%llu digest=%s\n", boot,
             (unsigned long long)size, mtime_ns(&file), (unsigned long long)file.st_ino,
             digest_hex);
    return NULL;
}

tidemill_error *state_seal(struct state *state, const char *data_path, bool is_unchanged)
{
    bool is_open = false;
    TRY(says(state, "open ", &is_open));
    if (!is_open) return NULL; /* somebody found it broken */
    if (!is_unchanged) TRY(describe(state, data_path));
    return write_text(state, state->seal);
}
