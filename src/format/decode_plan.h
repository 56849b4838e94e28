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
    /* The first record, for what its fields hold: a tree (JSON, or the expanded template), or
     * cells. Either may be missing. */
    struct yyjson_doc *sample;
    struct slice *sample_cells;
    bool is_probe; /* only asked whether there is text: a tokenizer is not missed */
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

/* decode_map_text.c */

/* Reads the sample. Only memory fails: a record that cannot be read tells nothing. */
tidemill_error *plan_sample(struct planner *planner, struct slice sample);
/* Whether these fields of the input hold text that a tokenizer is for; ERROR_USAGE if none is there,
 * or the input cannot take tokens. */
tidemill_error *plan_text(struct planner *planner, const struct input_plan *input,
                          const struct field_ref *parts, size_t n_parts, const char *label,
                          bool *ret_is_text);
/* The name of the field that has the text where nothing says which; NULL: none, or several. */
const char *plan_find_text(struct planner *planner);
/* Decides which inputs without a field are made. */
tidemill_error *plan_making(struct planner *planner);
/* The input that takes token ids; SIZE_MAX: none. */
size_t plan_ids_input(const struct decoder *decoder);
/* Is this name of the planner's free: no id, no input's field? `counts_kept`: kept ones are not. */
bool plan_is_free(const struct planner *planner, size_t name_index, bool counts_kept);
/* The input takes this one field. It need not be in the first record where `must_exist` is false. */
tidemill_error *plan_take_one(struct planner *planner, size_t index, const char *name,
                              bool must_exist);

/* Finds the fields of every input: maps first, the automatic rules for the rest. */
tidemill_error *plan_inputs(struct planner *planner);

#endif
