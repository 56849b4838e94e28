/* SPDX-License-Identifier: Apache-2.0 */
/* openapi.h - the OpenAPI 3.1 document, made from the table of routes. */
#ifndef TIDEMILL_SERVER_OPENAPI_H
#define TIDEMILL_SERVER_OPENAPI_H

#include "net/net.h"

void openapi_write(const struct net_route *routes, size_t n, struct buffer *out);

#endif
