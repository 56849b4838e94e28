/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the small file that says whether the data file can be believed, and who uses it. Inside
 * this room. */
#ifndef TIDEMILL_CACHE_STATE_H
#define TIDEMILL_CACHE_STATE_H

#include "io/io.h"

#define STATE_BYTES 256

struct state {
    const struct io *io;
    const char *path; /* borrowed */
    int fd;           /* -1: closed */
    char seal[STATE_BYTES];
};

/* Refuses network file systems. Opens the state file and takes a place among the users;
 * *ret_is_alone: there are no others, and nobody else comes before state_share(). */
tidemill_error *state_open(const struct io *io, const char *folder, const char *path,
                           struct state *ret, bool *ret_is_alone);
void state_close(struct state *state);
void state_share(struct state *state);
/* Whether this process is the only user, and nobody else comes before state_share(). */
bool state_try_alone(struct state *state);
/* The same for who has closed the data file; else it is no user any more. */
bool state_leave(struct state *state);

/* What the file says of the data file; while alone. *ret_reason: why it must be dropped, a static
 * text, or NULL. *ret_is_sealed: it is as its last user left it, and it is on the disk. */
tidemill_error *state_judge(struct state *state, const char *data_path, const char **ret_reason,
                            bool *ret_is_sealed);
/* "In use": comes to the disk before this returns, so before any change of the data file. */
tidemill_error *state_mark_open(struct state *state);
/* "Not to be believed": the next user who is alone drops the data file. */
tidemill_error *state_mark_broken(struct state *state);
/* "Complete": syncs the data file and writes what it is, unless it was found broken. While alone, and
 * nobody has it open. `is_unchanged`: it is as state_judge() found it sealed. */
tidemill_error *state_seal(struct state *state, const char *data_path, bool is_unchanged);

/* The right to write, which one process has; the caller lets its own threads through one by one.
 * False: another process has held it for `wait_ms`. A killed process holds nothing. */
bool state_lock_writer(struct state *state, int wait_ms);
void state_unlock_writer(struct state *state);

#endif
