/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - the way into the room of results that outlive a job: bytes by key in a folder, shared
 * between threads and processes of one machine.
 *
 * It is only ever a cache. What it gives is what was put under that key, or nothing: values carry
 * checksums, and a file that cannot be trusted is dropped. It may forget anything at any time. No
 * error of it has to stop a job: say it once and go on without.
 *
 * A child of fork() must not use its parent's caches; it may start another program at any time. */
#ifndef TIDEMILL_CACHE_CACHE_H
#define TIDEMILL_CACHE_CACHE_H

#include "base/base.h"
#include "io/io.h"

#define CACHE_BYTES_DEFAULT ((uint64_t)1 << 30)
#define CACHE_BYTES_MIN ((uint64_t)1 << 20)
#define CACHE_GENERATIONS 4 /* a fourth of the values goes at a time */

/* The file by which a cache is known. */
#define CACHE_STATE_NAME "cache.state"

struct cache;

struct cache_options {
    const char *path;   /* a folder; made if it is not there, what it stands in must be */
    uint64_t bytes_max; /* the data file stays below; at least CACHE_BYTES_MIN. 0: as the last put
                           found it, else CACHE_BYTES_DEFAULT */
};

/* Opens or makes the cache in a folder. `io` is copied; its context must live as long as the cache. A
 * folder that this process has open already gives the same cache again, with the limit of the first
 * open: every open wants its close. A file that is broken, or was being written when the machine went down, is
 * dropped with a warning in the log. Errors:
 *   UNSUPPORTED  a network file system: the file is mapped into memory and shared by locks
 *   EXISTS       not our file, or of another version of this format
 *   LOCKED       another process is opening or closing it, for longer than ten seconds
 *   CORRUPT      broken, and other processes have it open, so that it cannot be dropped now
 *   IO, NO_SPACE, MEMORY */
tidemill_error *cache_open(const struct io *io, const struct cache_options *options,
                           struct cache **ret);
/* The last close of the last process syncs the file and seals it: only a sealed file outlives the
 * machine. NULL is fine. */
void cache_close(struct cache *cache);

/* Appends the value's bytes to `out`. False: a miss, and `out` holds what it held. Any thread; waits
 * for nobody, and never for a put. */
bool cache_get(struct cache *cache, struct digest key, struct buffer *out);

struct cache_entry {
    struct digest key;
    const void *value;
    size_t size;
};

/* Puts values, the last one where keys are equal: in one transaction, in several where they are
 * many (beyond 4,096 or 8 MiB). Makes room first where it is full. What was asked for lately and is
 * about to go is kept, also by a put of nothing (n 0). A value that is larger than a sixteenth of the
 * cache is left out, and so are values for which there is no room or while another process has held
 * the right to write for two seconds: that is counted (`rejected`), no error. Any thread. After an
 * error the cache can be used on. IO, NO_SPACE, CORRUPT, MEMORY */
tidemill_error *cache_put(struct cache *cache, const struct cache_entry *entries, size_t n);

struct cache_generation {
    uint64_t entries, bytes;
};

struct cache_stats {
    uint64_t entries;    /* a value that was kept for being used may count twice for a while */
    uint64_t bytes_used; /* of pages with values */
    uint64_t bytes_max;
    uint64_t file_bytes; /* of the data file, with its free pages */
    struct cache_generation generations[CACHE_GENERATIONS]; /* the youngest first */
    /* Of this process since it opened the cache: */
    uint64_t hits, misses;
    uint64_t broken;   /* values that failed their checksum; they are misses too */
    uint64_t puts;     /* values stored */
    uint64_t kept;     /* values copied into the youngest generation because they were used */
    uint64_t evicted;  /* values dropped for room, by prune or by clear */
    uint64_t rejected; /* values not stored */
};

void cache_get_stats(struct cache *cache, struct cache_stats *ret);

/* Drops the oldest values until the used bytes are at most `bytes`. Gives the space back to the
 * disk if no other process has the cache open; else the file's free pages are used again later. */
tidemill_error *cache_prune(struct cache *cache, uint64_t bytes, uint64_t *ret_dropped);
tidemill_error *cache_clear(struct cache *cache);

#endif
