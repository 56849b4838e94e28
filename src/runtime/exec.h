/* SPDX-License-Identifier: Apache-2.0 */
/* exec.h - the inside of the runtime that asks a program: the user's command in a process of its own,
 * below its model host, asked over two pipes. docs/EXEC.md has the protocol. */
#ifndef TIDEMILL_RUNTIME_EXEC_H
#define TIDEMILL_RUNTIME_EXEC_H

#include "runtime/model.h"

#include <pthread.h>
#include <sys/types.h>

#define EXEC_FRAME_BYTES_MAX ((size_t)1 << 30)

/* --- exec_command.c: the words of a command ----------------------------------------------------- */

/* Splits as a shell splits words: spaces, quotes, backslashes; nothing is expanded, and no shell runs.
 * *ret is NULL-terminated and one malloc'ed block: free(*ret). ERROR_USAGE: a quote that is not
 * closed, or no word. */
tidemill_error *exec_split_command(const char *command, char ***ret);

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

/* --- exec_process.c: the program -------------------------------------------------------------------- */

struct exec_process {
    pid_t pid;   /* 0: none */
    int in, out; /* to it, from it; -1: none */
    pthread_t log_thread;
    bool has_log_thread;
    int log_fd;
};

/* ERROR_MODEL_LOAD: it cannot be started. */
tidemill_error *exec_start(char *const *arguments, struct exec_process *ret);
/* Writes a frame that has its length in front. ERROR_HOST_CRASHED: it does not read any more. */
tidemill_error *exec_send(struct exec_process *process, const struct buffer *frame);
/* Reads a frame's payload into `ret`. ERROR_HOST_CRASHED: it closed its end, or the frame is larger
 * than bytes_max. */
tidemill_error *exec_receive(struct exec_process *process, size_t bytes_max, struct buffer *ret);
/* Kills it and what it started, unless it has ended by itself; `text` says how it ended. */
void exec_stop(struct exec_process *process, char *text, size_t size);
void exec_kill(const struct exec_process *process); /* from another thread */
/* Processor time so far and resident memory of the program itself. */
void exec_usage(const struct exec_process *process, double *ret_cpu_s, uint64_t *ret_memory);

#endif
