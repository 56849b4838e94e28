/* SPDX-License-Identifier: Apache-2.0 */
/* template.h - a JSON text with places {{field}} in its strings, filled from a row.
 *
 * A string that is exactly "{{field}}" becomes the field's JSON value, of whatever type. Inside a
 * longer string, and in keys, stands the field's text: of a string its characters, of others their
 * JSON text. CSV cells are strings. "{{" without "}}" behind it in the same string is plain text. */
#ifndef TIDEMILL_FORMAT_TEMPLATE_H
#define TIDEMILL_FORMAT_TEMPLATE_H

#include "base/base.h"

struct template_text;

/* ERROR_USAGE: not a JSON object, or an empty {{}}. Lives in the arena. */
tidemill_error *template_compile(const char *text, size_t size, struct arena *arena,
                                 struct template_text **ret);
/* The places' names, each once, in the order of their first use. */
size_t template_n_fields(const struct template_text *template_text);
const char *template_field(const struct template_text *template_text, size_t index);
/* Appends the filled text. values[i]: the valid JSON text of field i. */
void template_expand(const struct template_text *template_text, const struct slice *values,
                     struct buffer *out);

#endif
