/* SPDX-License-Identifier: Apache-2.0 */
/* plan_tuner_test.c - fine steps around a batch size, and duels of configurations, on simulated machines:
 * they keep their budgets, find what is best, and never leave what is good for noise. */
#include "expect.h"

#include "plan/plan.h"

#include <math.h>

#define MACHINES 400
#define LONG_S 60.0 /* a budget that is not the limit */

/* A call of b rows takes call_s + b row_s + b^2 row_square_s: rows/s has one top. */
struct machine {
    double call_s, row_s, row_square_s;
    double noise;       /* standard deviation of a measurement, as a share */
    double spike_share; /* of measurements that take half as long again */
    uint32_t rows_fit;  /* 0: all do */
};

static double true_rate(const struct machine *machine, uint32_t batch)
{
    double b = batch;
    return b / (machine->call_s + b * machine->row_s + b * b * machine->row_square_s);
}

static double random_share(uint64_t *state)
{
    return (double)random_below(state, 1000001) / 1e6;
}

/* Sum of 12 uniform ones: near enough to a normal one. */
static double random_normal(uint64_t *state)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += random_share(state);
    return sum;
}

static double measured_rate(const struct machine *machine, uint32_t batch, uint64_t *state)
{
    double factor = 1 + machine->noise * random_normal(state);
    if (random_share(state) < machine->spike_share) factor *= 1.5;
    return true_rate(machine, batch) / MAX(factor, 0.2);
}

struct outcome {
    uint32_t batch;
    double spent_s;
    uint32_t n_measured;
};

static struct outcome tune_on(const struct machine *machine, uint32_t start, uint32_t batch_max,
                              double budget_s, uint64_t *state)
{
    struct batch_tuner tuner;
    struct outcome outcome = {0};
    double rate;
    batch_tuner_start(&tuner, start, batch_max, budget_s);
    while (!tuner.is_done) {
        assert_in_range(tuner.batch, 1, batch_max);
        assert_true(outcome.spent_s < budget_s); /* the budget and at most one measurement more */
        double call_s = tuner.batch / true_rate(machine, tuner.batch);
        double seconds = MAX(batch_tuner_measure_s(&tuner), call_s);
        double rows = measured_rate(machine, tuner.batch, state) * seconds;
        bool fits = machine->rows_fit == 0 || tuner.batch <= machine->rows_fit;
        batch_tuner_step(&tuner, (uint64_t)(rows * 1000), seconds * 1000, seconds, fits);
        outcome.spent_s += seconds;
        if (++outcome.n_measured > TUNER_POINTS_MAX * TUNER_ROUNDS_MAX)
            fail_msg("the tuner does not end");
    }
    outcome.batch = batch_tuner_best(&tuner, &rate);
    assert_true(outcome.n_measured == 0 || rate > 0);
    return outcome;
}

static double best_rate(const struct machine *machine, uint32_t batch_max)
{
    double best = 0;
    for (uint32_t b = 1; b <= batch_max; b++) best = MAX(best, true_rate(machine, b));
    return best;
}

/* The top lies where call_s = b^2 row_square_s. */
static struct machine machine_with_top(double top, double call_s, double share)
{
    return (struct machine){
        .call_s = call_s, .row_s = share * call_s / top, .row_square_s = call_s / (top * top)};
}

static uint32_t power_of_two_near(double top)
{
    return (uint32_t)1 << (uint32_t)lround(log2(top));
}

/* Steps of x 1.41 miss a top between two of them by at most 1.5%. */
static void the_top_is_found(void **unused)
{
    (void)unused;
    uint64_t state = random_seed("the_top_is_found");
    double worst = 1;
    int n_near = 0;
    for (int i = 0; i < MACHINES; i++) {
        double top = exp2(1 + 10 * random_share(&state));
        struct machine machine = machine_with_top(top, 1e-3, random_share(&state));
        machine.noise = 0.01;
        machine.spike_share = 0.05;
        struct outcome outcome = tune_on(&machine, power_of_two_near(top), 4096, LONG_S, &state);
        double share = true_rate(&machine, outcome.batch) / best_rate(&machine, 4096);
        worst = MIN(worst, share);
        n_near += share >= 0.98;
    }
    if (worst < 0.93) fail_msg("the worst of the machines reached %.4f of its best", worst);
    if (n_near < MACHINES * 93 / 100) fail_msg("%d of %d are within 2%%", n_near, MACHINES);
}

/* The climb stopped one or two doublings beside the top: the edge is followed. */
static void the_edge_is_followed(void **unused)
{
    (void)unused;
    uint64_t state = 5;
    static const uint32_t starts[] = {32, 64, 256, 512};
    for (size_t i = 0; i < COUNT_OF(starts); i++) {
        struct machine machine = machine_with_top(128, 1e-3, 0.2);
        struct outcome outcome = tune_on(&machine, starts[i], 4096, LONG_S, &state);
        double share = true_rate(&machine, outcome.batch) / best_rate(&machine, 4096);
        if (share < 0.98)
            fail_msg("from %u: %u rows, %.3f of the best", starts[i], outcome.batch, share);
    }
}

static void noise_alone_loses_little(void **unused)
{
    (void)unused;
    uint64_t state = random_seed("noise_alone_loses_little");
    int n_worse = 0;
    for (int i = 0; i < MACHINES; i++) {
        double top = exp2(1 + 10 * random_share(&state));
        struct machine machine = machine_with_top(top, 1e-3, random_share(&state));
        uint32_t start = power_of_two_near(top);
        machine.noise = 0.05;
        machine.spike_share = 0.1;
        struct outcome outcome = tune_on(&machine, start, 4096, 0.5, &state);
        double share = true_rate(&machine, outcome.batch) / true_rate(&machine, start);
        if (share < 0.8) fail_msg("%u rows instead of %u: %.3f", outcome.batch, start, share);
        n_worse += share < 0.88;
    }
    if (n_worse > MACHINES / 50) fail_msg("%d of %d lost more than 12%%", n_worse, MACHINES);
}

static void budgets_are_kept(void **unused)
{
    (void)unused;
    uint64_t state = random_seed("budgets_are_kept");
    for (int i = 0; i < MACHINES; i++) {
        double budget_s = exp(-6 + 8 * random_share(&state));
        struct machine machine =
            machine_with_top(exp2(10 * random_share(&state)), random_share(&state) / 10, 0.5);
        machine.noise = 0.05;
        uint32_t start = 1 + (uint32_t)random_below(&state, 1024);
        tune_on(&machine, start, 1024, budget_s, &state); /* asserts inside */
    }
}

static void what_does_not_fit_is_not_taken(void **unused)
{
    (void)unused;
    uint64_t state = 3;
    struct machine machine = machine_with_top(4096, 1e-2, 0);
    machine.rows_fit = 64;
    assert_int_equal(tune_on(&machine, 64, 4096, LONG_S, &state).batch, 64);
    machine.rows_fit = 90; /* 88 and 90 do, 96 does not */
    assert_in_range(tune_on(&machine, 64, 4096, LONG_S, &state).batch, 64, 90);
}

static void no_budget_and_one_row_end_at_once(void **unused)
{
    (void)unused;
    uint64_t state = 4;
    struct machine machine = machine_with_top(16, 1e-3, 0);
    assert_int_equal(tune_on(&machine, 4, 64, 0, &state).n_measured, 0);
    assert_int_equal(tune_on(&machine, 1, 1, LONG_S, &state).n_measured, 0);
    struct outcome outcome = tune_on(&machine, 4, 64, 1e-6, &state);
    assert_int_equal(outcome.n_measured, 1); /* a budget of nearly nothing: the start stays */
    assert_int_equal(outcome.batch, 4);
}

static void budgets_by_length_of_the_job(void **unused)
{
    (void)unused;
    assert_true(tuning_budget_s(0, 100) == 0);
    assert_true(tuning_budget_s(1000, 0) == 0);
    assert_true(fabs(tuning_budget_s(1000, 100) - 0.3) < 1e-9);
    assert_true(tuning_budget_s(1e12, 1) == 5);
}

/* --- duels -------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double ratios[DUEL_ROUNDS_MAX]; /* 0: the other one fails */
    double round_s, budget_s;
    bool is_won;
    uint32_t n_rounds; /* measured */
} duels[] = {
    {"clearly faster is taken soon", {1.3, 1.2, 1.25, 1.3, 1.2}, 0.1, 9, true, 5},
    {"clearly slower is dropped at once", {0.7, 0.8, 0.75}, 0.1, 9, false, 3},
    {"4% faster in all rounds",
     {1.04, 1.04, 1.05, 1.04, 1.04, 1.03, 1.04, 1.04, 1.05},
     0.1,
     9,
     true,
     9},
    {"2% faster is not worth it",
     {1.02, 1.02, 1.02, 1.02, 1.02, 1.02, 1.02, 1.02, 1.02},
     0.1,
     9,
     false,
     9},
    {"rounds that differ much prove nothing",
     {1.2, 0.9, 1.3, 0.8, 1.1, 0.9, 1.2, 1.04, 0.9},
     0.1,
     9,
     false,
     9},
    {"four rounds prove nothing", {1.3, 1.3, 1.3, 1.3}, 1, 3.5, false, 4},
    {"a budget that ends after a clear result", {1.3, 1.05, 1.2, 1.1, 1.2}, 1, 4.5, true, 5},
    {"what fails is not taken", {1.3, 0}, 0.1, 9, false, 2},
};

static void duels_end_as_they_should(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < COUNT_OF(duels); i++) {
        struct duel duel;
        uint32_t n = 0;
        duel_start(&duel, duels[i].budget_s);
        while (!duel.is_done && n < DUEL_ROUNDS_MAX)
            duel_step(&duel, 1000, 1000 * duels[i].ratios[n++], duels[i].round_s);
        if (!duel.is_done || duel.is_won != duels[i].is_won || n != duels[i].n_rounds)
            fail_msg("%s: won %d after %u rounds", duels[i].name, duel.is_won, n);
    }
}

/* Equal ones with 3% of noise in each: hardly ever is there a change, and it never costs much. */
static void equals_seldom_change(void **unused)
{
    (void)unused;
    uint64_t state = random_seed("equals_seldom_change");
    int n_won = 0;
    for (int i = 0; i < MACHINES; i++) {
        struct duel duel;
        duel_start(&duel, LONG_S);
        while (!duel.is_done)
            duel_step(&duel, 1 + 0.03 * random_normal(&state), 1 + 0.03 * random_normal(&state), 1);
        n_won += duel.is_won;
    }
    if (n_won > MACHINES / 20) fail_msg("%d of %d duels of equals changed", n_won, MACHINES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_top_is_found),
        cmocka_unit_test(the_edge_is_followed),
        cmocka_unit_test(noise_alone_loses_little),
        cmocka_unit_test(budgets_are_kept),
        cmocka_unit_test(what_does_not_fit_is_not_taken),
        cmocka_unit_test(no_budget_and_one_row_end_at_once),
        cmocka_unit_test(budgets_by_length_of_the_job),
        cmocka_unit_test(duels_end_as_they_should),
        cmocka_unit_test(equals_seldom_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
