/* SPDX-License-Identifier: Apache-2.0 */
/* calibrate_tokens.c - how many tokens make the best call, for each class of lengths that matters.
 *
 * Rows of one length, the middle one of a class, are run in growing numbers; plan/batch_climb.c judges
 * them. Classes that hold little of the first chunk's tokens take over what the nearest one
 * found. The smallest call and the best one give what a call costs beside its tokens. */
#include "job/calibrate.h"

#include <stdlib.h>

/* Rows of one call at most; also bounded by the budget of tokens. */
#define ROWS_MAX 4096
#define TOKENS_MAX ((uint64_t)1 << 16)
/* A class with less of the tokens is not worth measuring. */
#define SHARE_WORTH_MEASURING 0.08
#define CLASSES_MEASURED_MAX 4
/* Where nothing can be measured. */
#define TOKENS_USUAL 1024
#define CALL_TOKENS_USUAL 16
#define CALL_TOKENS_MAX 4096

struct length_class {
    uint64_t tokens; /* of the first chunk */
    uint32_t n_rows;
    uint32_t row, length; /* the one to be measured with */
    uint32_t best_tokens; /* 0: not measured */
};

struct token_climb {
    const struct calibration *calibration;
    const struct plan_row *rows;
    size_t n_rows;
    struct length_class classes[PLAN_CLASSES];
    uint32_t *repeated; /* ROWS_MAX times the row that is measured */
    double call_tokens; /* of the class with the most tokens; negative: not known */
    double seconds;     /* that the first chunk would take */
};

/* The middle row of each class, rows being sorted by length. */
static void sort_into_classes(struct token_climb *climb)
{
    for (size_t i = 0; i < climb->n_rows; i++) {
        struct length_class *class = &climb->classes[plan_class_of(climb->rows[i].length)];
        class->n_rows++;
        class->tokens += climb->rows[i].length;
    }
    uint32_t seen[PLAN_CLASSES] = {0};
    for (size_t i = 0; i < climb->n_rows; i++) {
        uint32_t c = plan_class_of(climb->rows[i].length);
        struct length_class *class = &climb->classes[c];
        if (seen[c]++ != class->n_rows / 2) continue;
        class->row = climb->rows[i].index;
        class->length = MAX(climb->rows[i].length, 1U);
    }
}

static int compare_lengths(const void *a, const void *b)
{
    const struct plan_row *left = a, *right = b;
    if (left->length != right->length) return left->length < right->length ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

/* *ret is the class with the most tokens that was not measured yet; NULL: none is worth it. */
static struct length_class *next_class(struct token_climb *climb)
{
    struct length_class *best = NULL;
    uint64_t total = 0;
    for (size_t c = 0; c < PLAN_CLASSES; c++) {
        struct length_class *class = &climb->classes[c];
        total += class->tokens;
        if (class->best_tokens == 0 && class->n_rows > 0 &&
            (best == NULL || class->tokens > best->tokens))
            best = class;
    }
    bool is_worth = best != NULL && (double)best->tokens >= SHARE_WORTH_MEASURING * (double)total;
    return is_worth ? best : NULL;
}

/* Seconds a call = a + b x tokens, by its smallest and its best measured size: a / b. */
static double tokens_of_a_call(double one_s, double best_s, uint32_t length, uint32_t best_rows)
{
    double token_s = (best_s - one_s) / ((double)length * (best_rows - 1));
    if (best_rows < 2 || token_s <= 0) return CALL_TOKENS_USUAL;
    double call_tokens = one_s / token_s - length;
    return MIN(MAX(call_tokens, 1.0), (double)CALL_TOKENS_MAX);
}

static tidemill_error *measure_class(struct token_climb *climb, struct length_class *class)
{
    const struct calibration *c = climb->calibration;
    struct microbatch mb = {.chunk = c->chunk, .rows = climb->repeated, .n_rows = 1};
    struct measurement result;
    struct batch_climb steps;
    uint64_t rows_max = MAX(TOKENS_MAX / class->length, UINT64_C(1));
    for (uint32_t i = 0; i < ROWS_MAX; i++) climb->repeated[i] = class->row;
    class->best_tokens = TOKENS_USUAL;
    TRY(measure_microbatch(c, &mb, 0, &result)); /* loads what the first call loads */
    if (!result.is_usable) return NULL;
    TRY(measure_microbatch(c, &mb, 0, &result));
    if (!result.is_usable) return NULL;
    double one_s = result.seconds / (double)result.rows;
    batch_climb_start(&steps, (uint32_t)MIN(rows_max, (uint64_t)ROWS_MAX), c->records_total,
                      1 / MAX(one_s, 1e-9));
    while (!steps.is_done && !c->stop->is_asked) {
        mb.n_rows = steps.batch;
        TRY(measure_microbatch(c, &mb, batch_climb_measure_s(&steps), &result));
        if (!result.is_usable) break;
        if (steps.batch == 1) one_s = result.seconds / (double)result.rows;
        batch_climb_step(&steps, result.rows, result.seconds, measure_fits_memory(c));
    }
    if (steps.best_rate_rows_s <= 0) return NULL;
    class->best_tokens = steps.best_batch * class->length;
    climb->seconds += (double)class->n_rows / steps.best_rate_rows_s;
    if (climb->call_tokens < 0)
        climb->call_tokens = tokens_of_a_call(one_s, steps.best_batch / steps.best_rate_rows_s,
                                              class->length, steps.best_batch);
    return NULL;
}

/* Each class takes over what the nearest measured one found; of two, the longer one's. */
static uint32_t nearest_budget(const struct token_climb *climb, size_t class)
{
    for (size_t distance = 0; distance < PLAN_CLASSES; distance++) {
        if (class + distance < PLAN_CLASSES && climb->classes[class + distance].best_tokens > 0)
            return climb->classes[class + distance].best_tokens;
        if (distance <= class && climb->classes[class - distance].best_tokens > 0)
            return climb->classes[class - distance].best_tokens;
    }
    return TOKENS_USUAL;
}

static tidemill_error *climb_tokens(struct token_climb *climb, struct plan_limits *limits,
                                    double *ret_rate_rows_s)
{
    sort_into_classes(climb);
    uint64_t measured_tokens = 0, tokens = 0;
    struct length_class *class;
    for (int i = 0; i < CLASSES_MEASURED_MAX && (class = next_class(climb)) != NULL; i++) {
        TRY(measure_class(climb, class));
        measured_tokens += class->tokens;
    }
    for (size_t i = 0; i < PLAN_CLASSES; i++) {
        limits->tokens_max[i] = nearest_budget(climb, i);
        tokens += climb->classes[i].tokens;
    }
    limits->call_tokens =
        (uint32_t)(climb->call_tokens < 0 ? CALL_TOKENS_USUAL : climb->call_tokens);
    double seconds = climb->seconds * (double)tokens / (double)MAX(measured_tokens, UINT64_C(1));
    *ret_rate_rows_s = seconds > 0 ? (double)climb->n_rows / seconds : 0;
    return NULL;
}

tidemill_error *calibrate_tokens(const struct calibration *calibration, struct plan_limits *limits,
                                 double *ret_rate_rows_s)
{
    struct plan_row *rows = NULL;
    struct token_climb climb = {.calibration = calibration, .call_tokens = -1};
    TRY(chunk_rows(calibration->chunk, runtime_signature(calibration->runtime), &rows,
                   &climb.n_rows));
    climb.repeated = calloc(ROWS_MAX, sizeof *climb.repeated);
    if (climb.repeated == NULL) return error_memory();
    if (climb.n_rows > 0) qsort(rows, climb.n_rows, sizeof *rows, compare_lengths);
    climb.rows = rows;
    tidemill_error *error = climb_tokens(&climb, limits, ret_rate_rows_s);
    free(climb.repeated);
    return error;
}
