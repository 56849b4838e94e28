/* SPDX-License-Identifier: Apache-2.0 */
/* decode_json.h - between decode_json.c (records and fields) and decode_tree.c (a value -> a row). */
#ifndef TIDEMILL_FORMAT_DECODE_JSON_H
#define TIDEMILL_FORMAT_DECODE_JSON_H

#include "format/decode_parts.h"

/* "null", "true", "a string", "a list": for "found ...". */
const char *json_kind_text(yyjson_val *value);

/* The others return false when the record failed. */

/* A number, string or literal. `label` names it in messages. */
bool json_append_scalar(struct decoding *decoding, struct row *row, yyjson_val *value,
                        const char *label);
/* A scalar or nested lists; sets row->shape. */
bool json_put_nested(struct decoding *decoding, struct row *row, yyjson_val *value);
/* {"b64": "...", "dtype": "float32", "shape": [3, 4]}; dtype and shape may be left out. */
bool json_put_base64(struct decoding *decoding, struct row *row, yyjson_val *value);

/* --- for all ways in: the sentence for a code that row_append_* gave ------------------------------- */

bool decoding_fail_value(struct decoding *decoding, const struct row *row, const char *label,
                         enum error_code code, const char *text, size_t size);
/* The value's shape is not the one that the model takes. */
bool decoding_fail_shape(struct decoding *decoding, const struct row *row,
                         const struct shape *found);

#endif
