/* SPDX-License-Identifier: Apache-2.0 */
/* simdisk.c - the simulated disk: two states of every file and directory, and what lies between.
 *
 * A file (`node`) has its content as seen, its content as lasting, and the changes in between.
 * Names are two tables, seen and lasting, and a list of changes. Nodes are never freed before the
 * disk, so an open file without a name needs no care. Out of memory aborts: this is a test. */
#include "simdisk.h"

#include "simdisk_state.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FD_BASE 1000000
#define FD_COUNT 256
#define SECTOR_BYTES ((size_t)512)

struct node {
    struct content seen, lasting;
    struct changes changes;
    time_t changed_at;
};

struct file {
    bool is_open;
    bool is_directory;
    bool is_append;
    char *path; /* of a directory */
    size_t node;
    size_t offset;
};

struct simdisk {
    struct io io;
    pthread_mutex_t mutex;
    struct node **nodes;
    size_t node_count;
    struct entries seen, lasting;
    struct changes changes;
    struct file files[FD_COUNT];
    uint64_t capacity;
    time_t now;
    uint64_t calls[SIMDISK_CALL_COUNT];
    enum simdisk_call fault_call;
    enum simdisk_mode fault_mode;
    uint64_t fault_nth;
    int fault_errno;
    bool has_failed;
};

/* --- the disk --------------------------------------------------------------------------------- */

static size_t add_node(struct simdisk *disk)
{
    disk->nodes = grow(disk->nodes, disk->node_count, sizeof *disk->nodes);
    disk->nodes[disk->node_count] = must(calloc(1, sizeof(struct node)));
    return disk->node_count++;
}

static uint64_t bytes_used(const struct simdisk *disk)
{
    uint64_t total = 0;
    for (size_t i = 0; i < disk->seen.count; i++) {
        total += disk->nodes[disk->seen.items[i].node]->seen.size;
    }
    return total;
}

static void touch(struct simdisk *disk, struct node *node)
{
    node->changed_at = disk->now != 0 ? disk->now : time(NULL);
}

static void node_cut(struct simdisk *disk, struct node *node, size_t size)
{
    content_resize(&node->seen, size);
    changes_add(&node->changes, CHANGE_CUT)->offset = size;
    touch(disk, node);
}

static void node_write(struct simdisk *disk, struct node *node, size_t offset, const void *data,
                       size_t size)
{
    content_write(&node->seen, offset, data, size);
    struct change *change = changes_add(&node->changes, CHANGE_WRITE);
    change->offset = offset;
    content_write(&change->data, 0, data, size);
    touch(disk, node);
}

static void node_sync(struct node *node)
{
    for (size_t i = 0; i < node->changes.count; i++) {
        content_apply(&node->lasting, &node->changes.items[i]);
    }
    changes_clear(&node->changes);
}

static void change_names(struct simdisk *disk, enum change_kind kind, const char *path,
                         const char *to, size_t node)
{
    struct change *change = changes_add(&disk->changes, kind);
    change->path = must(strdup(path));
    if (to != NULL) change->to = must(strdup(to));
    change->node = node;
    entries_apply(&disk->seen, change);
}

/* --- faults ----------------------------------------------------------------------------------- */

/* Counts the call. False: it fails, errno is set. *size, where there is one, may become smaller. */
static bool allow(struct simdisk *disk, enum simdisk_call call, size_t *size)
{
    disk->calls[call]++;
    disk->calls[SIMDISK_ANY]++;
    if (disk->fault_nth == 0) return true;
    if (disk->fault_call != call && disk->fault_call != SIMDISK_ANY) return true;
    uint64_t count = disk->calls[disk->fault_call];
    bool is_short = disk->fault_mode == SIMDISK_SHORT;
    if (is_short && count == disk->fault_nth && size != NULL && *size > 1) {
        *size /= 2;
        disk->has_failed = true;
        return true;
    }
    uint64_t strike = disk->fault_nth + (is_short && disk->fault_errno != 0);
    bool is_struck = count == strike ? !is_short || disk->fault_errno != 0
                                     : disk->fault_mode == SIMDISK_FOREVER && count > strike;
    if (!is_struck) return true;
    disk->has_failed = true;
    errno = disk->fault_errno;
    return false;
}

static struct file *find_file(struct simdisk *disk, int fd)
{
    int i = fd - FD_BASE;
    if (i >= 0 && i < FD_COUNT && disk->files[i].is_open) return &disk->files[i];
    errno = EBADF;
    return NULL;
}

static struct node *find_node(struct simdisk *disk, int fd)
{
    struct file *file = find_file(disk, fd);
    if (file == NULL) return NULL;
    if (!file->is_directory) return disk->nodes[file->node];
    errno = EISDIR;
    return NULL;
}

/* --- the table -------------------------------------------------------------------------------- */

static int open_locked(struct simdisk *disk, const char *path, int flags)
{
    if (!allow(disk, SIMDISK_OPEN, NULL)) return -1;
    struct entry *entry = entries_find(&disk->seen, path);
    bool is_directory = (flags & O_DIRECTORY) != 0;
    if (entry == NULL && !is_directory && (flags & O_CREAT) == 0) return errno = ENOENT, -1;
    if (entry != NULL && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return errno = EEXIST, -1;
    int i = 0;
    while (i < FD_COUNT && disk->files[i].is_open) i++;
    if (i == FD_COUNT) return errno = EMFILE, -1;
    struct file file = {
        .is_open = true, .is_directory = is_directory, .is_append = (flags & O_APPEND) != 0};
    if (is_directory) {
        file.path = must(strdup(path));
    } else if (entry != NULL) {
        file.node = entry->node;
        if ((flags & O_TRUNC) != 0) node_cut(disk, disk->nodes[file.node], 0);
    } else {
        file.node = add_node(disk);
        touch(disk, disk->nodes[file.node]);
        change_names(disk, CHANGE_CREATE, path, NULL, file.node);
    }
    disk->files[i] = file;
    return FD_BASE + i;
}

static int close_locked(struct simdisk *disk, int fd)
{
    struct file *file = find_file(disk, fd);
    if (file == NULL) return -1;
    bool is_allowed = allow(disk, SIMDISK_CLOSE, NULL);
    free(file->path);
    *file = (struct file){0}; /* the descriptor is gone even when close fails */
    return is_allowed ? 0 : -1;
}

/* `offset` NULL: at the file's own place, which moves on. */
static ssize_t read_locked(struct simdisk *disk, int fd, void *data, size_t size,
                           const off_t *offset)
{
    if (!allow(disk, SIMDISK_READ, &size)) return -1;
    struct node *node = find_node(disk, fd);
    if (node == NULL) return -1;
    struct file *file = find_file(disk, fd);
    size_t start = offset != NULL ? (size_t)*offset : file->offset;
    if (start >= node->seen.size) return 0;
    size_t count = MIN(size, node->seen.size - start);
    memcpy(data, node->seen.data + start, count);
    if (offset == NULL) file->offset += count;
    return (ssize_t)count;
}

static ssize_t write_locked(struct simdisk *disk, int fd, const void *data, size_t size,
                            const off_t *offset)
{
    if (!allow(disk, SIMDISK_WRITE, &size)) return -1;
    struct node *node = find_node(disk, fd);
    if (node == NULL) return -1;
    struct file *file = find_file(disk, fd);
    size_t start = offset != NULL ? (size_t)*offset : file->offset;
    if (file->is_append) start = node->seen.size; /* Linux appends even with pwrite */
    if (disk->capacity > 0 && start + size > node->seen.size) {
        uint64_t used = bytes_used(disk);
        uint64_t room = disk->capacity > used ? disk->capacity - used : 0;
        size_t end_max = node->seen.size + (size_t)room;
        size_t count = end_max > start ? MIN(size, end_max - start) : 0;
        if (count == 0 && size > 0) return errno = ENOSPC, -1;
        size = count;
    }
    node_write(disk, node, start, data, size);
    if (offset == NULL) file->offset = start + size;
    return (ssize_t)size;
}

static int truncate_locked(struct simdisk *disk, int fd, off_t size)
{
    if (!allow(disk, SIMDISK_TRUNCATE, NULL)) return -1;
    struct node *node = find_node(disk, fd);
    if (node == NULL) return -1;
    node_cut(disk, node, (size_t)size);
    return 0;
}

static int sync_locked(struct simdisk *disk, int fd)
{
    struct file *file = find_file(disk, fd);
    if (file == NULL) return -1;
    bool is_allowed = allow(disk, SIMDISK_SYNC, NULL);
    if (file->is_directory) {
        changes_sync(&disk->changes, file->path, is_allowed ? &disk->lasting : NULL);
    } else if (is_allowed) {
        node_sync(disk->nodes[file->node]);
    } else {
        changes_clear(&disk->nodes[file->node]->changes);
    }
    return is_allowed ? 0 : -1;
}

static void fill_status(const struct node *node, struct stat *status)
{
    memset(status, 0, sizeof *status);
    status->st_mode = node == NULL ? S_IFDIR | 0755 : S_IFREG | 0644;
    if (node == NULL) return;
    status->st_size = (off_t)node->seen.size;
    status->st_mtime = node->changed_at;
}

static int fstat_locked(struct simdisk *disk, int fd, struct stat *status)
{
    if (!allow(disk, SIMDISK_STAT, NULL)) return -1;
    struct file *file = find_file(disk, fd);
    if (file == NULL) return -1;
    fill_status(file->is_directory ? NULL : disk->nodes[file->node], status);
    return 0;
}

static int stat_locked(struct simdisk *disk, const char *path, struct stat *status)
{
    if (!allow(disk, SIMDISK_STAT, NULL)) return -1;
    struct entry *entry = entries_find(&disk->seen, path);
    if (entry == NULL) return errno = ENOENT, -1;
    fill_status(disk->nodes[entry->node], status);
    return 0;
}

static int rename_locked(struct simdisk *disk, const char *from, const char *to)
{
    if (!allow(disk, SIMDISK_RENAME, NULL)) return -1;
    if (entries_find(&disk->seen, from) == NULL) return errno = ENOENT, -1;
    if (strcmp(from, to) != 0) change_names(disk, CHANGE_RENAME, from, to, 0);
    return 0;
}

static int unlink_locked(struct simdisk *disk, const char *path)
{
    if (!allow(disk, SIMDISK_UNLINK, NULL)) return -1;
    if (entries_find(&disk->seen, path) == NULL) return errno = ENOENT, -1;
    change_names(disk, CHANGE_UNLINK, path, NULL, 0);
    return 0;
}

/* The same under the lock, with the table's types. */
#define UNDER_LOCK(type, call)                                                                     \
    do {                                                                                           \
        struct simdisk *disk = context;                                                            \
        pthread_mutex_lock(&disk->mutex);                                                          \
        type result = (call);                                                                      \
        pthread_mutex_unlock(&disk->mutex);                                                        \
        return result;                                                                             \
    } while (0)

static int sim_open(void *context, const char *path, int flags, mode_t mode)
{
    (void)mode;
    UNDER_LOCK(int, open_locked(disk, path, flags));
}

static int sim_close(void *context, int fd)
{
    UNDER_LOCK(int, close_locked(disk, fd));
}

static ssize_t sim_read(void *context, int fd, void *data, size_t size)
{
    UNDER_LOCK(ssize_t, read_locked(disk, fd, data, size, NULL));
}

static ssize_t sim_pread(void *context, int fd, void *data, size_t size, off_t offset)
{
    UNDER_LOCK(ssize_t, read_locked(disk, fd, data, size, &offset));
}

static ssize_t sim_write(void *context, int fd, const void *data, size_t size)
{
    UNDER_LOCK(ssize_t, write_locked(disk, fd, data, size, NULL));
}

static ssize_t sim_pwrite(void *context, int fd, const void *data, size_t size, off_t offset)
{
    UNDER_LOCK(ssize_t, write_locked(disk, fd, data, size, &offset));
}

static int sim_ftruncate(void *context, int fd, off_t size)
{
    UNDER_LOCK(int, truncate_locked(disk, fd, size));
}

static int sim_fsync(void *context, int fd)
{
    UNDER_LOCK(int, sync_locked(disk, fd));
}

static int sim_fstat(void *context, int fd, struct stat *status)
{
    UNDER_LOCK(int, fstat_locked(disk, fd, status));
}

static int sim_stat(void *context, const char *path, struct stat *status)
{
    UNDER_LOCK(int, stat_locked(disk, path, status));
}

static int sim_rename(void *context, const char *from, const char *to)
{
    UNDER_LOCK(int, rename_locked(disk, from, to));
}

static int sim_unlink(void *context, const char *path)
{
    UNDER_LOCK(int, unlink_locked(disk, path));
}

/* --- crash ------------------------------------------------------------------------------------ */

/* splitmix64, by Sebastiano Vigna: small, and every seed is a good one. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* How likely a change survives, in 256ths. Each file and each crash has its own, the extremes
 * often. */
static unsigned choose_chance(uint64_t seed, uint64_t *random)
{
    static const unsigned chances[] = {0, 256, 128, 230, 26};
    if (seed <= 1) return seed == 0 ? 0 : 256;
    return chances[next_random(random) % COUNT_OF(chances)];
}

static bool is_lucky(unsigned chance, uint64_t *random)
{
    return next_random(random) % 256 < chance;
}

/* Each sector that the write touches survives or not. */
static void crash_write(struct content *content, const struct change *change, unsigned chance,
                        uint64_t *random)
{
    size_t end = change->offset + change->data.size;
    for (size_t start = change->offset; start < end;) {
        size_t step = MIN(SECTOR_BYTES - start % SECTOR_BYTES, end - start);
        if (is_lucky(chance, random)) {
            content_write(content, start, change->data.data + (start - change->offset), step);
        }
        start += step;
    }
}

static void crash_node(struct node *node, uint64_t seed, uint64_t *random)
{
    unsigned chance = choose_chance(seed, random);
    for (size_t i = 0; i < node->changes.count; i++) {
        const struct change *change = &node->changes.items[i];
        if (change->kind == CHANGE_WRITE) {
            crash_write(&node->lasting, change, chance, random);
        } else if (is_lucky(chance, random)) {
            content_apply(&node->lasting, change);
        }
    }
    changes_clear(&node->changes);
    free(node->seen.data);
    node->seen = content_copy(&node->lasting);
}

void simdisk_crash(struct simdisk *disk, uint64_t seed)
{
    uint64_t random = seed;
    pthread_mutex_lock(&disk->mutex);
    for (size_t i = 0; i < disk->node_count; i++) crash_node(disk->nodes[i], seed, &random);
    unsigned chance = choose_chance(seed, &random);
    for (size_t i = 0; i < disk->changes.count; i++) {
        if (is_lucky(chance, &random)) entries_apply(&disk->lasting, &disk->changes.items[i]);
    }
    changes_clear(&disk->changes);
    entries_clear(&disk->seen);
    disk->seen = entries_copy(&disk->lasting);
    for (size_t i = 0; i < FD_COUNT; i++) free(disk->files[i].path);
    memset(disk->files, 0, sizeof disk->files);
    pthread_mutex_unlock(&disk->mutex);
    simdisk_fail(disk, SIMDISK_ANY, 0, SIMDISK_ONCE, 0);
}

/* Its folders are all there, as it knows only files. */
static int sim_mkdir(void *context, const char *path, mode_t mode)
{
    (void)context, (void)path, (void)mode;
    errno = EEXIST;
    return -1;
}

/* --- making, asking --------------------------------------------------------------------------- */

struct simdisk *simdisk_new(void)
{
    struct simdisk *disk = must(calloc(1, sizeof *disk));
    pthread_mutex_init(&disk->mutex, NULL);
    disk->io = (struct io){
        .context = disk,
        .open = sim_open,
        .close = sim_close,
        .read = sim_read,
        .pread = sim_pread,
        .write = sim_write,
        .pwrite = sim_pwrite,
        .ftruncate = sim_ftruncate,
        .fsync = sim_fsync,
        .fdatasync = sim_fsync,
        .fstat = sim_fstat,
        .stat = sim_stat,
        .rename = sim_rename,
        .unlink = sim_unlink,
        .mkdir = sim_mkdir,
    };
    return disk;
}

void simdisk_free(struct simdisk *disk)
{
    if (disk == NULL) return;
    for (size_t i = 0; i < disk->node_count; i++) {
        free(disk->nodes[i]->seen.data);
        free(disk->nodes[i]->lasting.data);
        changes_clear(&disk->nodes[i]->changes);
        free(disk->nodes[i]);
    }
    free(disk->nodes);
    entries_clear(&disk->seen);
    entries_clear(&disk->lasting);
    changes_clear(&disk->changes);
    for (size_t i = 0; i < FD_COUNT; i++) free(disk->files[i].path);
    pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

struct simdisk *simdisk_copy(struct simdisk *disk)
{
    struct simdisk *copy = simdisk_new();
    pthread_mutex_lock(&disk->mutex);
    for (size_t i = 0; i < disk->node_count; i++) {
        size_t added = add_node(copy);
        struct node *node = copy->nodes[added];
        node->seen = content_copy(&disk->nodes[i]->seen);
        node->lasting = content_copy(&disk->nodes[i]->lasting);
        node->changes = changes_copy(&disk->nodes[i]->changes);
        node->changed_at = disk->nodes[i]->changed_at;
    }
    copy->seen = entries_copy(&disk->seen);
    copy->lasting = entries_copy(&disk->lasting);
    copy->changes = changes_copy(&disk->changes);
    copy->capacity = disk->capacity;
    copy->now = disk->now;
    pthread_mutex_unlock(&disk->mutex);
    return copy;
}

const struct io *simdisk_io(struct simdisk *disk)
{
    return &disk->io;
}

void simdisk_put(struct simdisk *disk, const char *path, const void *data, size_t size)
{
    pthread_mutex_lock(&disk->mutex);
    size_t i = add_node(disk);
    struct node *node = disk->nodes[i];
    content_write(&node->seen, 0, data, size);
    content_write(&node->lasting, 0, data, size);
    touch(disk, node);
    entries_set(&disk->seen, path, i);
    entries_set(&disk->lasting, path, i);
    pthread_mutex_unlock(&disk->mutex);
}

const char *simdisk_get(struct simdisk *disk, const char *path, size_t *ret_size)
{
    pthread_mutex_lock(&disk->mutex);
    struct entry *entry = entries_find(&disk->seen, path);
    const struct content *content = entry == NULL ? NULL : &disk->nodes[entry->node]->seen;
    pthread_mutex_unlock(&disk->mutex);
    *ret_size = content == NULL ? 0 : content->size;
    if (content == NULL) return NULL;
    return content->data == NULL ? "" : content->data;
}

size_t simdisk_file_count(struct simdisk *disk)
{
    return disk->seen.count;
}

const char *simdisk_file_path(struct simdisk *disk, size_t i)
{
    return i < disk->seen.count ? disk->seen.items[i].path : NULL;
}

void simdisk_set_time(struct simdisk *disk, time_t now)
{
    disk->now = now;
}

void simdisk_set_capacity(struct simdisk *disk, uint64_t bytes)
{
    disk->capacity = bytes;
}

void simdisk_fail(struct simdisk *disk, enum simdisk_call call, uint64_t nth,
                  enum simdisk_mode mode, int errnum)
{
    pthread_mutex_lock(&disk->mutex);
    memset(disk->calls, 0, sizeof disk->calls);
    disk->fault_call = call;
    disk->fault_nth = nth;
    disk->fault_mode = mode;
    disk->fault_errno = errnum;
    disk->has_failed = false;
    pthread_mutex_unlock(&disk->mutex);
}

bool simdisk_has_failed(struct simdisk *disk)
{
    return disk->has_failed;
}

uint64_t simdisk_calls(struct simdisk *disk, enum simdisk_call call)
{
    return disk->calls[call];
}
