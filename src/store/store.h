/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - the way into the room of what the server must not forget: files, jobs (batches and the
 * windows of queues), accepted requests, keys, deliveries. SQLite in one folder, with plain files
 * beside it for everything that is large.
 *
 *     DATA/store.db       WAL, synchronous=FULL
 *     DATA/store.lock     one server a folder
 *     DATA/files/ID       uploaded files and results, whole
 *     DATA/windows/ID     the records of a window, a line each
 *     DATA/jobs/ID/       what the engine keeps while a job runs
 *     DATA/reserve        space that is given up when the disk is full, so that this can be noted
 *
 * One thread writes. It takes all changes that wait, appends to windows, syncs them, applies the
 * changes in one transaction, and tells each caller when that is on the disk: so a thousand callers
 * share one sync. Reads go beside it. Every function is thread-safe; those that change something
 * wait for the disk unless they take a callback.
 *
 * A disk that is full fails the change with ERROR_NO_SPACE and nothing is half there; the store goes
 * on by itself once there is room. A sync that fails is final: every change from then on fails with
 * ERROR_IO, and the server has to be started again. */
#ifndef TIDEMILL_STORE_STORE_H
#define TIDEMILL_STORE_STORE_H

#include "base/base.h"
#include "io/io.h"

#define STORE_ID_BYTES 40
#define STORE_NAME_BYTES 65 /* of tenants, queues, models: [A-Za-z0-9._-], at most 64 */

struct store;

/* Makes the folder and the database where there are none, brings an older one up to date in one
 * transaction, cuts windows back to what was committed, removes files that no row knows.
 * LOCKED: another server has it. UNSUPPORTED: a network file system. CORRUPT, IO, NO_SPACE. */
tidemill_error *store_open(const struct io *io, const char *path, struct store **ret);
/* Without the lock, beside a server that may be running: for keys, health and backups alone. Makes the
 * folder and the database likewise; recovers and removes nothing. A database of another version is
 * UNSUPPORTED: a start of the server brings it up to date. */
tidemill_error *store_open_beside(const struct io *io, const char *path, struct store **ret);
void store_close(struct store *store); /* waits for changes under way; NULL is fine */
const char *store_path(const struct store *store);
/* NULL: changes can be written. Else what stands against it: a full disk, a sync that failed. Never waits. */
tidemill_error *store_health(struct store *store);
/* A consistent copy of the database while it is in use (SQLite's backup); `path` must not be there. */
tidemill_error *store_backup(struct store *store, const char *path);

/* "file-" and 24 hexadecimal digits from the system's random source; other prefixes likewise. */
void store_new_id(const char *prefix, char id[STORE_ID_BYTES]);
int64_t store_now(void); /* wall clock, milliseconds since 1970: all times here are such */

/* --- files -------------------------------------------------------------------------------------- */

struct store_file {
    char id[STORE_ID_BYTES];
    char tenant[STORE_NAME_BYTES];
    char purpose[32];
    char *filename; /* as the client calls it; data, never a path. malloc'ed */
    uint64_t bytes, lines;
    struct digest digest;           /* of the content */
    int64_t created_at, expires_at; /* 0: never */
};
void store_file_free(struct store_file *file); /* what it points to */

/* A file under construction: written to its place under a name that is removed at the next start
 * unless it is kept. */
struct store_upload;
tidemill_error *store_upload_new(struct store *store, struct store_upload **ret);
tidemill_error *store_upload_write(struct store_upload *upload, const void *data, size_t size);
/* Syncs it, and adds the row: from here on it lasts. `file` brings tenant, purpose, filename, times
 * (created_at 0: now); bytes, lines and digest are filled in, and the id where it is "": who has to
 * know it before (a job's output_file) makes it with store_new_id. Frees the upload in either case. */
tidemill_error *store_upload_keep(struct store_upload *upload, struct store_file *file);
void store_upload_drop(struct store_upload *upload); /* NULL is fine */

/* *ret_found false: there is none of this tenant (NULL: of any). */
tidemill_error *store_file_get(struct store *store, const char *tenant, const char *id,
                               struct store_file *ret, bool *ret_found);
/* The file's path, malloc'ed. */
tidemill_error *store_file_path(struct store *store, const char *id, char **ret);
/* Also removes what it holds; who has it open reads on. */
tidemill_error *store_file_delete(struct store *store, const char *tenant, const char *id,
                                  bool *ret_found);

struct store_page {
    const char *tenant; /* NULL: any */
    const char *after;  /* an id; NULL: from the start. One that is not there: an empty page */
    const char *prefix; /* of ids; NULL: any */
    size_t limit;
    bool is_ascending; /* by creation; else newest first */
};
struct store_files {
    struct store_file *items;
    size_t n;
    bool has_more;
};
tidemill_error *store_file_list(struct store *store, const struct store_page *page,
                                const char *purpose, struct store_files *ret);
void store_files_free(struct store_files *files);
/* Files whose time is over. Keys of accepts and replies that are older than a day, too. */
tidemill_error *store_file_expire(struct store *store, int64_t now, size_t *ret_n);

/* --- jobs --------------------------------------------------------------------------------------- */

enum store_kind { STORE_BATCH, STORE_WINDOW };

/* OPEN is a window that collects. The terminal ones stand last. */
enum store_state {
    STORE_OPEN,
    STORE_VALIDATING,
    STORE_WAITING, /* for its hours, its turn */
    STORE_RUNNING,
    STORE_FINALIZING,
    STORE_CANCELLING,
    STORE_COMPLETED,
    STORE_FAILED,  /* of a batch: its file is not valid; of either: the model does not load, ... */
    STORE_EXPIRED, /* what was done by then is kept */
    STORE_CANCELLED, /* likewise */
    STORE_STOPPED,   /* at its budget; a retry goes on */
    STORE_STATES
};
#define STORE_TERMINAL (~0u << STORE_COMPLETED)
const char *store_state_name(enum store_state state); /* "open", ... */

struct store_counts { /* total = completed + failed + cancelled + expired + what is still to do */
    uint64_t total, completed, failed, cancelled, expired;
};

struct store_job {
    char id[STORE_ID_BYTES]; /* "batch_...", "msgbatch_...", "win_..." */
    enum store_kind kind;
    char tenant[STORE_NAME_BYTES];
    char queue[STORE_NAME_BYTES]; /* "" where a batch has none */
    char model[STORE_NAME_BYTES]; /* as tidemill.yaml calls it */
    enum store_state state;
    int priority;        /* larger goes first */
    int64_t created_at;  /* a window's: when its first record came */
    int64_t ready_at;    /* may start from then on */
    int64_t deadline_at; /* expires then; 0: never */
    /* When it came into each state; 0: not. */
    int64_t state_at[STORE_STATES];
    struct store_counts counts;
    uint64_t bytes;                                /* of its records */
    uint64_t tokens_in, tokens_cached, tokens_out; /* so far */
    double cost_usd, budget_usd;                   /* 0: none */
    char input_file[STORE_ID_BYTES];               /* of a batch */
    char output_file[STORE_ID_BYTES], error_file[STORE_ID_BYTES];
    char *
        details; /* the dialect's, a JSON object: endpoint, metadata, errors, ...; malloc'ed, NULL: {} */
};
void store_job_free(struct store_job *job); /* what it points to */

tidemill_error *store_job_add(struct store *store, const struct store_job *job);
tidemill_error *store_job_get(struct store *store, const char *tenant, const char *id,
                              struct store_job *ret, bool *ret_found);
/* Writes the whole row if the job's state is one of `from` (bits by state). *ret_done false: it is
 * not (or there is no such job), and nothing was changed: terminal states are final. A new state's
 * time is noted, once; with a retry (out of a terminal state into another kind) those of its old end
 * are forgotten. Stays as it is, whatever `job` says: tenant, kind, queue, model (once it is known),
 * created_at; and as long as a window is OPEN, total and bytes, of which accepting has the truth: if it ends at once
 * (cancelled), what was accepted meanwhile counts as having ended likewise. */
tidemill_error *store_job_save(struct store *store, const struct store_job *job, unsigned from,
                               bool *ret_done);
/* The same, and in the same transaction the rows of the files that it made; each was written as an
 * upload, is synced here and kept only if the job is saved. Frees the uploads in either case. */
tidemill_error *store_job_finish(struct store *store, const struct store_job *job, unsigned from,
                                 struct store_upload **uploads, struct store_file *files, size_t n,
                                 bool *ret_done);
struct store_jobs {
    struct store_job *items;
    size_t n;
    bool has_more;
};
/* `states`: bits; queue NULL: any. */
tidemill_error *store_job_list(struct store *store, const struct store_page *page,
                               enum store_kind kind, const char *queue, unsigned states,
                               struct store_jobs *ret);
/* All of both kinds in these states, oldest first: for the scheduler. */
tidemill_error *store_job_scan(struct store *store, unsigned states, struct store_jobs *ret);
void store_jobs_free(struct store_jobs *jobs);
/* Jobs that ended before `before`, with the files that they made, windows, deliveries and folders:
 * retention. queue NULL: of all; "": batches that have none. The input file goes along if no other job
 * has it and its expires_at is 0. */
tidemill_error *store_job_purge(struct store *store, const char *queue, int64_t before,
                                size_t *ret_n);
/* One that has ended, likewise. *ret_found false: there is none, or it
 * has not ended. */
tidemill_error *store_job_delete(struct store *store, const char *tenant, const char *id,
                                 bool *ret_found);
/* DATA/jobs/ID, made if it is not there; malloc'ed. */
tidemill_error *store_job_folder(struct store *store, const char *id, char **ret);
/* DATA/windows/ID: the records of a window, a line each; malloc'ed. */
tidemill_error *store_window_path(struct store *store, const char *id, char **ret);

/* --- queues: accepting --------------------------------------------------------------------------
 * A window is a job that is OPEN: the first record of a tenant makes one for its queue, with what the
 * template says. Its file is the job's input as it stands: nothing is copied when it closes. */

struct store_accept {
    const char *queue, *tenant, *model;
    int priority;
    int64_t ready_at;  /* the window closes then at the latest; used when this opens one */
    const char *lines; /* records, each one line of JSON with its newline */
    size_t bytes;
    uint64_t n;
    const char *idempotency_key; /* NULL: none */
    struct digest digest;        /* of the request, for the key */
    /* Called on the writer's thread once it is on the disk, or has failed; must not wait. */
    void (*done)(struct store_accept *accept, tidemill_error *error);
    void *context;
    /* Filled in before `done`. Record i has the id WINDOW without "win_", "_" and (first + i), after
     * "req_". */
    char window[STORE_ID_BYTES];
    uint64_t first;
    uint64_t window_records, window_bytes; /* with these */
    int64_t window_opened_at;
    bool is_repeat;   /* the key was used before, with the same digest: its window and first */
    bool is_conflict; /* ... with another: nothing was accepted */
    struct {
        struct store_accept *next;
        struct window *window;
        tidemill_error *error;
    } own; /* the store's */
};
/* Never waits. The accept belongs to the store until `done`. Where too many wait it fails with
 * ERROR_MEMORY. A key is the tenant's and the queue's, and is kept for a day. */
void store_accept(struct store *store, struct store_accept *accept);
/* OPEN -> WAITING. *ret_done false: it is not open (any more). */
tidemill_error *store_window_close(struct store *store, const char *id, int64_t ready_at,
                                   bool *ret_done);

struct store_depth {
    char queue[STORE_NAME_BYTES], tenant[STORE_NAME_BYTES];
    uint64_t records, bytes; /* accepted, in no terminal state */
    int64_t oldest_at;
};
/* Of all queues and tenants; malloc'ed. Batches without a queue stand under "". */
tidemill_error *store_depths(struct store *store, struct store_depth **ret, size_t *ret_n);

/* --- replies under an Idempotency-Key ------------------------------------------------------------ */

/* A reply kept for a day. Put: *ret_found true and nothing changed if there is one already. */
tidemill_error *store_reply_get(struct store *store, const char *tenant, const char *key,
                                struct digest *ret_digest, struct buffer *ret_reply,
                                bool *ret_found);
tidemill_error *store_reply_put(struct store *store, const char *tenant, const char *key,
                                struct digest digest, struct slice reply, bool *ret_found);

/* --- API keys ------------------------------------------------------------------------------------ */

struct store_key {
    char id[STORE_ID_BYTES]; /* "key_..." */
    char name[STORE_NAME_BYTES];
    char tenant[STORE_NAME_BYTES];
    unsigned char hash[32]; /* SHA-256 of the whole key text */
    char hint[12];          /* its first characters, for people */
    char *queues;           /* names with commas; NULL: all */
    bool is_admin;
    int64_t created_at, revoked_at; /* 0: not */
    int64_t requests_minute;        /* 0: no limit */
    double budget_usd;              /* a calendar month, UTC; 0: no limit */
};
struct store_keys {
    struct store_key *items;
    size_t n;
};
tidemill_error *store_key_add(struct store *store, const struct store_key *key);
tidemill_error *store_key_list(struct store *store, struct store_keys *ret); /* revoked ones, too */
void store_keys_free(struct store_keys *keys);
tidemill_error *store_key_revoke(struct store *store, const char *id, bool *ret_found);
/* Grows with each change of the keys, by this process or another (`tidemill key` while the server
 * runs). */
tidemill_error *store_key_version(struct store *store, int64_t *ret);

/* --- deliveries: webhooks and sinks --------------------------------------------------------------- */

struct store_delivery {
    char id[STORE_ID_BYTES]; /* "evt_...": the same however often it is tried */
    char job[STORE_ID_BYTES];
    char *target; /* address or sink, as the configuration or the request has it; malloc'ed */
    char *body;   /* malloc'ed */
    int attempts;
    int64_t next_at;
    int64_t created_at;
};
/* After the change of the job that it tells of; the scheduler adds what a kill left out when it starts. An id
 * that is there
 * already is left alone. */
tidemill_error *store_delivery_add(struct store *store, const struct store_delivery *delivery);
tidemill_error *store_delivery_due(struct store *store, int64_t now, size_t limit,
                                   struct store_delivery **ret, size_t *ret_n);
/* next_at 0: done, or given up. */
tidemill_error *store_delivery_tried(struct store *store, const char *id, int64_t next_at,
                                     const char *outcome);
void store_deliveries_free(struct store_delivery *deliveries, size_t n);

/* --- spending ------------------------------------------------------------------------------------- */

/* What a tenant's jobs cost since `since`, which is taken to the hour: each save of a job counts what
 * cost_usd grew by, in the hour in which it is saved, whether the job is still there or not. */
tidemill_error *store_spent(struct store *store, const char *tenant, int64_t since,
                            double *ret_usd);

#endif
