/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.h - the way into the room of models: one interface over whatever answers requests.
 *
 *     how much can you take now?   runtime_capacity
 *     take this                    runtime_submit     never blocks
 *     what is done?                runtime_poll       waits at most timeout_ms
 *
 * A runtime is a set of model hosts: processes (`tidemill host`), or threads with isolation off, each
 * with its own copy of the model, fed through one shared memory region that the engine owns. Hosts
 * keep no state; one that dies, hangs or lies is killed and replaced, and the work that it held comes
 * back from poll with an error. Every unit of work submitted comes back from poll exactly once, unless
 * the runtime as a whole fails.
 *
 * Not thread-safe: one thread (the engine's coordinator) owns a runtime, and lives as long as it does:
 * a host dies with the thread that started it.
 *
 * Threads instead of processes give up half of this: a crash ends the engine, processor time is that
 * of the calling thread only, and a call that neither answers nor can be cancelled ends the job. */
#ifndef TIDEMILL_RUNTIME_RUNTIME_H
#define TIDEMILL_RUNTIME_RUNTIME_H

#include "base/base.h"
#include "format/tensor.h"

/* Shared memory for tensors: anonymous (memfd), sealed at its size, mapped by engine and hosts alike.
 * Pages cost memory only once touched. */
struct shared_region {
    int fd;
    unsigned char *base;
    size_t size;
};

tidemill_error *shared_region_new(size_t size, struct shared_region *ret);
/* Gives the pages in [offset, offset + size) back to the system; they read as zero afterwards. */
void shared_region_release(const struct shared_region *region, size_t offset, size_t size);
void shared_region_free(struct shared_region *region); /* all zero / fd -1 is fine */

/* What a model computes with. FP32 is the model as it is, whatever its types. */
enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_INT8 };
const char *precision_name(enum precision precision); /* "fp32" */

/* Whether `model` names the built-in one that answers with its input, and not a file. */
bool model_is_echo(const char *model);

/* What --model names: "echo[:...]", an http:// or https:// address, "exec:COMMAND", FILE.gguf, or else
 * an ONNX file. */
enum model_kind { MODEL_ONNX, MODEL_ECHO, MODEL_HTTP, MODEL_EXEC, MODEL_LLAMA };
enum model_kind model_kind(const char *model);

/* The words of an "exec:" command. Splits as a shell splits words: spaces, quotes, backslashes; nothing is expanded, and no shell runs.
 * *ret is NULL-terminated and one malloc'ed block: free(*ret). ERROR_USAGE: a quote that is not
 * closed, or no word. */
tidemill_error *exec_split_command(const char *command, char ***ret);

enum batch_dimension { BATCH_DIMENSION_AUTO, BATCH_DIMENSION_FIRST, BATCH_DIMENSION_NONE };

enum http_protocol {
    PROTOCOL_AUTO, /* by the address */
    PROTOCOL_OPENAI,
    PROTOCOL_KSERVE,
    PROTOCOL_TFSERVING,
    PROTOCOL_TORCHSERVE,
    PROTOCOL_JSON
};

/* How servers are asked. Strings are borrowed. */
struct http_options {
    enum http_protocol protocol;
    int inflight_max;           /* requests under way at a time, >= 1 */
    int64_t requests_minute;    /* at most; 0: no limit */
    int64_t tokens_minute;      /* at most, by the answers' own usage; 0: no limit */
    int retries;                /* of one request, beyond the first try */
    int64_t patience_ms;        /* how long servers may be unreachable; 0: for ever */
    const char *key;            /* sent as "Authorization: Bearer KEY"; NULL: none. Never logged */
    const char *const *headers; /* "Name: value" */
    size_t n_headers;
    const char *ca_file; /* PEM certificates that are trusted; NULL: the system's */
    bool is_insecure;    /* certificates are not verified */
    bool is_batch;       /* through the server's batch API */
    int64_t
        deadline_ms; /* with is_batch: from now; what is left then is asked one by one. 0: none */
    const char *state_beside; /* with is_batch: what must survive is kept in a file of this name and
                                 ".upstream"; NULL: nothing is */
};

enum llama_task {
    TASK_AUTO,
    TASK_CHAT,
    TASK_COMPLETION,
    TASK_EMBEDDING,
    TASK_RERANK,
    TASK_CLASSIFY
};

/* How a GGUF model is run. */
struct llama_options {
    int parallel;    /* sequences at a time; 0: auto */
    int64_t context; /* tokens of KV memory, all sequences together; 0: auto */
    int gpu_layers;  /* -1: all that fit */
    uint64_t seed;   /* of the job; records that bring none get one made from it and their number */
    enum llama_task task;
    const char *library; /* path of libllama; NULL: look for it */
};

/* Borrowed strings; valid while the runtime lives. */
struct runtime_options {
    const char *model;       /* see model_kind */
    const char *onnxruntime; /* path of the library; NULL: look for it */
    const char *provider;    /* "cpu", "cuda", "tensorrt", "openvino", with ":key=value,..." */
    const char *const *output_names; /* outputs wanted, in this order; NULL: all */
    size_t n_output_names;
    enum batch_dimension batch_dimension;
    enum precision precision;
    int threads;                /* a host's intra-op threads, >= 1 */
    int instances_max;          /* hosts at most */
    bool is_growing;            /* start one host and add others while they are the bottleneck */
    bool is_isolated;           /* processes; false: threads */
    int timeout_ms;             /* for one call of the model; 0: none */
    int load_timeout_ms;        /* for loading the model; 0: none */
    const char *host_program;   /* the tidemill binary; NULL: find it */
    int wake_fd;                /* > 0: readable, it ends runtime_open with ERROR_INTERRUPTED */
    struct http_options http;   /* of MODEL_HTTP */
    struct llama_options llama; /* of MODEL_LLAMA */
};

struct runtime;

/* Starts the first host (all of them unless is_growing) and waits until the model is loaded.
 * ERROR_MODEL_LOAD: not a model, truncated, missing, library not found, provider not there.
 * ERROR_USAGE: the precision is not to be had for this model or provider.
 * ERROR_UNSUPPORTED: inputs that are no tensors, complex numbers, too many inputs or outputs.
 * `region` is borrowed and must outlive the runtime. */
tidemill_error *runtime_open(const struct runtime_options *options,
                             const struct shared_region *region, struct runtime **ret);
const struct model_signature *runtime_signature(const struct runtime *runtime);
/* Library and version, e.g. "ONNX Runtime 1.22.0 (cpu)"; for logs and summaries. */
const char *runtime_description(const struct runtime *runtime);

struct work_input {
    enum tensor_type type;
    struct shape shape; /* whole, batch dimension included */
    size_t offset;      /* in the region */
    size_t bytes;
};

struct runtime_work {
    uint64_t id;    /* the caller's; comes back from poll */
    uint64_t index; /* of its first record in the job: what seeds are made from */
    uint32_t n_rows;
    const struct work_input *inputs; /* n_inputs of the signature; copied by submit */
    size_t output_offset;            /* where the host may write the answer, in the region */
    size_t output_capacity;          /* an answer that does not fit: ERROR_OUTPUT_TOO_LARGE */
};

/* Tokens, as the model or its server counts them; 0 where it does not. */
struct token_usage {
    uint64_t in;     /* of prompts */
    uint64_t cached; /* of these, taken from a prefix cache */
    uint64_t out;    /* generated */
};

static inline void token_usage_add(struct token_usage *sum, const struct token_usage *more)
{
    sum->in += more->in;
    sum->cached += more->cached;
    sum->out += more->out;
}

struct runtime_done {
    uint64_t id;
    enum error_code code; /* not OK: the record's error, if it is the only one */
    char message[512];    /* one sentence where code is not OK, e.g. "killed by SIGSEGV" */
    /* malloc'ed array, caller frees. Data lies inside the output area or in the same block */
    struct value *values;
    size_t n_values;
    struct token_usage usage; /* of all tries */
    double run_s;             /* time inside the model */
};

size_t runtime_capacity(const struct runtime *runtime); /* units of work it takes at once, now */
/* Units whose answers are being made or wait for poll; SIZE_MAX: it is not told. Others only wait for
 * their turn: who stops need not wait for them. */
size_t runtime_under_way(const struct runtime *runtime);
/* ERROR_HOST_FAILED when hosts cannot be started any more (repeated deaths without progress). */
tidemill_error *runtime_submit(struct runtime *runtime, const struct runtime_work *work);
/* Waits until something is done, a host has become ready for more work, `wake_fd` (an eventfd; -1:
 * none) is readable, or the time is over (-1: no limit). *ret_n is 0 when nothing was done. Also
 * restarts and grows hosts. */
tidemill_error *runtime_poll(struct runtime *runtime, int timeout_ms, int wake_fd,
                             struct runtime_done *done, size_t done_capacity, size_t *ret_n);
/* The caller has more work than runtime_capacity: with is_growing, another host may be worth it. */
void runtime_hint_backlog(struct runtime *runtime, bool has_backlog);

/* With is_growing: starts hosts until `n` are there or on their way (at most instances_max), without
 * waiting for them. For a caller that knows beforehand that the model will be the bottleneck. */
void runtime_want_hosts(struct runtime *runtime, int n);

struct runtime_stats {
    int hosts;         /* alive now */
    int hosts_started; /* in all, restarts included */
    int restarts;
    double busy_s;              /* sum over hosts of the time inside the model */
    double cpu_s;               /* processor seconds of hosts, ended ones included */
    uint64_t peak_memory_bytes; /* largest resident set of one host */
    uint64_t memory_bytes;      /* resident now, all hosts */
};
void runtime_get_stats(struct runtime *runtime, struct runtime_stats *ret);

/* Kills the hosts and reaps them. Signature and description stay; nothing may be submitted any more,
 * and what was is lost. */
void runtime_end_hosts(struct runtime *runtime);
/* Ends the hosts, frees everything. NULL is fine. */
void runtime_close(struct runtime *runtime);

/* `tidemill host`: the other end. Runs until its socket closes; returns the exit status. */
int host_main(int argc, char **argv);

#endif
