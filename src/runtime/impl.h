/* SPDX-License-Identifier: Apache-2.0 */
/* impl.h - what a kind of runtime implements; runtime.c calls it. Each function keeps the promise that
 * runtime.h makes for the one of its name. */
#ifndef TIDEMILL_RUNTIME_IMPL_H
#define TIDEMILL_RUNTIME_IMPL_H

#include "runtime/runtime.h"

struct runtime_impl {
    /* Fills `signature` and `description` of what it makes. */
    tidemill_error *(*open)(const struct runtime_options *options,
                            const struct shared_region *region, struct runtime **ret);
    size_t (*capacity)(const struct runtime *runtime);
    tidemill_error *(*submit)(struct runtime *runtime, const struct runtime_work *work);
    tidemill_error *(*poll)(struct runtime *runtime, int timeout_ms, int wake_fd,
                            struct runtime_done *done, size_t done_capacity, size_t *ret_n);
    size_t (*under_way)(const struct runtime *runtime); /* may be NULL: all that is in it */
    void (*hint_backlog)(struct runtime *runtime, bool has_backlog); /* may be NULL */
    void (*want_hosts)(struct runtime *runtime, int n);              /* may be NULL */
    void (*get_stats)(struct runtime *runtime, struct runtime_stats *ret);
    void (*end)(struct runtime *runtime);
    void (*close)(struct runtime *runtime); /* frees it; not NULL */
};

/* Every implementation's runtime begins with this. */
struct runtime {
    const struct runtime_impl *impl;
    struct model_signature signature;
    char description[160];
};

extern const struct runtime_impl runtime_hosts; /* models in processes of their own */
extern const struct runtime_impl runtime_http;  /* servers */
extern const struct runtime_impl runtime_batch; /* servers' batch APIs */

#endif
