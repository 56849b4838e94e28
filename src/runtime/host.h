/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - the host's loop, for the two that run it: a process and a thread. */
#ifndef TIDEMILL_RUNTIME_HOST_H
#define TIDEMILL_RUNTIME_HOST_H

#include "runtime/model.h"

#include <pthread.h>

/* A model that a call may be cancelled of, by another thread. */
struct host_control {
    pthread_mutex_t mutex;
    struct model *model; /* NULL: not loaded, or closed */
    bool is_cancelled;   /* also before it is loaded */
};

/* Serves one engine until its end of `fd` closes. Does not close `fd`. */
void host_serve(int fd, bool is_process, struct host_control *control);
void host_cancel(struct host_control *control);

#endif
