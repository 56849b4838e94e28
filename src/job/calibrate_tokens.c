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
#define CALL_TOKENS_MAX 4096

struct length_class {
    uint64_t tokens; /* of the first chunk */
    uint32_t n_rows;
    uint32_t row, length; /* the one to be measured with */
    bool is_tried;
};

struct token_climb {
    const struct calibration *calibration;
    const struct plan_row *rows;
    size_t n_rows;
    struct length_class classes[PLAN_CLASSES];
    struct calibrated *found;
    double seconds; /* that the first chunk would take, as far as it was measured */
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
        if (!class->is_tried && class->n_rows > 0 && climb->found->tokens[c] == 0 &&
            (best == NULL || class->tokens > best->tokens))
            best = class;
    }
    bool is_worth = best != NULL && (double)best->tokens >= SHARE_WORTH_MEASURING * (double)total;
    return is_worth ? best : NULL;
}

/* Seconds a call = a + b x tokens, by its smallest and its best measured size: a / b. 0: not to be told. */
static double tokens_of_a_call(double one_s, double best_s, uint32_t length, uint32_t best_rows)
{
    double token_s = (best_s - one_s) / ((double)length * (best_rows - 1));
    if (best_rows < 2 || token_s <= 0) return 0;
    double call_tokens = one_s / token_s - length;
    return MIN(MAX(call_tokens, 1.0), (double)CALL_TOKENS_MAX);
}

/* ROWS_MAX times the row that stands for the class. */
static tidemill_error *probe_of(struct token_climb *climb, const struct length_class *class,
                                struct probe *ret)
{
    struct chunk *chunk = climb->calibration->chunk;
    uint64_t rows_max = MAX(TOKENS_MAX / class->length, UINT64_C(1));
    uint32_t *rows = arena_alloc(&chunk->arena, ROWS_MAX * sizeof *rows);
    if (rows == NULL) return error_memory();
    for (uint32_t i = 0; i < ROWS_MAX; i++) rows[i] = class->row;
    *ret = (struct probe){
        .mb = {.chunk = chunk, .rows = rows, .n_rows = 1},
        .rows_max = (uint32_t)MIN(rows_max, (uint64_t)ROWS_MAX),
        .length = class->length,
        .class = plan_class_of(class->length),
        .rows_share = (double)class->n_rows / (double)climb->n_rows,
    };
    return NULL;
}

/* *ret_one_s: of a call with one row. Leaves probe->rate_rows_s 0 when calls fail. */
static tidemill_error *climb_probe(const struct calibration *c, struct probe *probe,
                                   double *ret_one_s)
{
    struct measurement result;
    struct batch_climb steps;
    uint32_t good = 1;
    TRY(measure_microbatch(c, &probe->mb, 0, &result)); /* loads what the first call loads */
    if (!result.is_usable) return NULL;
    TRY(measure_microbatch(c, &probe->mb, 0, &result));
    if (!result.is_usable) return NULL;
    *ret_one_s = result.seconds / (double)result.rows;
    batch_climb_start(&steps, probe->rows_max,
                      c->records_total * probe->rows_share / c->instances_max,
                      1 / MAX(*ret_one_s, 1e-9));
    while (!steps.is_done && !c->stop->is_asked) {
        probe->mb.n_rows = steps.batch;
        TRY(measure_microbatch(c, &probe->mb, batch_climb_measure_s(&steps), &result));
        bool fits = result.is_usable && measure_fits_memory(c);
        if (!fits) probe->rows_max = good; /* what failed once is not tried again */
        if (!result.is_usable) break;
        good = steps.batch;
        if (steps.batch == 1) *ret_one_s = result.seconds / (double)result.rows;
        batch_climb_step(&steps, result.rows, result.seconds, fits);
    }
    probe->mb.n_rows = steps.best_batch;
    probe->rate_rows_s = steps.best_rate_rows_s;
    return NULL;
}

static tidemill_error *measure_class(struct token_climb *climb, struct length_class *class)
{
    struct calibrated *found = climb->found;
    struct probe *probe = &found->probes[found->n_probes];
    double one_s = 0;
    class->is_tried = true;
    TRY(probe_of(climb, class, probe));
    TRY(climb_probe(climb->calibration, probe, &one_s));
    if (probe->rate_rows_s <= 0) return NULL;
    found->n_probes++;
    found->tokens[probe->class] = probe->mb.n_rows * probe->length;
    climb->seconds += (double)class->n_rows / probe->rate_rows_s;
    if (found->call_tokens == 0)
        found->call_tokens = (uint32_t)tokens_of_a_call(
            one_s, probe->mb.n_rows / probe->rate_rows_s, probe->length, probe->mb.n_rows);
    return NULL;
}

static tidemill_error *climb_tokens(struct token_climb *climb)
{
    uint64_t measured_tokens = 0, tokens = 0;
    struct length_class *class;
    while (climb->found->n_probes < PROBES_MAX && (class = next_class(climb)) != NULL) {
        size_t n_before = climb->found->n_probes;
        TRY(measure_class(climb, class));
        if (climb->found->n_probes > n_before) measured_tokens += class->tokens;
    }
    for (size_t i = 0; i < PLAN_CLASSES; i++) tokens += climb->classes[i].tokens;
    double seconds = climb->seconds * (double)tokens / (double)MAX(measured_tokens, UINT64_C(1));
    if (seconds > 0) climb->found->rate_rows_s = (double)climb->n_rows / seconds;
    return NULL;
}

static tidemill_error *sort_rows(struct token_climb *climb)
{
    const struct calibration *c = climb->calibration;
    struct plan_row *rows = NULL;
    TRY(chunk_rows(c->chunk, runtime_signature(c->runtime), &rows, &climb->n_rows));
    if (climb->n_rows > 0) qsort(rows, climb->n_rows, sizeof *rows, compare_lengths);
    climb->rows = rows;
    sort_into_classes(climb);
    return NULL;
}

tidemill_error *calibrate_tokens(const struct calibration *calibration, struct calibrated *known)
{
    struct token_climb climb = {.calibration = calibration, .found = known};
    TRY(sort_rows(&climb));
    return climb_tokens(&climb);
}

tidemill_error *calibrate_token_probes(const struct calibration *calibration, struct probe *probes,
                                       size_t *ret_n)
{
    struct calibrated none = {0};
    struct token_climb climb = {.calibration = calibration, .found = &none};
    struct length_class *class;
    TRY(sort_rows(&climb));
    for (*ret_n = 0; *ret_n < PROBES_MAX && (class = next_class(&climb)) != NULL; (*ret_n)++) {
        class->is_tried = true;
        TRY(probe_of(&climb, class, &probes[*ret_n]));
    }
    return NULL;
}
