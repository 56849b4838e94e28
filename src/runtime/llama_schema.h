/* SPDX-License-Identifier: Apache-2.0 */
/* llama_schema.h - a JSON schema as a grammar that llama.cpp can follow (GBNF). */
#ifndef TIDEMILL_RUNTIME_LLAMA_SCHEMA_H
#define TIDEMILL_RUNTIME_LLAMA_SCHEMA_H

#include "base/base.h"

#include <yyjson.h>

/* Appends the rules, beginning with "root". `schema` NULL: any JSON object. Supported: type, properties,
 * required, items, minItems, maxItems, minLength, maxLength, enum, const, anyOf, additionalProperties,
 * as deep as JSON may be. Any other word that limits values is refused: ERROR_MODEL_ERROR.
 *
 * Objects have the properties that are declared, in that order, those not required present or not. */
tidemill_error *llama_schema_to_grammar(yyjson_val *schema, struct buffer *grammar);

#endif
