/* SPDX-License-Identifier: Apache-2.0 */
/* padding.h - which of a model's inputs may be padded to a common length, and with what. */
#ifndef TIDEMILL_JOB_PADDING_H
#define TIDEMILL_JOB_PADDING_H

#include "format/tensor.h"
#include "job/spec.h"

#define PADDING_BYTES_MAX 16

struct input_padding {
    bool is_padded;
    int32_t dim; /* of the record's shape: the one that varies */
    size_t element_bytes;
    unsigned char element[PADDING_BYTES_MAX]; /* one element of padding, as it lies in memory */
};

struct padding {
    bool is_on; /* some input is padded: */
    size_t first;
    struct input_padding inputs[MODEL_VALUES_MAX];
    /* Of each output: a bit for each dimension of the record's part that grows with the padding. */
    uint32_t output_dims[MODEL_VALUES_MAX];
};

/* Padded are: input_ids, attention_mask, token_type_ids and position_ids, with zeros (input_ids with
 * `pad_id`), of a model that takes an attention mask; what --mask names, with zeros; and what --pad
 * INPUT=VALUE names. All of one
 * record must be of one length. ERROR_USAGE for an input that is not there or does not vary. */
tidemill_error *padding_decide(const struct job_spec *spec, const struct model_signature *signature,
                               int64_t pad_id, struct padding *ret);

#endif
