/* SPDX-License-Identifier: Apache-2.0 */
/* wire.h - what engine and host say to each other over a SOCK_SEQPACKET pair: one struct a message,
 * in the machine's own layout, as both ends are one program on one machine.
 *
 *     engine -> host   OPEN    once, with two descriptors: the region, the board
 *     host -> engine   READY   the model's signature     or   LOAD_FAILED  and the end
 *     engine -> host   WORK    tensors lie in the region; at most READY.units_max are on their way
 *     host -> engine   REPLY   in any order; where units_max is 2, in the order of WORK
 *
 * The end of the socket is the end of the host. The board is a page both map: the host writes there
 * which WORK it has begun, so that the engine knows whom to blame when the host dies.
 *
 * The engine trusts nothing that comes from a host: messages and tables of values are copied first,
 * then checked, and only the copy is used. */
#ifndef TIDEMILL_RUNTIME_WIRE_H
#define TIDEMILL_RUNTIME_WIRE_H

#include "runtime/runtime.h"

#include <stdatomic.h>

#define WIRE_VERSION 3
#define WIRE_UNITS_MAX 512 /* on their way to one host, or in it */
#define UNITS_OF_ONE 2     /* units_max of what runs one at a time: one more waits in the socket */
#define WIRE_MESSAGE_BYTES_MAX ((size_t)128 << 10)
#define WIRE_NAME_BYTES_MAX 4096
#define WIRE_DEPTH_MAX 8 /* of sequences in sequences */

enum wire_type { WIRE_OPEN = 1, WIRE_READY, WIRE_LOAD_FAILED, WIRE_WORK, WIRE_REPLY };

struct wire_header {
    uint32_t version;
    uint32_t type;
};

struct wire_board {
    _Atomic uint64_t started_seq; /* of the last WORK that reached the model; 0: none yet. Those
                                   before it have, too: they are taken in order */
};

/* Followed by strings, each ended by a NUL: model, onnxruntime, provider, llama library, output names.
 * An empty string stands for NULL. */
struct wire_open {
    struct wire_header header;
    uint64_t region_bytes;
    uint32_t batch_dimension;
    uint32_t precision;
    uint32_t threads;
    uint32_t n_output_names;
    uint32_t is_json_log;
    int32_t llama_parallel, llama_gpu_layers;
    uint32_t llama_task;
    int64_t llama_context;
    uint64_t llama_seed;
};

/* Followed by the strings of the specs (without NULs, lengths there) and the description. */
struct wire_spec {
    uint32_t kind, type, key_type;
    int32_t rank;
    int64_t dims[TENSOR_RANK_MAX];
    uint32_t name_bytes;
    uint32_t is_json, is_optional;
    uint32_t dim_name_bytes[TENSOR_RANK_MAX]; /* 0: no name */
};

struct wire_ready {
    struct wire_header header;
    uint32_t n_inputs, n_outputs; /* so many wire_spec follow */
    uint32_t is_batched;
    uint32_t description_bytes;
    int64_t batch_fixed;
    uint32_t units_max; /* WORK that it takes before it has answered */
    uint32_t zero;      /* no bytes that nobody set */
};

struct wire_load_failed {
    struct wire_header header;
    uint32_t code;
    char message[2048];
};

struct wire_input {
    uint32_t type;
    int32_t rank;
    int64_t dims[TENSOR_RANK_MAX];
    uint64_t offset, bytes; /* in the region */
};

struct wire_work {
    struct wire_header header;
    uint64_t seq;   /* from 1 */
    uint64_t index; /* of its first record in the job */
    uint32_t n_rows, n_inputs;
    uint64_t output_offset, output_capacity;
    struct wire_input inputs[MODEL_VALUES_MAX]; /* n_inputs are sent */
};

struct wire_reply {
    struct wire_header header;
    uint64_t seq;
    uint32_t code;         /* enum error_code, as of struct runtime_done */
    uint32_t n_values;     /* rows of the table */
    uint64_t table_offset; /* in the output area */
    int64_t run_ns;
    struct token_usage usage;
    double outside_cpu_s; /* see struct answer */
    uint64_t outside_memory_bytes;
    char message[512];
};

/* struct value without pointers: offsets count from the output area's start. */
struct wire_value {
    uint32_t kind, type;
    int32_t rank;
    uint32_t first_child, n_children;
    uint32_t unused;
    int64_t dims[TENSOR_RANK_MAX];
    uint64_t offset, bytes;
};

/* Messages, whole: 0, or an errno value. ECONNRESET when the other side is gone. */
int wire_send(int fd, const void *message, size_t size);
/* The same without waiting: EAGAIN where the socket is full. */
int wire_try_send(int fd, const void *message, size_t size);
int wire_send_with_fds(int fd, const void *message, size_t size, const int *fds, size_t n_fds);
/* *ret_size 0: the other side is gone. A message that is too long or has a wrong version: EPROTO.
 * `fds` (may be NULL when n_fds is 0) gets -1 where none came. */
int wire_receive(int fd, void *message, size_t capacity, int *fds, size_t n_fds, bool is_waiting,
                 size_t *ret_size);

/* READY in `buffer` from a signature, and back. Decoding checks everything. */
tidemill_error *wire_write_ready(const struct model_signature *signature, const char *description,
                                 uint32_t units_max, struct buffer *buffer);
tidemill_error *wire_read_ready(const void *message, size_t size, struct model_signature *ret,
                                char *description, size_t description_size,
                                uint32_t *ret_units_max);

/* Copies and checks a table of values that a host wrote into the output area [base, base + capacity):
 * every tensor lies inside, with as many bytes as its shape says; the tree is a tree, in breadth-first
 * order, of bounded depth; the outputs are of the kinds and types that the signature declares. Strings
 * are copied too, as their lengths would be read twice. One malloc'ed block: free(*ret).
 * ERROR_HOST_CRASHED says what is wrong with it. */
tidemill_error *wire_read_values(const unsigned char *base, size_t capacity, uint64_t table_offset,
                                 uint32_t n_values, const struct model_signature *signature,
                                 struct value **ret);

/* Bytes of the UTF-8 character at `text`, at most `left`; 0 when it is not one. */
size_t wire_utf8_length(const unsigned char *text, size_t left);
/* Makes text from a host fit for logs and JSON: a NUL at the end, UTF-8, no control characters. */
void wire_clean_text(char *text, size_t size);

#endif
