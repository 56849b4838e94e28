/* SPDX-License-Identifier: Apache-2.0 */
/* answers.c - linear probing over keys; a place is either an owner in memory or a frame in the file.
 *
 * The file: the line "tidemill answers 1\n", then frames, each a struct frame_head and the bytes of the
 * answer, little-endian, unaligned. A slot of the index holds half of the key; the other half is
 * compared with the frame's, so that nobody can make two inputs be taken for one. */
#include "job/answers.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS_MIN ((size_t)1 << 12)
#define PENDING_BYTES ((size_t)256 << 10)
#define ANSWER_BYTES_MAX ((size_t)1 << 30)
/* Read along with a frame's head: most answers fit. */
#define READ_AHEAD_BYTES ((size_t)1024)

static const char file_head[] = "tidemill answers 1\n";
#define FILE_HEAD_BYTES (sizeof file_head - 1)

struct frame_head {
    uint64_t checksum; /* of the rest of the head and the bytes */
    uint64_t first_index;
    struct digest key;
    uint32_t kind, code, size, unused;
};

struct slot_entry {
    uint64_t half_key;
    uint64_t
        place; /* 0: empty; odd: offset in the file x 2 + 1; even: where the owner keeps its key */
};

struct answers {
    const struct io *io;
    char *path; /* as errors name it */
    int fd;
    pthread_mutex_t mutex; /* guards all below */
    struct slot_entry *slots;
    size_t n_slots, n_slots_max, n_used;
    uint64_t file_bytes;
    struct buffer pending; /* frames behind file_bytes */
    bool has_news;         /* written since the last sync */
    bool is_entry_synced;  /* the name lasts as well */
};

/* --- the index ------------------------------------------------------------------------------------ */

static struct slot_entry *probe(struct slot_entry *slots, size_t n_slots, uint64_t half_key,
                                size_t from)
{
    size_t at = from & (n_slots - 1);
    while (slots[at].place != 0 && slots[at].half_key != half_key) at = (at + 1) & (n_slots - 1);
    return &slots[at];
}

static bool grow(struct answers *answers)
{
    size_t n_slots = answers->n_slots * 2;
    if (n_slots > answers->n_slots_max) return false;
    struct slot_entry *slots = calloc(n_slots, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < answers->n_slots; i++) {
        const struct slot_entry *old = &answers->slots[i];
        if (old->place == 0) continue;
        size_t at = old->half_key & (n_slots - 1);
        while (slots[at].place != 0) at = (at + 1) & (n_slots - 1);
        slots[at] = *old;
    }
    free(answers->slots);
    answers->slots = slots;
    answers->n_slots = n_slots;
    return true;
}

static bool is_owner(const struct slot_entry *slot)
{
    return (slot->place & 1) == 0;
}

static const struct digest *owner_of(const struct slot_entry *slot)
{
    return (const struct digest *)(uintptr_t)slot->place;
}

static uint64_t offset_of(const struct slot_entry *slot)
{
    return slot->place >> 1;
}

/* --- the file ------------------------------------------------------------------------------------- */

static tidemill_error *read_error(const struct answers *answers, uint64_t offset)
{
    return error_new(ERROR_CORRUPT, "%s is damaged at byte %llu; use --force to start anew",
                     answers->path, (unsigned long long)offset);
}

/* Fills at most `size` bytes from `offset`; what is not written yet is taken from memory. */
static tidemill_error *read_at(const struct answers *answers, uint64_t offset, void *data,
                               size_t size, size_t *ret_size)
{
    const struct io *io = answers->io;
    *ret_size = 0;
    if (offset >= answers->file_bytes) {
        size_t from = (size_t)(offset - answers->file_bytes);
        if (from > answers->pending.size) return read_error(answers, offset);
        *ret_size = MIN(size, answers->pending.size - from);
        if (*ret_size > 0) memcpy(data, answers->pending.data + from, *ret_size);
        return NULL;
    }
    size = (size_t)MIN((uint64_t)size, answers->file_bytes - offset);
    while (*ret_size < size) {
        ssize_t count = io->pread(io->context, answers->fd, (char *)data + *ret_size,
                                  size - *ret_size, (off_t)(offset + *ret_size));
        if (count < 0) return error_errno(ERROR_IO, errno, "cannot read %s", answers->path);
        if (count == 0) break;
        *ret_size += (size_t)count;
    }
    return NULL;
}

static uint64_t frame_checksum(const struct frame_head *head, const char *bytes)
{
    const char *rest = (const char *)head + sizeof head->checksum;
    uint64_t of_head = hash_checksum(rest, sizeof *head - sizeof head->checksum);
    return of_head ^ (hash_checksum(bytes, head->size) * 0x9e3779b97f4a7c15u);
}

/* The frame at `offset`, its bytes in `out`. *ret_is_whole false: torn, or never written. */
static tidemill_error *read_frame(const struct answers *answers, uint64_t offset,
                                  struct buffer *out, struct frame_head *ret_head,
                                  bool *ret_is_whole)
{
    size_t got, more;
    *ret_is_whole = false;
    buffer_reset(out, (size_t)1 << 20);
    char *place = buffer_reserve(out, sizeof *ret_head + READ_AHEAD_BYTES);
    if (place == NULL) return error_memory();
    TRY(read_at(answers, offset, place, sizeof *ret_head + READ_AHEAD_BYTES, &got));
    if (got < sizeof *ret_head) return NULL;
    memcpy(ret_head, place, sizeof *ret_head);
    size_t whole = sizeof *ret_head + ret_head->size;
    if (ret_head->size > ANSWER_BYTES_MAX || ret_head->kind > ANSWER_FAILED) return NULL;
    if (got < whole) {
        out->size = got;
        place = buffer_reserve(out, whole - got);
        if (place == NULL) return error_memory();
        TRY(read_at(answers, offset + got, place, whole - got, &more));
        if (got + more < whole) return NULL;
    }
    out->size = whole;
    *ret_is_whole = frame_checksum(ret_head, out->data + sizeof *ret_head) == ret_head->checksum;
    return NULL;
}

static struct answer_info info_of(const struct frame_head *head, const struct buffer *frame)
{
    return (struct answer_info){
        .first_index = head->first_index,
        .kind = (enum answer_kind)head->kind,
        .code = (enum error_code)head->code,
        .bytes = {frame->data + sizeof *head, head->size},
    };
}

static tidemill_error *write_pending(struct answers *answers)
{
    const struct io *io = answers->io;
    size_t done = 0;
    while (done < answers->pending.size) {
        ssize_t count = io->pwrite(io->context, answers->fd, answers->pending.data + done,
                                   answers->pending.size - done, (off_t)answers->file_bytes);
        if (count == 0) errno = ENOSPC;
        if (count <= 0) return error_errno(ERROR_IO, errno, "cannot write %s", answers->path);
        done += (size_t)count;
        answers->file_bytes += (uint64_t)count;
        answers->has_news = true;
    }
    buffer_reset(&answers->pending, 2 * PENDING_BYTES);
    return NULL;
}

/* --- opening -------------------------------------------------------------------------------------- */

static tidemill_error *take_over_frame(struct answers *answers, const struct frame_head *head,
                                       uint64_t offset)
{
    if (answers->n_used >= answers->n_slots / 4 * 3 && !grow(answers)) return NULL;
    struct slot_entry *slot = probe(answers->slots, answers->n_slots, head->key.low, head->key.low);
    if (slot->place != 0) return NULL; /* written twice: the first one counts */
    *slot = (struct slot_entry){.half_key = head->key.low, .place = offset << 1 | 1};
    answers->n_used++;
    return NULL;
}

static tidemill_error *take_over(struct answers *answers, uint64_t *ret_n_known)
{
    struct buffer frame = {0};
    struct frame_head head;
    bool is_whole = true;
    uint64_t offset = FILE_HEAD_BYTES;
    tidemill_error *error = NULL;
    while (error == NULL && is_whole) {
        error = read_frame(answers, offset, &frame, &head, &is_whole);
        if (error != NULL || !is_whole) break;
        error = take_over_frame(answers, &head, offset);
        offset += sizeof head + head.size;
        (*ret_n_known)++;
    }
    buffer_free(&frame);
    answers->file_bytes = offset;
    return error;
}

/* Whether the file begins as ours do. Sets file_bytes to its size. */
static tidemill_error *look_at_file(struct answers *answers, bool *ret_is_ours)
{
    char head[FILE_HEAD_BYTES];
    size_t got;
    struct stat status;
    if (answers->io->fstat(answers->io->context, answers->fd, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at %s", answers->path);
    answers->file_bytes = (uint64_t)status.st_size;
    TRY(read_at(answers, 0, head, sizeof head, &got));
    *ret_is_ours = got == sizeof head && memcmp(head, file_head, sizeof head) == 0;
    return NULL;
}

/* A file without a name: gone with the process. Not O_TMPFILE, which not every file system has. */
static tidemill_error *open_unnamed(struct answers *answers)
{
    const struct io *io = answers->io;
    const char *folder = getenv("TMPDIR");
    char name[4096];
    if (folder == NULL || folder[0] == '\0') folder = "/tmp";
    snprintf(name, sizeof name, "%s/tidemill-answers-%ld-%llx", folder, (long)getpid(),
             (unsigned long long)clock_now_ns());
    TRY(io_open(io, name, O_RDWR | O_CREAT | O_EXCL, 0600, &answers->fd));
    io->unlink(io->context, name);
    return NULL;
}

static tidemill_error *open_file(struct answers *answers, const char *path, bool is_resumed,
                                 uint64_t *ret_n_known)
{
    const struct io *io = answers->io;
    bool is_ours = false;
    if (path != NULL)
        TRY(io_open(io, path, O_RDWR | O_CREAT | (is_resumed ? 0 : O_TRUNC), 0666, &answers->fd));
    else
        TRY(open_unnamed(answers));
    if (is_resumed) TRY(look_at_file(answers, &is_ours));
    if (is_ours)
        TRY(take_over(answers, ret_n_known));
    else
        answers->file_bytes = 0;
    if (io->ftruncate(io->context, answers->fd, (off_t)answers->file_bytes) != 0)
        return error_errno(ERROR_IO, errno, "cannot cut %s to its valid part", answers->path);
    if (!is_ours) buffer_append(&answers->pending, file_head, FILE_HEAD_BYTES);
    return NULL;
}

tidemill_error *answers_open(const struct io *io, const char *path, uint64_t memory_bytes,
                             bool is_resumed, struct answers **ret, uint64_t *ret_n_known)
{
    struct answers *answers = calloc(1, sizeof *answers);
    *ret_n_known = 0;
    if (answers == NULL) return error_memory();
    pthread_mutex_init(&answers->mutex, NULL);
    answers->io = io;
    answers->fd = -1;
    answers->path = strdup(path != NULL ? path : "the temporary file of answers");
    answers->is_entry_synced = path == NULL;
    answers->n_slots = SLOTS_MIN;
    answers->n_slots_max = (size_t)(memory_bytes / sizeof *answers->slots);
    answers->slots = calloc(answers->n_slots, sizeof *answers->slots);
    tidemill_error *error = answers->path == NULL || answers->slots == NULL
                                ? error_memory()
                                : open_file(answers, path, is_resumed, ret_n_known);
    if (error != NULL) {
        answers_close(answers);
        return error;
    }
    *ret = answers;
    return NULL;
}

void answers_close(struct answers *answers)
{
    if (answers == NULL) return;
    io_close(answers->io, answers->fd);
    pthread_mutex_destroy(&answers->mutex);
    buffer_free(&answers->pending);
    free(answers->slots);
    free(answers->path);
    free(answers);
}

/* --- calls ---------------------------------------------------------------------------------------- */

/* Where the key is, or the empty slot where it would go. Two keys with one half each have a slot.
 * *ret_head and *ret_frame are set for a slot in the file. */
static tidemill_error *locate(struct answers *answers, struct digest key, struct buffer *frame,
                              struct frame_head *ret_head, struct slot_entry **ret_slot)
{
    size_t from = key.low;
    for (;;) {
        struct slot_entry *slot = probe(answers->slots, answers->n_slots, key.low, from);
        *ret_slot = slot;
        if (slot->place == 0) return NULL;
        if (is_owner(slot)) {
            if (digest_equal(*owner_of(slot), key)) return NULL;
        } else {
            bool is_whole;
            TRY(read_frame(answers, offset_of(slot), frame, ret_head, &is_whole));
            if (!is_whole) return read_error(answers, offset_of(slot));
            if (digest_equal(ret_head->key, key)) return NULL;
        }
        from = (size_t)(slot - answers->slots) + 1;
    }
}

static bool peek(struct answers *answers, struct digest key, uint64_t index)
{
    const struct slot_entry *slot = probe(answers->slots, answers->n_slots, key.low, key.low);
    struct frame_head head;
    size_t got;
    if (slot->place == 0) return false;
    if (is_owner(slot)) return digest_equal(*owner_of(slot), key);
    tidemill_error *error = read_at(answers, offset_of(slot), &head, sizeof head, &got);
    bool is_it = error == NULL && got == sizeof head && digest_equal(head.key, key);
    error_free(error); /* answers_find will say it */
    return is_it && head.first_index < index;
}

bool answers_peek(struct answers *answers, struct digest key, uint64_t index)
{
    pthread_mutex_lock(&answers->mutex);
    bool found = peek(answers, key, index);
    pthread_mutex_unlock(&answers->mutex);
    return found;
}

static tidemill_error *find(struct answers *answers, struct digest key, struct buffer *scratch,
                            enum answer_state *ret_state, const struct digest **ret_owner,
                            struct answer_info *ret_info)
{
    struct slot_entry *slot;
    struct frame_head head;
    TRY(locate(answers, key, scratch, &head, &slot));
    *ret_state = slot->place == 0 ? ANSWER_NEW : is_owner(slot) ? ANSWER_AWAITED : ANSWER_KNOWN;
    if (*ret_state == ANSWER_AWAITED) *ret_owner = owner_of(slot);
    if (*ret_state == ANSWER_KNOWN) *ret_info = info_of(&head, scratch);
    return NULL;
}

tidemill_error *answers_find(struct answers *answers, struct digest key, struct buffer *scratch,
                             enum answer_state *ret_state, const struct digest **ret_owner,
                             struct answer_info *ret_info)
{
    pthread_mutex_lock(&answers->mutex);
    tidemill_error *error = find(answers, key, scratch, ret_state, ret_owner, ret_info);
    pthread_mutex_unlock(&answers->mutex);
    return error;
}

bool answers_expect(struct answers *answers, const struct digest *owner)
{
    pthread_mutex_lock(&answers->mutex);
    bool has_room = answers->n_used < answers->n_slots / 4 * 3 || grow(answers);
    if (has_room) {
        size_t at = owner->low & (answers->n_slots - 1);
        while (answers->slots[at].place != 0) at = (at + 1) & (answers->n_slots - 1);
        answers->slots[at] =
            (struct slot_entry){.half_key = owner->low, .place = (uint64_t)(uintptr_t)owner};
        answers->n_used++;
    }
    pthread_mutex_unlock(&answers->mutex);
    return has_room;
}

static tidemill_error *settle(struct answers *answers, struct digest key,
                              const struct answer_info *info)
{
    struct buffer frame = {0};
    struct frame_head head;
    struct slot_entry *slot;
    tidemill_error *error = locate(answers, key, &frame, &head, &slot);
    buffer_free(&frame);
    if (error != NULL || slot->place == 0 || !is_owner(slot)) return error;
    head = (struct frame_head){
        .first_index = info->first_index,
        .key = key,
        .kind = (uint32_t)info->kind,
        .code = (uint32_t)info->code,
        .size = (uint32_t)info->bytes.size,
    };
    head.checksum = frame_checksum(&head, info->bytes.data);
    slot->place = (answers->file_bytes + answers->pending.size) << 1 | 1;
    buffer_append(&answers->pending, &head, sizeof head);
    buffer_append(&answers->pending, info->bytes.data, info->bytes.size);
    if (answers->pending.is_failed) return error_memory();
    return answers->pending.size >= PENDING_BYTES ? write_pending(answers) : NULL;
}

tidemill_error *answers_settle(struct answers *answers, struct digest key,
                               const struct answer_info *info)
{
    if (info->bytes.size > ANSWER_BYTES_MAX) return NULL; /* nobody gets it but its owner */
    pthread_mutex_lock(&answers->mutex);
    tidemill_error *error = settle(answers, key, info);
    pthread_mutex_unlock(&answers->mutex);
    return error;
}

tidemill_error *answers_flush(struct answers *answers, bool is_synced)
{
    const struct io *io = answers->io;
    pthread_mutex_lock(&answers->mutex);
    tidemill_error *error = write_pending(answers);
    bool has_news = answers->has_news;
    if (is_synced) answers->has_news = false;
    pthread_mutex_unlock(&answers->mutex);
    if (error != NULL || !is_synced || !has_news) return error;
    if (io->fdatasync(io->context, answers->fd) != 0) /* without the mutex: it may take long */
        return error_errno(ERROR_IO, errno, "cannot sync %s", answers->path);
    if (!answers->is_entry_synced) TRY(io_sync_directory(io, answers->path));
    answers->is_entry_synced = true;
    return NULL;
}
