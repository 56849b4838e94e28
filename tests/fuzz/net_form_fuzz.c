/* SPDX-License-Identifier: Apache-2.0 */
/* net_form_fuzz.c - any bytes as a form, arriving in pieces whose size the first byte chooses. Parts begin and
 * end in turn, names are short and clean, no more bytes come out than went in, and the pieces do not matter. */
#include "net/form.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    const uint8_t *data;
    size_t left, piece;
    bool is_in_part;
    struct buffer out;
    int n_parts;
};

static void require(bool is_true)
{
    if (!is_true) abort();
}

static tidemill_error *read_piece(void *context, void *data, size_t size, size_t *ret_size)
{
    struct state *state = context;
    size_t n = MIN(MIN(size, state->piece), state->left);
    if (n > 0) memcpy(data, state->data, n);
    if (n > 0) state->data += n;
    state->left -= n;
    *ret_size = n;
    return NULL;
}

static tidemill_error *begin(void *context, const char *name, const char *filename)
{
    struct state *state = context;
    require(!state->is_in_part && strlen(name) < FORM_NAME_BYTES &&
            strlen(filename) < FORM_NAME_BYTES);
    for (const char *p = name; *p != '\0'; p++) require((unsigned char)*p >= ' ');
    state->is_in_part = true;
    require(++state->n_parts <= FORM_PARTS_MAX);
    return NULL;
}

static tidemill_error *take(void *context, const void *data, size_t size)
{
    struct state *state = context;
    require(state->is_in_part && size > 0);
    buffer_append(&state->out, data, size);
    return NULL;
}

static tidemill_error *end(void *context)
{
    struct state *state = context;
    require(state->is_in_part);
    state->is_in_part = false;
    return NULL;
}

static bool run(const uint8_t *data, size_t size, size_t piece, struct state *state)
{
    *state = (struct state){.data = data, .left = size, .piece = piece};
    struct form_source source = {state, read_piece};
    struct net_form form = {state, begin, take, end};
    tidemill_error *error = form_read("multipart/form-data; boundary=b", &source, &form);
    require(error == NULL || error_code_of(error) == ERROR_INPUT);
    require(error != NULL || !state->is_in_part);
    require(state->out.size <= size);
    bool is_fine = error == NULL;
    error_free(error);
    return is_fine;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state whole, pieces;
    if (size < 1) return 0;
    bool is_fine = run(data + 1, size - 1, SIZE_MAX, &whole);
    require(run(data + 1, size - 1, 1 + data[0] % 64, &pieces) == is_fine);
    if (is_fine) {
        require(whole.n_parts == pieces.n_parts && whole.out.size == pieces.out.size);
        require(whole.out.size == 0 ||
                memcmp(whole.out.data, pieces.out.data, whole.out.size) == 0);
    }
    buffer_free(&whole.out);
    buffer_free(&pieces.out);
    /* and as the header that has the boundary */
    char *type = malloc(size);
    if (type == NULL) return 0;
    memcpy(type, data + 1, size - 1);
    type[size - 1] = '\0';
    struct form_source source = {&pieces, read_piece};
    struct net_form form = {&pieces, begin, take, end};
    pieces = (struct state){.piece = 1};
    tidemill_error *error = form_read(type, &source, &form);
    require(error_code_of(error) == ERROR_INPUT); /* there is no body */
    error_free(error);
    free(type);
    return 0;
}
