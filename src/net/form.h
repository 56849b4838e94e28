/* SPDX-License-Identifier: Apache-2.0 */
/* form.h - multipart/form-data (RFC 7578) from any source of bytes. */
#ifndef TIDEMILL_NET_FORM_H
#define TIDEMILL_NET_FORM_H

#include "net/net.h"

#define FORM_PARTS_MAX 64
#define FORM_HEAD_BYTES ((size_t)8 << 10)
#define FORM_BOUNDARY_BYTES 70
#define FORM_NAME_BYTES 256

struct form_source {
    void *context;
    tidemill_error *(*read)(void *context, void *data, size_t size, size_t *ret_size);
};

/* `type`: the Content-Type header; NULL: there is none. What is malformed is ERROR_INPUT. */
tidemill_error *form_read(const char *type, const struct form_source *source,
                          const struct net_form *form);

#endif
