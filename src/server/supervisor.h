/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor.h - what a service manager wants: sockets that it opened (systemd's socket activation) and a
 * word when the server is ready (sd_notify). Both are small protocols over environment variables, so
 * no library is needed. Source: sd_listen_fds(3), sd_notify(3). */
#ifndef TIDEMILL_SERVER_SUPERVISOR_H
#define TIDEMILL_SERVER_SUPERVISOR_H

#include "job/job.h"

/* Appends "fd:3", "fd:4", ... for the sockets that were passed to this process; none is fine. Takes
 * the variables away, so that children do not take them for theirs. */
tidemill_error *supervisor_sockets(struct string_list *ret);
/* "READY=1", "RELOADING=1", "STOPPING=1"; nothing where nobody asked for it. */
void supervisor_notify(const char *state);

#endif
