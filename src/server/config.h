/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - tidemill.yaml: what is served, read and checked as a whole.
 *
 * One table says what keys there are, of which type, with which range and default: the parser, the
 * message for a mistyped key ("tidemill.yaml:12: unknown key 'evry'; did you mean 'every'?"),
 * `tidemill check`, docs/serve-config.md and the man page come from it. Keys of a model are the options of
 * `tidemill run` and a few of its own. docs/serve-config.md has the schema. */
#ifndef TIDEMILL_SERVER_CONFIG_H
#define TIDEMILL_SERVER_CONFIG_H

#include "base/base.h"
#include "io/io.h"
#include "job/job.h"
#include "plan/plan.h"

struct model_config {
    char *name;
    /* Options of a job, without input and output: `model`, `threads`, `price`, ... Input format JSONL. */
    struct job_spec spec;
    int64_t keep_warm_ms; /* how long the model stays loaded after its last use; -1: always */
    bool is_sync;         /* answers at once, too */
    int64_t max_batch;    /* rows of a microbatch of synchronous requests */
    int64_t max_delay_us; /* that the first of them waits for others */
    int64_t queue_max;    /* synchronous requests that wait, at most: then 503 */
    char *owner;          /* in /v1/models */
};

enum on_miss { ON_MISS_404, ON_MISS_DEFAULT, ON_MISS_ENQUEUE };

struct sink_config {
    char *kind; /* "jsonl", "directory", "redis", "http" */
    char *to;   /* a path, an address */
};

struct webhook_config {
    char *url;             /* NULL: none */
    char *secret_variable; /* of the environment: "whsec_..." */
};

struct queue_config {
    char *name;
    struct model_config *model; /* one of the server's */
    struct window_rule window;
    char *at;        /* the window's line of cron as text; NULL: none */
    char *zone_name; /* "Europe/Berlin"; NULL: UTC */
    struct zone *zone;
    struct tariff *tariff; /* NULL: any hour, one price */
    int64_t priority;      /* -1000 to 1000; larger goes first */
    char *max_errors;      /* of its jobs; NULL: the model's */
    int64_t retention_ms;  /* of its windows and results */
    int64_t records_max;   /* that wait, of one tenant: 429 */
    char *key_field;       /* under which results are kept; the record's id by default */
    int64_t ttl_ms;        /* of results; 0: until replaced */
    enum on_miss on_miss;
    char *default_value; /* JSON; of ON_MISS_DEFAULT */
    struct webhook_config webhook;
    struct sink_config *sinks;
    size_t n_sinks;
};

struct server_config {
    char *path;                /* of the file */
    struct string_list listen; /* "127.0.0.1:8080" by default */
    char *data;                /* folder */
    char *resp;                /* address of the Redis protocol; NULL: none */
    char *tls_certificate, *tls_key;
    bool is_insecure;       /* may listen beyond loopback without keys */
    bool needs_key;         /* also on loopback */
    int64_t jobs_max;       /* that run at a time */
    int64_t file_bytes_max; /* 0: no limit */
    int64_t body_bytes_max;
    int64_t batch_retention_ms; /* of files and batches */
    int64_t cache_bytes;
    int64_t stop_ms;               /* how long a stop waits for requests under way */
    int64_t loops;                 /* 0: one for each two processors */
    struct webhook_config webhook; /* of batches */
    bool webhooks_private;         /* may go to private addresses */
    struct model_config *models;
    size_t n_models;
    struct queue_config *queues;
    size_t n_queues;
};

/* Reads and checks all of it; nothing is opened, made or changed beside. Every error names the file
 * and the line. The models' files are looked for, not loaded. Paths in it are relative to its folder. */
tidemill_error *server_config_load(const struct io *io, const char *path,
                                   struct server_config **ret);
void server_config_free(struct server_config *config); /* NULL is fine */

struct model_config *server_config_model(const struct server_config *config, const char *name);
struct queue_config *server_config_queue(const struct server_config *config, const char *name);

/* The table of keys, for people: Markdown, or a part of a man page. */
void server_config_docs(bool is_man, struct buffer *out);

/* What `tidemill check` prints: models, queues, when each window closes next, with its hours. */
void server_config_print(const struct server_config *config, int64_t now_ms, struct buffer *out);

#endif
