/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h - what the files of this room share: the open store, the writer's queue, the readers. */
#ifndef TIDEMILL_STORE_PARTS_H
#define TIDEMILL_STORE_PARTS_H

#include "store/db.h"
#include "store/store.h"

#include <pthread.h>
#include <semaphore.h>

#define READERS 4
#define WRITES_MAX 65536     /* that wait; beyond it callers wait, accepts are refused */
#define GROUP_ITEMS_MAX 4096 /* of each kind, of one transaction */
#define GROUP_BYTES_MAX ((size_t)32 << 20) /* of records; one accept may be larger */
#define WINDOW_BUCKETS 1024
#define RESERVE_BYTES ((size_t)1 << 20)
#define KEEP_KEYS_MS ((int64_t)24 * 3600 * 1000) /* idempotency keys and replies */

/* --- writer.c, group.c: one thread changes things ------------------------------------------------ */

/* A change that waits for its turn. On the writer's thread: */
struct write {
    struct write *next;
    /* Inside the transaction, under a savepoint of its own: an error undoes it and nothing else. May
     * be called again, after everything was rolled back: it begins anew then. */
    tidemill_error *(*apply)(struct store *store, void *context);
    /* After the commit, before its owner goes on; NULL: nothing. */
    void (*after)(struct store *store, void *context);
    void *context;
    bool is_vital; /* may use the reserve: what must be noted even if the disk is full */
    tidemill_error *error;
    sem_t is_done; /* last: then the write is its owner's again */
};
/* Waits until it is on the disk, or has failed. */
tidemill_error *store_write(struct store *store, struct write *write);

/* What one transaction takes. */
struct group {
    struct store_accept *accepts;
    struct write *writes;
};
/* Puts it on the disk and tells everybody. Accepts that have to wait for the next group are left in
 * store->later. */
void group_write(struct store *store, struct group *group);

tidemill_error *writer_start(struct store *store);
void writer_stop(struct store *store); /* after what waits */

/* Nothing is changed any more, by anybody. */
void store_stop_for_ever(struct store *store, const tidemill_error *cause);
/* From another thread: a sync that failed there. Gives the error back. */
tidemill_error *store_sync_failed(struct store *store, tidemill_error *error);
/* The same text and code once more: one failure of many callers. */
tidemill_error *error_again(const tidemill_error *error);

/* --- health.c ----------------------------------------------------------------------------------- */

/* The writer tells what it met; NULL: all is well. */
void health_note(struct store *store, const tidemill_error *error);

/* --- readers.c ----------------------------------------------------------------------------------- */

/* A connection that nobody else has; waits for one. */
tidemill_error *reader_take(struct store *store, struct db **ret);
void reader_leave(struct store *store, struct db *db);

/* --- windows.c: files of windows that are open ---------------------------------------------------- */

struct window_state {
    uint64_t records, bytes;
    struct hash_state *hash; /* of all bytes */
};
struct window {
    struct window *next; /* in its bucket */
    struct window *next_dirty;
    char id[STORE_ID_BYTES];
    char queue[STORE_NAME_BYTES], tenant[STORE_NAME_BYTES], model[STORE_NAME_BYTES];
    int priority;
    int64_t created_at, ready_at;
    struct window_state committed, staged;
    struct buffer pending; /* lines of this group */
    bool is_new;           /* no row yet */
    bool is_dirty;         /* in this group */
    bool has_tail;         /* its file could not be cut back */
    tidemill_error *error; /* of this group */
};
struct windows {
    struct window *buckets[WINDOW_BUCKETS];
    struct window *dirty;
};
/* The open window of a queue, tenant and model; a new one where there is none. */
tidemill_error *window_find(struct store *store, const struct store_accept *accept,
                            struct window **ret);
tidemill_error *window_stage(struct store *store, struct window *window, const void *lines,
                             size_t bytes, uint64_t n);
/* Writes and syncs what is pending, of all dirty ones; each keeps its error. */
void windows_flush(struct store *store);
/* In the transaction: the rows of the dirty ones. */
tidemill_error *windows_apply(struct store *store);
/* After it: what was staged counts, or is cut off again. */
void windows_settle(struct store *store, bool is_committed);
/* Before it closes: nothing is behind what was committed. */
tidemill_error *window_tidy(struct store *store, const char *id);
/* It is no longer open, or its row was changed by others than this file. */
void window_forget(struct store *store, const char *id);
void windows_free(struct store *store);

/* --- window_check.c ------------------------------------------------------------------------------- */

struct window_row {
    char id[STORE_ID_BYTES];
    uint64_t records, bytes;
    struct digest digest;
};
/* Cuts the file back to what was committed and compares its checksum. `hash` holds it then. */
tidemill_error *window_verify(struct store *store, const struct window_row *row,
                              struct hash_state *hash);
/* At open: the windows of all jobs that have not ended. One whose file is not what was accepted:
 * its job FAILED, and says so. */
tidemill_error *windows_check(struct store *store);
tidemill_error *window_cut(struct store *store, const char *id, uint64_t bytes);

/* --- accept.c ------------------------------------------------------------------------------------- */

/* Finds windows and repeats, stages lines. An accept whose key is perhaps that of an earlier one in
 * the group goes to store->later. Each keeps its error. */
void accepts_stage(struct store *store, struct store_accept **accepts);
/* After the flush: those of a window that failed, failed. */
void accepts_check(struct store_accept *accepts);
/* In the transaction: windows and keys. */
tidemill_error *accepts_apply(struct store *store, struct store_accept *accepts);
/* Keys older than a day. */
tidemill_error *accept_keys_forget(struct store *store, int64_t before);

/* --- jobs.c ----------------------------------------------------------------------------------------- */

tidemill_error *job_insert(struct store *store, const struct store_job *job);
tidemill_error *job_select(struct db *db, const char *tenant, const char *id, struct store_job *ret,
                           bool *ret_found);
/* What job_save does, in a transaction. */
tidemill_error *job_save_row(struct store *store, const struct store_job *job, unsigned from,
                             bool *ret_done);
/* JOB_ROW's columns in the present row of a query. */
void job_read(struct query *query, struct store_job *job);

#define JOB_COLUMNS                                                                                \
    "id, kind, tenant, queue, model, state, priority, created_at, ready_at, deadline_at, times, "  \
    "total, completed, failed, cancelled, expired, bytes, tokens_in, tokens_cached, tokens_out, "  \
    "cost_usd, budget_usd, input_file, output_file, error_file, details, ended_at, sum"
/* With the window's own row, where there is one. */
#define JOB_ROW                                                                                    \
    "SELECT jobs.id, kind, tenant, queue, model, state, priority, created_at, ready_at, "          \
    "deadline_at, times, total, completed, failed, cancelled, expired, jobs.bytes, tokens_in, "    \
    "tokens_cached, tokens_out, cost_usd, budget_usd, input_file, output_file, error_file, "       \
    "details, ended_at, jobs.sum, windows.id, windows.records, windows.bytes, "                    \
    "windows.digest_low, "                                                                         \
    "windows.digest_high, windows.sum FROM jobs LEFT JOIN windows ON windows.id = jobs.id "

/* --- spending.c: what was spent, by tenant and hour --------------------------------------------------- */

tidemill_error *spending_add(struct store *store, const char *tenant, int64_t time, double usd);

/* --- files.c, uploads.c, replies.c ---------------------------------------------------------------------- */

tidemill_error *file_insert(struct store *store, const struct store_file *file);
tidemill_error *file_delete_row(struct store *store, const char *id);
/* After its row is gone. What does not go now is collected at the next start. */
void file_remove_content(struct store *store, const char *id); /* "": nothing */
tidemill_error *replies_forget(struct store *store, int64_t before);

/* --- schema.c, places.c, collect.c, reserve.c ------------------------------------------------------------ */

/* Makes the tables or brings them up to date, in one transaction. UNSUPPORTED: a newer version. */
tidemill_error *schema_prepare(struct db *db);
/* Makes the tables where there are none. UNSUPPORTED: it is of another version. */
tidemill_error *schema_make(struct db *db);

/* "DATA/folder/name", malloc'ed. */
tidemill_error *place_path(const struct store *store, const char *folder, const char *name,
                           char **ret);
bool is_id(const char *id);     /* may be a file's name: letters, digits, '-', '_' */
bool is_name(const char *name); /* of a tenant, queue, model */
/* The folders. UNSUPPORTED: on a network file system. */
tidemill_error *places_prepare(const struct io *io, const char *path);
/* A folder and what is in it. What does not go now is collected at the next start. */
void place_remove_tree(struct store *store, const char *path);

/* Files and folders that no row knows. */
tidemill_error *collect_orphans(struct store *store);

void quota_is_full_disk(void); /* quota.c */

/* rows_check.c. CORRUPT: some row fails its checksum. */
tidemill_error *rows_check(struct db *db);

/* wal_check.c. CORRUPT: SQLite's log lost what was acknowledged. */
#define STORE_PAGE_BYTES 4096
tidemill_error *wal_check(const struct io *io, const char *path);

tidemill_error *reserve_make(struct store *store); /* does nothing if it is there */
bool reserve_give_up(struct store *store);         /* false: there is none */

/* --- the store ----------------------------------------------------------------------------------------- */

struct store {
    const struct io *io;
    char *path;
    struct file_lock *lock; /* NULL: beside a server */
    struct db db;           /* the writer's thread's, once that runs */

    pthread_mutex_t mutex; /* over the writer's queue */
    pthread_cond_t has_work, has_room;
    struct store_accept *accepts, **last_accept;
    struct write *writes, **last_write;
    size_t n_waiting; /* of both */
    bool is_closing;
    pthread_t writer;
    bool is_started;

    /* The writer's own. */
    struct store_accept *later; /* they go before the queue */
    struct windows windows;
    tidemill_error *final; /* nothing is changed any more */
    int log_frames;        /* of SQLite's log, after the last commit */
    bool has_reserve;
    bool met_full; /* in this group */
    int64_t reserve_retry_ns;

    pthread_mutex_t health_mutex;
    tidemill_error *trouble; /* NULL: none */
    int64_t trouble_ns;      /* when it was met last */

    pthread_mutex_t readers_mutex;
    pthread_cond_t has_reader;
    struct db readers[READERS];
    bool is_reading[READERS];
};

#endif
