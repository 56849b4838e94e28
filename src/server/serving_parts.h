/* SPDX-License-Identifier: Apache-2.0 */
/* serving_parts.h - what the files of serving share; nobody else's.
 *
 *     serving.c         start, stop, and what other threads may ask
 *     serving_model.c   a model's thread: its runtime's life, its loop
 *     serving_gather.c  which calls go together, and when. Pure
 *     serving_stack.c   calls' rows into the tensors of a microbatch
 *     serving_cut.c     a microbatch's answer into calls' rows
 *
 * A call becomes a ticket when it is asked. A ticket's rows go out in one piece, or in several where
 * they are more than a microbatch may have; pieces make microbatches (`struct stack`). */
#ifndef TIDEMILL_SERVER_SERVING_PARTS_H
#define TIDEMILL_SERVER_SERVING_PARTS_H

#include "server/serving.h"

/* The answer to a piece: values in one block, as a call gets them. */
struct answer_part {
    struct answer_part *next; /* by first row */
    uint32_t first, n_rows;
    struct value *values;
    size_t n_values;
};

struct ticket {
    struct serving_call *call;
    struct ticket *next;
    int64_t came_ns;
    uint8_t order[MODEL_VALUES_MAX]; /* signature's input -> the call's, plus one; 0: it has none */
    uint64_t row_key;                /* rows of one key can be stacked */
    uint32_t n_rows, n_taken, n_done;
    struct answer_part *parts;
    tidemill_error *error; /* the first of its pieces */
};

struct piece {
    struct ticket *ticket;
    uint32_t first, n_rows;
};

/* Shared memory for one microbatch. */
struct serving_slot {
    size_t input_offset, output_offset;
    struct serving_slot *next;
};

/* A microbatch. */
struct stack {
    struct stack *next;
    struct serving_slot *slot; /* NULL: not submitted */
    uint32_t n_rows;
    size_t n_pieces;
    size_t input_bytes; /* that it took of the slot */
    struct piece pieces[];
};

/* --- serving_gather.c: pure -------------------------------------------------------------------------- */

struct gather {
    bool is_stacking;    /* calls may run together */
    uint32_t rows_max;   /* of a microbatch; UINT32_MAX: any */
    int64_t delay_ns;    /* that a call waits for others */
    uint32_t hosts;      /* microbatches that run at a time */
    uint32_t peak_calls; /* that were there at once lately, under way or waiting */
};
/* When what waits should go: INT64_MIN is now, INT64_MAX when a host is idle. `n_calls`, `n_rows` wait, the
 * first of them since `came_ns`; `n_batches` with `n_running` calls are under way. */
int64_t gather_due_ns(const struct gather *gather, uint32_t n_calls, uint64_t n_rows,
                      int64_t came_ns, uint32_t n_batches, uint32_t n_running);
/* A microbatch goes while so many calls are there. */
void gather_note(struct gather *gather, uint32_t n_calls);
/* Makes a microbatch of the first ticket's rows and of those behind it that fit; takes tickets whose rows
 * are all taken off the list. NULL: no memory. */
struct stack *gather_take(const struct gather *gather, struct ticket **waiting);
/* Halves a microbatch of several pieces: *left, *right. False: no memory, nothing changed. */
bool gather_halve(const struct stack *stack, struct stack **left, struct stack **right);

/* --- serving_stack.c ---------------------------------------------------------------------------------- */

/* Finds each input of the signature in the call and checks type, shape and bytes; fills order, n_rows and
 * row_key. What was wrong is the call's error: WRONG_TYPE, WRONG_SHAPE, MISSING_FIELD. */
tidemill_error *ticket_check(struct ticket *ticket, const struct model_signature *signature);
/* Copies the pieces' rows to `base` + `offset`, each input 64-byte aligned; fills the signature's inputs.
 * With batch_fixed the last row is repeated. OUT_OF_RANGE: they do not fit `capacity`. */
tidemill_error *stack_fill(struct stack *stack, const struct model_signature *signature,
                           unsigned char *base, size_t offset, size_t capacity,
                           struct work_input *ret);

/* --- serving_cut.c ------------------------------------------------------------------------------------ */

/* Whether the values have `n_rows` rows in each output. MODEL_ERROR, UNSUPPORTED. */
tidemill_error *cut_check(const struct value *values, size_t n_values,
                          const struct model_signature *signature, uint32_t n_rows);
/* Rows [first, first + n) of each output as one block. The model has no batches: all of it. */
tidemill_error *cut_rows(const struct value *values, const struct model_signature *signature,
                         uint32_t first, uint32_t n, struct value **ret);
/* Adds the answer to a piece. */
tidemill_error *ticket_add_part(struct ticket *ticket, uint32_t first, uint32_t n,
                                struct value *values, size_t n_values);
/* All pieces are done: fills the call's values or error, from the parts. The ticket is freed; the call is
 * ready for `done`. */
void ticket_finish(struct ticket *ticket);
/* Where row `first` of packed strings begins, `row_count` strings a row; false: beyond the end. */
bool packed_offset(const unsigned char *data, size_t bytes, size_t n_strings, size_t *ret);

/* --- serving_model.c ---------------------------------------------------------------------------------- */

struct known { /* a signature that was handed out */
    struct model_signature signature;
    char *description;
    struct known *next; /* older ones */
};

struct served {
    struct served *next; /* in serving's list, newest first; it stays there until the stop */
    const struct io *io;
    const struct model_config *config;
    int stop_fd;            /* serving's: readable when it ends */
    int event_fd, timer_fd; /* somebody asked; a microbatch is due */
    int wake_fd;            /* epoll: either of them */
    pthread_t thread;
    bool has_thread;

    pthread_mutex_t mutex; /* for all below, up to the thread's own */
    struct ticket *asked, **asked_last;
    struct serving_waiter *waiters, **waiters_last;
    struct known *known; /* newest first */
    uint64_t n_waiting;  /* calls that are not under way yet, and waiters */
    bool is_stopping, is_loaded, is_backing_off;
    bool is_retired;  /* a reload replaced it: it ends once all are answered */
    int64_t retry_ns; /* while backing off */
    struct serving_stats stats;

    /* the thread's own */
    struct runtime *runtime; /* NULL: not loaded */
    const struct known *signature;
    struct shared_region region;
    struct serving_slot *slots, *free_slots;
    size_t n_slots, input_bytes, output_bytes;
    struct gather gather;
    struct ticket *waiting, **waiting_last; /* checked, in order */
    uint32_t n_calls;                       /* waiting */
    uint64_t n_rows;                        /* waiting */
    struct stack *again;                    /* halves, before all others */
    struct stack *running;
    uint32_t n_batches, n_running;
    uint32_t n_failures; /* loads in a row */
    uint64_t random_state;
    tidemill_error *failure;
    int64_t used_ns; /* when it was last */
};

void *served_run(void *served);

#endif
