/* SPDX-License-Identifier: Apache-2.0 */
/* listen.h - whether an address can be reached from this machine alone. */
#ifndef TIDEMILL_SERVER_LISTEN_H
#define TIDEMILL_SERVER_LISTEN_H

#include <stdbool.h>

/* "127.0.0.1:8080", "[::1]:0", "localhost:80", "unix:...", "fd:3" (by what the socket is bound to). What
 * is not understood is not local. */
bool listen_is_local(const char *address);

#endif
