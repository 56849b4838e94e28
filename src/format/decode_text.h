/* SPDX-License-Identifier: Apache-2.0 */
/* decode_text.h - walking over text: UTF-8, and JSON that is known to be valid. No recursion. */
#ifndef TIDEMILL_FORMAT_DECODE_TEXT_H
#define TIDEMILL_FORMAT_DECODE_TEXT_H

#include "base/base.h"

/* Well-formed as Unicode's table 3-7 has it: no overlong forms, no surrogates, nothing above
 * U+10FFFF. */
bool text_is_utf8(const char *text, size_t size);
/* Length of the well-formed sequence of 2 to 4 bytes at `p`; 0 where there is none. */
size_t text_sequence(const char *p, const char *end);

/* Depth of brackets outside strings; exact for valid JSON. Stops counting above `limit`. */
size_t json_depth(const char *text, size_t size, size_t limit);

/* For JSON that was found valid: `p` is at a value or a string; returns its end. */
const char *json_skip_space(const char *p, const char *end);
const char *json_skip_string(const char *p, const char *end);
const char *json_skip_value(const char *p, const char *end);

/* Appends `text` with ", \ and control characters escaped, without quotes around. */
void json_escape(struct buffer *out, const char *text, size_t size);

/* Writes the code point as UTF-8; returns its length. */
size_t text_put_code_point(char *out, uint32_t code);

#endif
