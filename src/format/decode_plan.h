/* SPDX-License-Identifier: Apache-2.0 */
/* decode_plan.h - between decode_plan.c (what a decoder consists of) and decode_map.c (which field is
 * which input). */
#ifndef TIDEMILL_FORMAT_DECODE_PLAN_H
#define TIDEMILL_FORMAT_DECODE_PLAN_H

#include "format/decode_parts.h"

struct planner {
    struct decoder *decoder;
    const struct decoder_config *config;
    /* What there is to choose from: the keys of the sample or of the template, columns, arrays.
     * A reading only because it finds names fast. */
    struct reading row_names, body_names;
    bool knows_row, knows_body;
};

/* Field number of `name` in the reading; added when new. False: out of memory. */
bool plan_add_field(struct arena *arena, struct reading *reading, struct slice name,
                    uint32_t *ret_field);
/* A key or, where JSON is read, a "/pointer". ERROR_USAGE where the names are known and lack it and
 * `must_exist`. `what` begins the message. */
tidemill_error *plan_ref(struct planner *planner, bool is_body, const char *text, bool must_exist,
                         const char *what, struct field_ref *ret);
/* "id, pixels, label" with an end to long lists. */
const char *plan_names_text(struct arena *arena, const struct reading *names);

/* Finds the fields of every input: maps first, the automatic rules for the rest. */
tidemill_error *plan_inputs(struct planner *planner);

#endif
