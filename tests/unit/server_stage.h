/* SPDX-License-Identifier: Apache-2.0 */
/* server_stage.h - a server without its routes: a store in a folder, models and queues, and the scheduler,
 * for the tests of jobs. Who is told of ends is counted here. */
#ifndef TIDEMILL_TESTS_SERVER_STAGE_H
#define TIDEMILL_TESTS_SERVER_STAGE_H

#include "expect.h"
#include "tempdir.h"

#include "server/scheduler_parts.h"

#define STAGE_MODELS 4
#define STAGE_QUEUES 3

struct stage {
    const char *path; /* of the data */
    struct app app;
    struct server_config config;
    struct model_config models[STAGE_MODELS];
    struct queue_config queues[STAGE_QUEUES];
    struct scheduler_tuning tuning;
};

/* Model "m" answers JSON, "v" rows of two numbers, "slow" JSON at its leisure, "broken" does not load.
 * Queue "q" has model v and closes at 100 records or after an hour, "quick" closes as soon as there is one,
 * "night" is open from 22 to 6. */
void stage_init(struct stage *stage, const char *path);
void stage_set(struct stage *stage, const char *model, const char *option, const char *value);
void stage_open(struct stage *stage);  /* the store alone */
void stage_start(struct stage *stage); /* the scheduler, too */
void stage_stop(struct stage *stage);  /* closes both */
void stage_free(struct stage *stage);

/* The clock of the stage's scheduler: the real one and so much. */
extern _Atomic int64_t stage_clock_ahead_ms;

/* A file of lines {"custom_id":"r0",...} for `model`; those that `is_bad` says have no body for it. */
void stage_lines(struct buffer *out, const char *model, size_t n);
/* Uploads it and adds a batch that is to be validated. deadline_in_ms 0: none. */
void stage_add_batch(struct stage *stage, const char *id, const char *tenant, struct slice lines,
                     int64_t deadline_in_ms, double budget_usd);
/* Accepts records {"x":[i,i+1]} and waits until they are on the disk; the window's id. */
void stage_accept(struct stage *stage, const char *queue, const char *tenant, size_t n,
                  char window[STORE_ID_BYTES]);

/* Waits until the job is in one of the states; what it is then: store_job_free. Fails after a minute. */
struct store_job stage_wait(struct stage *stage, const char *id, unsigned states);
/* A file's content, ended by a NUL; free it. "" for no id. */
char *stage_content(struct stage *stage, const char *file, size_t *ret_size);
size_t stage_count_lines(const char *text);

/* For main: this program is its own model host. True: *ret is its exit status. */
bool stage_is_host(int argc, char **argv, int *ret);

#endif
