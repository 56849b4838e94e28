/* SPDX-License-Identifier: Apache-2.0 */
/* exec.h - the inside of the runtime that asks a program: the user's command in a process of its own,
 * below its model host, asked over two pipes. docs/EXEC.md has the protocol. */
#ifndef TIDEMILL_RUNTIME_EXEC_H
#define TIDEMILL_RUNTIME_EXEC_H

#include "runtime/model.h"

#include <pthread.h>
#include <sys/types.h>

#define EXEC_FRAME_BYTES_MAX ((size_t)1 << 30)

/* --- exec_frame.c: what frames hold; no I/O ------------------------------------------------------- */

struct exec_hello {
    char name[64];
    uint32_t batch_max; /* records of a frame, at most; 0: any number */
};

/* ERROR_MODEL_LOAD: not a hello, or one of another version. */
tidemill_error *exec_read_hello(struct slice payload, struct exec_hello *ret);

/* Appends the frame, length in front, that asks for n records: packed strings from *at on, which moves
 * behind them. */
tidemill_error *exec_append_request(struct buffer *out, const unsigned char **at,
                                    const unsigned char *end, uint32_t n);

/* Appends n packed strings: results, or JSON_ERROR_MARK and a sentence. ERROR_MODEL_ERROR: the handler
 * failed the batch as a whole, or its reply is not one to n records. */
tidemill_error *exec_append_results(struct slice payload, uint32_t n, struct buffer *out);

/* --- exec_log.c: what it prints ------------------------------------------------------------------- */

struct exec_log {
    int fd;      /* what to read from */
    int stop_fd; /* an eventfd */
    pthread_t thread;
    bool is_running;
};

/* A thread turns lines from `fd`, which it takes, into lines of the log. *ret stays where it is. */
tidemill_error *exec_log_start(int fd, struct exec_log *ret);
/* What was printed before is logged first. */
void exec_log_stop(struct exec_log *log);

/* --- exec_process.c: the program -------------------------------------------------------------------- */

struct exec_process {
    pid_t pid;     /* 0: none; also the number of its process group */
    pid_t keeper;  /* kills the group when this process ends */
    int keeper_fd; /* closing it is the sign */
    int pidfd;     /* -1: not to be had */
    int in, out;   /* to it, from it, both without blocking; -1: none */
    struct exec_log log;
};

#define EXEC_PROCESS_NONE                                                                          \
    ((struct exec_process){                                                                        \
        .keeper_fd = -1, .pidfd = -1, .in = -1, .out = -1, .log = {.fd = -1, .stop_fd = -1}})

/* ERROR_MODEL_LOAD: it cannot be started. */
tidemill_error *exec_start(char *const *arguments, struct exec_process *ret);
bool exec_has_ended(const struct exec_process *process);
/* Kills it and what it started, waits, frees everything; `text` (may be NULL) says how it ended if it did
 * by itself within patience_ms, else is "". */
void exec_stop(struct exec_process *process, int patience_ms, char *text, size_t size);
void exec_kill(const struct exec_process *process); /* from another thread */
/* Processor time so far and resident memory of the program itself. */
void exec_usage(const struct exec_process *process, double *ret_cpu_s, uint64_t *ret_memory);

/* --- exec_exchange.c: a frame there and one back ------------------------------------------------------ */

/* Sends `request`, which has its length in front (NULL: nothing), and reads the payload of a frame.
 * ERROR_HOST_CRASHED: it ended or closed its end, answered too early, or its frame is beyond
 * EXEC_FRAME_BYTES_MAX. ERROR_OUTPUT_TOO_LARGE: beyond bytes_max; it can be asked again. */
tidemill_error *exec_exchange(struct exec_process *process, const struct buffer *request,
                              size_t bytes_max, struct buffer *ret);

#endif
