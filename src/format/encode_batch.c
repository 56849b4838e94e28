/* SPDX-License-Identifier: Apache-2.0 */
/* encode_batch.c - lines of an OpenAI Batch output file: what a client reads that had its batch run by
 * the service itself. The keys stand in an order in which all that is the record's own comes first. */
#include "format/encode_parts.h"

/* A name of 32 hexadecimal digits; `tag` tells one sort from the others. */
static void append_name(struct buffer *out, const char *tag, struct digest job, uint64_t index)
{
    char text[DIGEST_TEXT_BYTES];
    struct {
        struct digest job;
        uint64_t index, tag;
    } of = {job, index, hash_checksum(tag, strlen(tag))};
    digest_text(hash_bytes(&of, sizeof of), text);
    buffer_byte(out, '"');
    buffer_text(out, tag);
    buffer_text(out, text);
    buffer_byte(out, '"');
}

/* Clients expect a string: a number becomes one. */
static void append_custom_id(struct buffer *out, struct slice id)
{
    bool is_string = id.size > 0 && id.data[0] == '"';
    if (id.size == 0) {
        buffer_text(out, "null");
        return;
    }
    if (!is_string) buffer_byte(out, '"');
    buffer_append(out, id.data, id.size);
    if (!is_string) buffer_byte(out, '"');
}

void batch_append_names(struct buffer *out, struct digest job, uint64_t index, struct slice id)
{
    buffer_text(out, "{\"id\":");
    append_name(out, "batch_req_", job, index);
    buffer_text(out, ",\"custom_id\":");
    append_custom_id(out, id);
}

void batch_append_head(const struct encoder *encoder, const struct record *record, uint64_t index,
                       struct buffer *out)
{
    batch_append_names(out, encoder->config.job, index, record->id);
    buffer_text(out, ",\"error\":null,\"response\":{\"request_id\":");
    append_name(out, "req_", encoder->config.job, index);
    buffer_text(out, ",\"status_code\":200,\"body\":");
}

enum error_code batch_append_answer(const struct encoder *encoder, struct encode_scratch *scratch,
                                    uint32_t row, struct buffer *out)
{
    enum error_code code = json_append_value(encoder, scratch, 0, row, out);
    buffer_append(out, "}}\n", 3);
    return code;
}

tidemill_error *batch_check(const struct encoder_config *config)
{
    if (config->n_outputs != 1 || !config->outputs[0].is_json)
        return error_new(ERROR_USAGE, "--output-format openai-batch is for models that answer with "
                                      "JSON, such as servers; use jsonl");
    if (config->n_keep > 0 || config->keep_all)
        return error_new(ERROR_USAGE, "--keep: the lines of --output-format openai-batch hold the "
                                      "id and the answer alone; use jsonl");
    return NULL;
}
