/* SPDX-License-Identifier: Apache-2.0 */
/* plan_climb_test.c - the search for a batch size ends, keeps its budget and finds a good one, on
 * simulated machines: what a call of b rows takes is a formula, with or without noise. */
#include "expect.h"

#include "plan/plan.h"

#include <math.h>

#define CALLS_MAX 64  /* as the engine does it */
#define LONG_JOB 1e12 /* rows: the climb has its longest budget */
#define BUDGET_S_MAX 2.0
#define BUDGET_S_MIN 0.06
#define BUDGET_SHARE 0.01
#define SIZES_MAX 20 /* 1, 2, 4, ... 65536 and one that is no power of two */

struct machine {
    double call_s;       /* of a call, whatever is in it */
    double row_s;        /* of a row */
    double row_square_s; /* grows with the batch: caches that overflow, swapping */
    double noise;        /* a call takes up to this share more or less */
    uint32_t rows_fit;   /* more do not fit the memory; 0: all do */
};

struct outcome {
    uint32_t batch;
    double rate;      /* true one, of that batch */
    double best_rate; /* of all sizes that could have been tried */
    double spent_s;
    uint32_t n_measured;
    bool has_met_budget;
};

static double true_call_s(const struct machine *machine, uint32_t batch)
{
    double b = batch;
    return machine->call_s + b * machine->row_s + b * b * machine->row_square_s;
}

static double call(const struct machine *machine, uint32_t batch, uint64_t *state)
{
    double share = (double)random_below(state, 1000001) / 500000 - 1;
    return true_call_s(machine, batch) * (1 + machine->noise * share);
}

static bool fits(const struct machine *machine, uint32_t batch)
{
    return machine->rows_fit == 0 || batch <= machine->rows_fit;
}

/* The rate of the best of 1, 2, 4, ... batch_max that fits. */
static double best_rate(const struct machine *machine, uint32_t batch_max)
{
    double best = 0;
    for (uint64_t b = 1;; b = MIN(b * 2, (uint64_t)batch_max)) {
        if (fits(machine, (uint32_t)b))
            best = MAX(best, (double)b / true_call_s(machine, (uint32_t)b));
        if (b >= batch_max) return best;
    }
}

/* What a job of so many rows grants when it runs at that rate. */
static double budget_of(double rows_total, double rate)
{
    return MIN(MAX(BUDGET_SHARE * rows_total / rate, BUDGET_S_MIN), BUDGET_S_MAX);
}

static struct outcome climb_on(const struct machine *machine, uint32_t batch_max, double rows_total,
                               uint64_t *state)
{
    struct batch_climb climb;
    struct outcome outcome = {0};
    uint32_t last = 0;
    double first_rate = 1 / call(machine, 1, state), budget_s = budget_of(rows_total, first_rate);
    batch_climb_start(&climb, batch_max, rows_total, first_rate);
    while (!climb.is_done) {
        double least_s = batch_climb_measure_s(&climb), seconds = 0;
        uint64_t rows = 0;
        assert_true(least_s > 0);
        assert_in_range(climb.batch, 1, batch_max);
        assert_true(climb.batch > last);         /* never one size twice: it ends */
        assert_true(outcome.spent_s < budget_s); /* the budget and at most one measurement more */
        last = climb.batch;
        for (int i = 0; i < CALLS_MAX && seconds < least_s; i++) {
            seconds += call(machine, climb.batch, state);
            rows += climb.batch;
        }
        batch_climb_step(&climb, rows, seconds, fits(machine, climb.batch));
        outcome.spent_s += seconds;
        if (climb.best_rate_rows_s > 0) budget_s = budget_of(rows_total, climb.best_rate_rows_s);
        if (++outcome.n_measured > SIZES_MAX) fail_msg("the climb does not end");
    }
    outcome.batch = climb.best_batch;
    outcome.rate = (double)climb.best_batch / true_call_s(machine, climb.best_batch);
    outcome.best_rate = best_rate(machine, batch_max);
    outcome.has_met_budget = outcome.spent_s >= budget_s;
    assert_in_range(climb.best_batch, 1, batch_max);
    return outcome;
}

/* --- curves by name --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    struct machine machine;
    uint32_t batch_max;
    double rows_total;
    uint32_t batch_min, batch_most; /* what may be picked */
} curves[] = {
    {"calls dear, rows cheap: stopped before the top",
     {.call_s = 1e-3, .row_s = 1e-6},
     65536,
     LONG_JOB,
     16384,
     65536},
    {"calls cheap: memory spent for nothing",
     {.call_s = 1e-7, .row_s = 1e-4},
     4096,
     LONG_JOB,
     1,
     32},
    {"nothing gained beyond calls of 2 ms", {.row_s = 1e-4}, 4096, LONG_JOB, 1, 32},
    {"nothing gained, calls long: memory spent for nothing", {.row_s = 4e-3}, 4096, LONG_JOB, 1, 1},
    {"ran past the peak",
     {.call_s = 1e-3, .row_s = 1e-5, .row_square_s = 1e-6},
     4096,
     LONG_JOB,
     16,
     64},
    {"the last size, no power of two, was not tried",
     {.call_s = 1e-2, .row_s = 1e-6},
     1000,
     LONG_JOB,
     1000,
     1000},
    {"one row only", {.call_s = 1e-3}, 1, LONG_JOB, 1, 1},
    {"took a size that memory does not hold",
     {.call_s = 1e-2, .row_s = 1e-6, .rows_fit = 100},
     4096,
     LONG_JOB,
     64,
     64},
    {"a slow model was measured on and on", {.call_s = 20, .row_s = 1}, 4096, LONG_JOB, 1, 1},
    {"a short job was measured for longer than it runs",
     {.call_s = 0.1, .row_s = 1e-3},
     4096,
     50,
     1,
     1},
    {"an input of unknown length was not measured",
     {.call_s = 1e-3, .row_s = 1e-6},
     256,
     0,
     16,
     256},
    {"a slow model's budget was not used up",
     {.call_s = 0.4, .row_s = 1e-4},
     4096,
     LONG_JOB,
     16,
     16},
};

static void known_curves_end_where_they_should(void **unused)
{
    (void)unused;
    uint64_t state = 1;
    for (size_t i = 0; i < COUNT_OF(curves); i++) {
        struct outcome outcome =
            climb_on(&curves[i].machine, curves[i].batch_max, curves[i].rows_total, &state);
        if (outcome.batch < curves[i].batch_min || outcome.batch > curves[i].batch_most)
            fail_msg("%s: batch %u", curves[i].name, outcome.batch);
    }
}

static void memory_that_never_fits_leaves_a_batch_of_one(void **unused)
{
    (void)unused;
    struct batch_climb climb;
    batch_climb_start(&climb, 1024, LONG_JOB, 100);
    batch_climb_step(&climb, 10, 0.1, false);
    assert_true(climb.is_done);
    assert_int_equal(climb.best_batch, 1);
    assert_true(climb.best_rate_rows_s == 0); /* nobody takes this for a measured size */
}

static void memory_that_ends_stops_before_a_larger_try(void **unused)
{
    (void)unused;
    struct batch_climb climb;
    batch_climb_start(&climb, 1024, LONG_JOB, 100);
    batch_climb_step(&climb, 100, 0.1, true);
    assert_int_equal(climb.batch, 2);
    batch_climb_step(&climb, 1000, 0.1, false); /* ten times as fast, but too large */
    assert_true(climb.is_done);
    assert_int_equal(climb.best_batch, 1);
}

static void one_slow_size_is_not_the_end(void **unused)
{
    (void)unused;
    struct batch_climb climb;
    static const double rates[] = {100, 180, 90, 400}; /* an accident at 4 */
    batch_climb_start(&climb, 8, LONG_JOB, 100);
    for (size_t i = 0; i < COUNT_OF(rates); i++) {
        assert_false(climb.is_done);
        batch_climb_step(&climb, (uint64_t)rates[i], 0.4, true);
    }
    assert_true(climb.is_done);
    assert_int_equal(climb.best_batch, 8);
}

static void no_rows_and_no_time_still_give_a_batch(void **unused)
{
    (void)unused;
    struct batch_climb climb;
    batch_climb_start(&climb, 0, 0, 0); /* a limit of 0 counts as 1 */
    assert_false(climb.is_done);
    assert_true(batch_climb_measure_s(&climb) > 0);
    batch_climb_step(&climb, 1, 0, true); /* a clock that did not move */
    assert_true(climb.is_done);
    assert_int_equal(climb.best_batch, 1);
}

/* --- any curve -------------------------------------------------------------------------------- */

/* From 1e-7 to `most`, every order of magnitude as likely as the other. */
static double random_magnitude(uint64_t *state, double most)
{
    double share = (double)random_below(state, 1000001) / 1000000;
    return 1e-7 * pow(most / 1e-7, share);
}

static struct machine random_machine(uint64_t *state, double noise)
{
    struct machine machine = {
        .call_s = random_magnitude(state, 0.1),
        .row_s = random_magnitude(state, 0.01),
        .noise = noise,
    };
    if (random_below(state, 2) == 0) machine.row_square_s = random_magnitude(state, 1e-4);
    if (random_below(state, 4) == 0) machine.rows_fit = 1 + (uint32_t)random_below(state, 4096);
    return machine;
}

/* A climb stops where two doublings together gained less than 3%; the gains of these curves at
 * least halve with each doubling, so that less than 5% are left. With noise e a gain may look 2 e
 * less. */
static void any_curve_gives_nearly_the_best_batch(void **unused)
{
    (void)unused;
    static const double noises[] = {0, 0.005, 0.02};
    uint64_t state = random_seed(__func__);
    size_t n_within_budget = 0;
    for (size_t n = 0; n < COUNT_OF(noises); n++) {
        for (int round = 0; round < 3000; round++) {
            struct machine machine = random_machine(&state, noises[n]);
            uint32_t batch_max = 1 + (uint32_t)random_below(&state, 65536);
            double rows_total = pow(10, (double)random_below(&state, 1200) / 100) - 1;
            struct outcome outcome = climb_on(&machine, batch_max, rows_total, &state);
            if (outcome.has_met_budget || !fits(&machine, 1)) continue;
            n_within_budget++;
            double share = outcome.rate / outcome.best_rate;
            if (share < 0.95 - 4 * noises[n])
                fail_msg("round %d: batch %u of %u has %.1f%% of the best rate; call %g row %g "
                         "square %g noise %g fit %u rows %g",
                         round, outcome.batch, batch_max, share * 100, machine.call_s,
                         machine.row_s, machine.row_square_s, machine.noise, machine.rows_fit,
                         rows_total);
        }
    }
    assert_true(n_within_budget > 1000); /* or nothing was tested */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_curves_end_where_they_should),
        cmocka_unit_test(memory_that_never_fits_leaves_a_batch_of_one),
        cmocka_unit_test(memory_that_ends_stops_before_a_larger_try),
        cmocka_unit_test(one_slow_size_is_not_the_end),
        cmocka_unit_test(no_rows_and_no_time_still_give_a_batch),
        cmocka_unit_test(any_curve_gives_nearly_the_best_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
