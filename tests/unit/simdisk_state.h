/* SPDX-License-Identifier: Apache-2.0 */
/* simdisk_state.h - bytes, names and unsynced changes. Only for simdisk.c. */
#ifndef TIDEMILL_TESTS_SIMDISK_STATE_H
#define TIDEMILL_TESTS_SIMDISK_STATE_H

#include <stdbool.h>
#include <stddef.h>

struct content {
    char *data;
    size_t size;
};

enum change_kind { CHANGE_WRITE, CHANGE_CUT, CHANGE_CREATE, CHANGE_RENAME, CHANGE_UNLINK };

/* Of a file: WRITE at `offset`, CUT to `offset`. Of the names: the others. */
struct change {
    enum change_kind kind;
    size_t offset;
    struct content data;
    char *path;
    char *to;
    size_t node;
    bool is_done; /* while a directory is synced */
};

struct changes {
    struct change *items;
    size_t count;
};

struct entry {
    char *path;
    size_t node;
};

struct entries {
    struct entry *items;
    size_t count;
};

/* Aborts on NULL. */
void *must(void *memory);
/* Room for one more item in an array of `count`. */
void *grow(void *items, size_t count, size_t item_size);

void content_resize(struct content *content, size_t size);
void content_write(struct content *content, size_t offset, const void *data, size_t size);
void content_apply(struct content *content, const struct change *change); /* WRITE or CUT */
struct content content_copy(const struct content *from);

/* The new change has its kind only. */
struct change *changes_add(struct changes *changes, enum change_kind kind);
void changes_clear(struct changes *changes);
struct changes changes_copy(const struct changes *from);

struct entry *entries_find(struct entries *entries, const char *path);
void entries_set(struct entries *entries, const char *path, size_t node);
void entries_apply(struct entries *entries, const struct change *change); /* of names */
void entries_clear(struct entries *entries);
struct entries entries_copy(const struct entries *from);

/* Takes the changes of names that the sync of `directory` concerns out of the list, and applies
 * them to `lasting` unless it is NULL. */
void changes_sync(struct changes *changes, const char *directory, struct entries *lasting);

#endif
