/* SPDX-License-Identifier: Apache-2.0 */
/* decode_csv.h - CSV cells as fields and inputs. */
#ifndef TIDEMILL_FORMAT_DECODE_CSV_H
#define TIDEMILL_FORMAT_DECODE_CSV_H

#include "format/decode_parts.h"

/* A cell as a JSON string, in the arena. */
bool csv_cell_json(struct decoding *decoding, struct slice cell, struct slice *ret);

#endif
