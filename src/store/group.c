/* SPDX-License-Identifier: Apache-2.0 */
/* group.c - one transaction for all who wait: records to their files, a sync, rows, a commit.
 *
 * In order: lines are appended to windows and synced; the transaction notes how far they count; each
 * other change has a savepoint, so that one that fails takes nothing else along. Only after the commit
 * is anybody told.
 *
 * What can go wrong with the transaction as a whole:
 *   - The disk is full. Accepts fail and their lines are cut off again. The others are tried one by
 *     one, as each may fit; those that note what has happened (is_vital) get the reserve's room.
 *   - A sync failed, or the commit's write did: nobody knows what is on the disk. Everybody gets the
 *     error, now and later, and no file is touched any more: the next start finds out. */
#include "store/parts.h"

#define CHECKPOINT_FRAMES 1000 /* about 4 MB of log */

static const char begin[] = "BEGIN IMMEDIATE";
static const char commit[] = "COMMIT";
static const char rollback[] = "ROLLBACK";
static const char savepoint[] = "SAVEPOINT change";
static const char release[] = "RELEASE change";
static const char rollback_to[] = "ROLLBACK TO change";

tidemill_error *error_again(const tidemill_error *error)
{
    if (error == NULL) return NULL;
    return error_new(error_code_of(error), "%s", error_message(error));
}

/* --- final errors --------------------------------------------------------------------------------- */

void store_stop_for_ever(struct store *store, const tidemill_error *cause)
{
    if (store->final != NULL) return;
    store->final = error_new(ERROR_IO,
                             "%s: a write could not be completed (%s): nothing is changed any "
                             "more; check the disk, then start the server again",
                             store->path, error_message(cause));
    log_event(LOG_ERROR, "%s", error_message(store->final));
    health_note(store, store->final);
}

static tidemill_error *apply_stop(struct store *store, void *context)
{
    store_stop_for_ever(store, context);
    return error_again(store->final);
}

tidemill_error *store_sync_failed(struct store *store, tidemill_error *error)
{
    struct write write = {.apply = apply_stop, .context = error};
    if (error_code_of(error) == ERROR_IO) error_free(store_write(store, &write));
    return error;
}

/* --- one change ------------------------------------------------------------------------------------ */

static bool is_in_transaction(const struct store *store)
{
    return sqlite3_get_autocommit(store->db.handle) == 0;
}

/* An error of the transaction, not of the change: SQLite has rolled everything back. */
static tidemill_error *apply_one(struct store *store, struct write *write)
{
    TRY(db_run(&store->db, savepoint));
    error_free(write->error);
    write->error = write->apply(store, write->context);
    if (!is_in_transaction(store)) return error_again(write->error);
    if (store->db.is_full && write->error != NULL) return error_again(write->error);
    if (write->error != NULL) TRY(db_run(&store->db, rollback_to));
    return db_run(&store->db, release);
}

static tidemill_error *apply_accepts(struct store *store, struct store_accept *accepts)
{
    if (accepts == NULL) return NULL;
    return accepts_apply(store, accepts);
}

/* --- the transaction -------------------------------------------------------------------------------- */

static tidemill_error *apply_all(struct store *store, struct group *group)
{
    TRY(apply_accepts(store, group->accepts));
    for (struct write *write = group->writes; write != NULL; write = write->next)
        TRY(apply_one(store, write));
    return NULL;
}

static void undo(struct store *store)
{
    if (is_in_transaction(store)) error_free(db_run(&store->db, rollback));
}

static tidemill_error *transact(struct store *store, struct group *group)
{
    store->db.is_full = false;
    tidemill_error *error = db_run(&store->db, begin);
    bool is_begun = error == NULL;
    if (error == NULL) error = apply_all(store, group);
    bool is_committing = error == NULL;
    if (error == NULL) error = db_run(&store->db, commit);
    if (error == NULL) return NULL;
    bool is_uncertain = is_committing && !store->db.is_full && error_code_of(error) == ERROR_IO;
    if (store->db.has_sync_error || is_uncertain) store_stop_for_ever(store, error);
    if (is_begun) undo(store);
    return error;
}

/* Copies the log into the database once it is long. As long as readers need old pages, later. */
static void checkpoint(struct store *store)
{
    int frames = 0, copied = 0;
    if (store->log_frames < CHECKPOINT_FRAMES) return;
    store->log_frames = 0;
    if (sqlite3_wal_checkpoint_v2(store->db.handle, NULL, SQLITE_CHECKPOINT_PASSIVE, &frames,
                                  &copied) == SQLITE_OK)
        return;
    tidemill_error *error = db_error(&store->db, "copy the log into");
    if (store->db.has_sync_error)
        store_stop_for_ever(store, error);
    else if (error_code_of(error) != ERROR_LOCKED)
        log_event(LOG_WARNING, "%s", error_message(error));
    error_free(error);
}

/* --- who waited -------------------------------------------------------------------------------------- */

static void note_full(struct store *store, const tidemill_error *error)
{
    if (error_code_of(error) != ERROR_NO_SPACE) return;
    if (!store->met_full) health_note(store, error);
    store->met_full = true;
}

static void finish_accepts(struct store *store, struct store_accept *accepts,
                           const tidemill_error *error)
{
    for (struct store_accept *accept = accepts, *next; accept != NULL; accept = next) {
        next = accept->own.next;
        tidemill_error *own = accept->own.error;
        accept->own.error = NULL;
        if (own == NULL && !accept->is_repeat && !accept->is_conflict) own = error_again(error);
        note_full(store, own);
        accept->done(accept, own);
    }
}

static void finish_write(struct store *store, struct write *write, const tidemill_error *error)
{
    if (write->error == NULL) write->error = error_again(error);
    note_full(store, write->error);
    if (write->error == NULL && write->after != NULL) write->after(store, write->context);
    sem_post(&write->is_done);
}

static void finish_writes(struct store *store, struct write *writes, const tidemill_error *error)
{
    for (struct write *write = writes, *next; write != NULL; write = next) {
        next = write->next;
        finish_write(store, write, error);
    }
}

/* --- a full disk --------------------------------------------------------------------------------------- */

static tidemill_error *transact_alone(struct store *store, struct write *write)
{
    struct group group = {.writes = write};
    error_free(write->error);
    write->error = NULL;
    tidemill_error *error = transact(store, &group);
    if (error != NULL && write->is_vital && store->db.is_full && reserve_give_up(store)) {
        error_free(error);
        error_free(write->error);
        write->error = NULL;
        error = transact(store, &group);
    }
    return error;
}

static void write_one_by_one(struct store *store, struct write *writes)
{
    for (struct write *write = writes, *next; write != NULL; write = next) {
        next = write->next;
        write->next = NULL;
        tidemill_error *error =
            store->final != NULL ? error_again(store->final) : transact_alone(store, write);
        finish_write(store, write, error);
        error_free(error);
    }
}

/* --- all of it ------------------------------------------------------------------------------------------ */

static void refuse(struct store *store, struct group *group)
{
    finish_accepts(store, store->later, store->final);
    store->later = NULL;
    finish_accepts(store, group->accepts, store->final);
    finish_writes(store, group->writes, store->final);
}

/* Room again? The reserve is made once a change went well, and not tried all the time. */
static void renew_reserve(struct store *store)
{
    if (store->lock == NULL || store->has_reserve || clock_now_ns() < store->reserve_retry_ns)
        return;
    tidemill_error *error = reserve_make(store);
    if (error != NULL) store->reserve_retry_ns = clock_now_ns() + 1000000000;
    if (error_code_of(error) == ERROR_IO) store_stop_for_ever(store, error);
    error_free(error);
}

void group_write(struct store *store, struct group *group)
{
    if (store->final != NULL) {
        refuse(store, group);
        return;
    }
    store->met_full = false;
    accepts_stage(store, &group->accepts);
    windows_flush(store);
    accepts_check(group->accepts);
    tidemill_error *error =
        store->final != NULL ? error_again(store->final) : transact(store, group);
    windows_settle(store, error == NULL);
    if (error == NULL && store->final == NULL) health_note(store, NULL);
    finish_accepts(store, group->accepts, error);
    if (error == NULL || store->final != NULL)
        finish_writes(store, group->writes, error);
    else
        write_one_by_one(store, group->writes);
    if (error == NULL) {
        checkpoint(store);
        renew_reserve(store);
    }
    error_free(error);
}
