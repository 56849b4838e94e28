/* SPDX-License-Identifier: Apache-2.0 */
/* simdisk.h - a disk in memory that tears, loses, fills and fails: `struct io` for tests.
 *
 * It keeps two states, what programs see and what would be there after a power loss. Writes and
 * cuts become lasting by fsync or fdatasync of the file; creating, renaming and unlinking by fsync
 * of the directory. simdisk_crash keeps a legal part of what was not synced, chosen by a seed:
 *   - of a file: any subset of the writes, each torn at 512-byte sectors, in order; the gaps are
 *     zeros;
 *   - of a directory: any subset of its changes, in order, those left out whose source is gone.
 * Directories are not made: every path with slashes exists as far as its file does.
 *
 * Safe to use from several threads. Descriptors begin at 1,000,000, so that one that strays into a
 * real system call does no harm. */
#ifndef TIDEMILL_TESTS_SIMDISK_H
#define TIDEMILL_TESTS_SIMDISK_H

#include "io/io.h"

struct simdisk;

struct simdisk *simdisk_new(void); /* aborts when out of memory */
void simdisk_free(struct simdisk *disk);
const struct io *simdisk_io(struct simdisk *disk); /* lives as long as the disk */

/* --- content ---------------------------------------------------------------------------------- */

/* Puts a file on the disk, lasting, whatever the limits and faults. */
void simdisk_put(struct simdisk *disk, const char *path, const void *data, size_t size);
/* What programs see; NULL: no such file. Valid until the next call. */
const char *simdisk_get(struct simdisk *disk, const char *path, size_t *ret_size);
size_t simdisk_file_count(struct simdisk *disk);
/* The i-th file's path, in no particular order. Valid until the next change. */
const char *simdisk_file_path(struct simdisk *disk, size_t i);
/* Wall-clock time of every later change of content; at first 0, which means the real time. */
void simdisk_set_time(struct simdisk *disk, time_t now);

/* --- trouble ---------------------------------------------------------------------------------- */

/* Bytes of all files together; a write beyond is cut short and then ENOSPC. 0: no limit. */
void simdisk_set_capacity(struct simdisk *disk, uint64_t bytes);

enum simdisk_call {
    SIMDISK_OPEN,
    SIMDISK_CLOSE,
    SIMDISK_READ,  /* and pread */
    SIMDISK_WRITE, /* and pwrite */
    SIMDISK_TRUNCATE,
    SIMDISK_SYNC, /* fsync and fdatasync */
    SIMDISK_STAT, /* and fstat */
    SIMDISK_RENAME,
    SIMDISK_UNLINK,
    SIMDISK_ANY, /* of any kind */
    SIMDISK_CALL_COUNT,
};

enum simdisk_mode {
    SIMDISK_ONCE,    /* the nth call fails */
    SIMDISK_FOREVER, /* and all after it, of that kind */
    SIMDISK_SHORT,   /* the nth read or write does half; with an errno, the one after it fails */
};

/* The nth (from 1) call of that kind from now on fails with `errnum`; one such order at a time,
 * `nth` 0 takes it back. A failed sync drops what it should have written: the next one succeeds and
 * nothing of that is on disk, as on Linux. */
void simdisk_fail(struct simdisk *disk, enum simdisk_call call, uint64_t nth,
                  enum simdisk_mode mode, int errnum);
bool simdisk_has_failed(struct simdisk *disk); /* the order above has struck */
/* Calls of that kind since the last simdisk_fail. */
uint64_t simdisk_calls(struct simdisk *disk, enum simdisk_call call);

/* The power goes: what is left is what was lasting and a part of the rest. All descriptors are
 * gone; faults and counters are reset. Seed 0: nothing that was not synced; seed 1: everything. */
void simdisk_crash(struct simdisk *disk, uint64_t seed);
/* The same disk twice, to try several crashes from one state. Descriptors are not copied. */
struct simdisk *simdisk_copy(struct simdisk *disk);

#endif
