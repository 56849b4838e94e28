/* SPDX-License-Identifier: Apache-2.0 */
/* delivery_address.h - where a delivery may go. A webhook's address is somebody's text, and whoever
 * chose it must not reach through us what only we can reach: this machine, its network, a cloud's
 * metadata.
 *
 * Two checks, both by what libcurl itself understands: the text before it is used (one parser, so no
 * two can disagree), and the address of every connection at the moment it is made (so a name that
 * changes its mind between a check and the use does not matter). */
#ifndef TIDEMILL_SERVER_DELIVERY_ADDRESS_H
#define TIDEMILL_SERVER_DELIVERY_ADDRESS_H

#include "base/base.h"

#include <sys/socket.h>

/* ERROR_USAGE: says what is wrong with it. `may_be_private`: http, too, and any host. */
tidemill_error *delivery_address_check(const char *url, bool may_be_private);
/* Whether it is an address of the public internet; IPv4 inside IPv6 is looked at as IPv4. */
bool delivery_address_is_public(const struct sockaddr *address, size_t size);

#endif
