/* SPDX-License-Identifier: Apache-2.0 */
/* post.c - see post.h. */
#include "format/post.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TOP_K_MAX 1000

static tidemill_error *parse_step(const char *word, size_t size, struct post *post)
{
    if (post->pick != PICK_NONE)
        return error_new(ERROR_USAGE, "--post: nothing can follow argmax or topk");
    if (size == 4 && strncmp(word, "none", 4) == 0) return NULL;
    if (size == 6 && strncmp(word, "argmax", 6) == 0) {
        post->pick = PICK_ARGMAX;
        post->k = 1;
        return NULL;
    }
    if (size > 5 && strncmp(word, "topk:", 5) == 0) {
        char *end;
        unsigned long k = strtoul(word + 5, &end, 10);
        if (end != word + size || k < 1 || k > TOP_K_MAX)
            return error_new(ERROR_USAGE,
                             "--post: topk wants a number from 1 to %d, such as topk:5", TOP_K_MAX);
        post->pick = PICK_TOP_K;
        post->k = (uint32_t)k;
        return NULL;
    }
    bool is_softmax = size == 7 && strncmp(word, "softmax", 7) == 0;
    bool is_sigmoid = size == 7 && strncmp(word, "sigmoid", 7) == 0;
    if ((!is_softmax && !is_sigmoid) || post->n_steps == POST_STEPS_MAX)
        return error_new(ERROR_USAGE,
                         "--post: '%.*s' is none of softmax, sigmoid, argmax, topk:K, none",
                         (int)size, word);
    post->steps[post->n_steps++] = is_softmax ? POST_SOFTMAX : POST_SIGMOID;
    return NULL;
}

tidemill_error *post_parse(const char *text, struct post *ret)
{
    *ret = (struct post){0};
    if (text == NULL) return NULL;
    for (const char *p = text;;) {
        size_t size = strcspn(p, ",");
        TRY(parse_step(p, size, ret));
        if (p[size] == '\0') return NULL;
        p += size + 1;
    }
}

static void softmax(double *values, size_t n)
{
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) largest = values[i] > largest ? values[i] : largest;
    for (size_t i = 0; i < n; i++) sum += values[i] = exp(values[i] - largest);
    for (size_t i = 0; i < n; i++) values[i] /= sum;
}

void post_apply(const struct post *post, double *values, size_t n_rows, size_t n)
{
    for (size_t s = 0; s < post->n_steps; s++) {
        if (post->steps[s] == POST_SIGMOID)
            for (size_t i = 0; i < n_rows * n; i++) values[i] = 1 / (1 + exp(-values[i]));
        else
            for (size_t r = 0; r < n_rows; r++) softmax(values + r * n, n);
    }
}

/* Comparisons with NaN are false, so a number is above NaN only by the second half. */
static bool is_above(double a, double b)
{
    return a > b || (isnan(b) && !isnan(a));
}

size_t post_top(const double *values, size_t n, uint32_t k, uint32_t *ret_places)
{
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (found == k && !is_above(values[i], values[ret_places[found - 1]])) continue;
        size_t place = found < k ? found++ : found - 1;
        for (; place > 0 && is_above(values[i], values[ret_places[place - 1]]); place--)
            ret_places[place] = ret_places[place - 1];
        ret_places[place] = (uint32_t)i;
    }
    return found;
}
