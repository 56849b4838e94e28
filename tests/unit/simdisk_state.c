/* SPDX-License-Identifier: Apache-2.0 */
/* simdisk_state.c - what the simulated disk is made of: bytes, names, and lists of changes to both
 * that have not been synced. Out of memory aborts: this is a test. */
#include "simdisk_state.h"

#include <stdlib.h>
#include <string.h>

/* --- memory ----------------------------------------------------------------------------------- */

void *must(void *memory)
{
    if (memory == NULL) abort();
    return memory;
}

/* Room for one more item in an array of `count`. */
void *grow(void *items, size_t count, size_t item_size)
{
    if ((count & (count - 1)) != 0) return items; /* grows at powers of two */
    return must(realloc(items, (count == 0 ? 1 : count * 2) * item_size));
}

void content_resize(struct content *content, size_t size)
{
    if (size > content->size) {
        content->data = must(realloc(content->data, size));
        memset(content->data + content->size, 0, size - content->size);
    }
    content->size = size;
}

void content_write(struct content *content, size_t offset, const void *data, size_t size)
{
    if (size == 0) return;
    if (content->size < offset + size) content_resize(content, offset + size);
    memcpy(content->data + offset, data, size);
}

void content_apply(struct content *content, const struct change *change)
{
    if (change->kind == CHANGE_CUT) {
        content_resize(content, change->offset);
    } else {
        content_write(content, change->offset, change->data.data, change->data.size);
    }
}

struct content content_copy(const struct content *from)
{
    struct content copy = {0};
    content_write(&copy, 0, from->data, from->size);
    return copy;
}

static void change_free(struct change *change)
{
    free(change->data.data);
    free(change->path);
    free(change->to);
}

void changes_clear(struct changes *changes)
{
    for (size_t i = 0; i < changes->count; i++) change_free(&changes->items[i]);
    free(changes->items);
    *changes = (struct changes){0};
}

struct change *changes_add(struct changes *changes, enum change_kind kind)
{
    changes->items = grow(changes->items, changes->count, sizeof *changes->items);
    struct change *change = &changes->items[changes->count++];
    *change = (struct change){.kind = kind};
    return change;
}

/* --- names ------------------------------------------------------------------------------------ */

struct entry *entries_find(struct entries *entries, const char *path)
{
    for (size_t i = 0; i < entries->count; i++) {
        if (strcmp(entries->items[i].path, path) == 0) return &entries->items[i];
    }
    return NULL;
}

static void entries_remove(struct entries *entries, const char *path)
{
    struct entry *entry = entries_find(entries, path);
    if (entry == NULL) return;
    free(entry->path);
    *entry = entries->items[entries->count - 1];
    entries->count--;
}

void entries_set(struct entries *entries, const char *path, size_t node)
{
    entries_remove(entries, path);
    entries->items = must(realloc(entries->items, (entries->count + 1) * sizeof *entries->items));
    entries->items[entries->count++] = (struct entry){.path = must(strdup(path)), .node = node};
}

void entries_clear(struct entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) free(entries->items[i].path);
    free(entries->items);
    *entries = (struct entries){0};
}

struct entries entries_copy(const struct entries *from)
{
    struct entries copy = {0};
    for (size_t i = 0; i < from->count; i++) {
        entries_set(&copy, from->items[i].path, from->items[i].node);
    }
    return copy;
}

void entries_apply(struct entries *entries, const struct change *change)
{
    struct entry *source = entries_find(entries, change->path);
    switch (change->kind) {
    case CHANGE_CREATE: entries_set(entries, change->path, change->node); break;
    case CHANGE_UNLINK: entries_remove(entries, change->path); break;
    case CHANGE_RENAME:
        if (source == NULL) break; /* its creation was lost: nothing can be renamed */
        size_t node = source->node;
        entries_remove(entries, change->path);
        entries_set(entries, change->to, node);
        break;
    default: break;
    }
}

static size_t directory_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path) + (slash == path);
}

/* "." holds the paths without a slash. */
static bool is_in_directory(const char *path, const char *directory)
{
    size_t size = directory_size(path);
    if (size == 0) return strcmp(directory, ".") == 0;
    return strlen(directory) == size && memcmp(path, directory, size) == 0;
}

static bool has_name(const struct change *change, const char *path)
{
    return strcmp(change->path, path) == 0 || (change->to != NULL && strcmp(change->to, path) == 0);
}

/* Whether the sync of a directory concerns a change: it is in it; or a later change that concerns
 * it moves the same name away (a rename between two directories is one transaction, and its source
 * had to be there before). */
static bool is_concerned(const struct changes *changes, size_t i, const char *directory)
{
    const struct change *change = &changes->items[i];
    if (is_in_directory(change->path, directory)) return true;
    if (change->to != NULL && is_in_directory(change->to, directory)) return true;
    for (size_t j = i + 1; j < changes->count; j++) {
        const struct change *later = &changes->items[j];
        if (later->kind != CHANGE_RENAME || !has_name(change, later->path)) continue;
        if (is_concerned(changes, j, directory)) return true;
    }
    return false;
}

void changes_sync(struct changes *changes, const char *directory, struct entries *lasting)
{
    struct changes kept = {0};
    for (size_t i = 0; i < changes->count; i++) {
        struct change *change = &changes->items[i];
        if (!is_concerned(changes, i, directory)) {
            *changes_add(&kept, change->kind) = *change;
            continue;
        }
        change->is_done = true;
        if (lasting != NULL) entries_apply(lasting, change);
    }
    for (size_t i = 0; i < changes->count; i++) {
        if (changes->items[i].is_done) change_free(&changes->items[i]);
    }
    free(changes->items);
    *changes = kept;
}

struct changes changes_copy(const struct changes *from)
{
    struct changes copy = {0};
    for (size_t i = 0; i < from->count; i++) {
        const struct change *change = &from->items[i];
        struct change *added = changes_add(&copy, change->kind);
        added->offset = change->offset;
        added->data = content_copy(&change->data);
        added->path = change->path == NULL ? NULL : must(strdup(change->path));
        added->to = change->to == NULL ? NULL : must(strdup(change->to));
        added->node = change->node;
    }
    return copy;
}
