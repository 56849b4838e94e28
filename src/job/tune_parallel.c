/* SPDX-License-Identifier: Apache-2.0 */
/* tune_parallel.c - many processes with one thread, or few with many: measured, side by side.
 *
 * Each way is another set of model processes, since a process has its threads from the start. It is
 * opened beside the one in use; both get the same records in turn, all their processes busy; the loser is
 * ended. plan/duel.c judges. */
#include "job/tune.h"

/* Of what is left of the budget, so much may go into one way. */
#define SHARE_OF_ONE 0.6
/* Rounds that must fit into the budget, or it is not begun: a round is four calls of each process. */
#define ROUNDS_THAT_MUST_FIT 6
#define CALLS_A_ROUND 8
/* Measurements of a duel: rounds x 2. */
#define MEASUREMENTS 18
#define MEASURE_S_MIN 0.003

static bool is_listed(const struct parallelism *list, size_t n, struct parallelism one)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].instances == one.instances && list[i].threads == one.threads) return true;
    return false;
}

size_t parallelism_list(int cores, int instances_max, struct parallelism *ret)
{
    size_t n = 0;
    for (int threads = 1; threads <= cores && n + 1 < PARALLELISMS_MAX; threads *= 2) {
        struct parallelism one = {.instances = cores / threads, .threads = threads};
        if (one.instances == 1) one.threads = cores;
        if (one.instances <= instances_max && !is_listed(ret, n, one)) ret[n++] = one;
    }
    struct parallelism alone = {.instances = 1, .threads = cores};
    if (!is_listed(ret, n, alone)) ret[n++] = alone;
    return n;
}

/* --- one against the other --------------------------------------------------------------------- */

struct contender {
    struct runtime *runtime;
    struct parallelism parallelism;
    uint32_t rows;
    double rate_rows_s; /* last measured, all processes together */
    double load_s;
};

/* *ret_rate 0: it failed, or passes the memory limit. */
static tidemill_error *measure_contender(struct calibration *c, struct probe *probe,
                                         struct contender *one, uint32_t rows, double least_s)
{
    struct measurement result;
    struct microbatch mb = probe->mb;
    mb.n_rows = rows;
    c->runtime = one->runtime;
    c->instances_max = one->parallelism.instances;
    TRY(measure_busy(c, &mb, least_s, &result));
    one->rate_rows_s =
        result.is_usable && measure_fits_memory(c) ? (double)result.rows / result.seconds : 0;
    return NULL;
}

/* More threads may want more rows: up to twice as many for twice the threads. */
static tidemill_error *choose_rows(struct calibration *c, struct probe *probe,
                                   const struct contender *present, struct contender *other,
                                   double least_s)
{
    int factor = MAX(other->parallelism.threads / present->parallelism.threads, 1);
    uint64_t rows_max = MIN((uint64_t)present->rows * (uint64_t)factor, (uint64_t)probe->rows_max);
    double best_rate = 0;
    other->rows = present->rows;
    if (rows_max <= present->rows) return NULL;
    for (uint64_t rows = present->rows; rows <= rows_max; rows *= 2) {
        TRY(measure_contender(c, probe, other, (uint32_t)rows, least_s));
        if (other->rate_rows_s <= best_rate) break;
        other->rows = (uint32_t)rows;
        best_rate = other->rate_rows_s;
    }
    return NULL;
}

static tidemill_error *fight(struct calibration *c, struct probe *probe, struct contender *present,
                             struct contender *other, double budget_s, bool *ret_is_won)
{
    struct duel duel;
    double least_s = MAX(budget_s / MEASUREMENTS, MEASURE_S_MIN);
    double started_s = clock_now_s();
    TRY(choose_rows(c, probe, present, other, least_s));
    duel_start(&duel, budget_s - (clock_now_s() - started_s));
    while (!duel.is_done) {
        started_s = clock_now_s();
        /* the order changes, so that none is always the one who comes first */
        struct contender *first = duel.n_rounds % 2 == 0 ? present : other;
        struct contender *second = first == present ? other : present;
        TRY(measure_contender(c, probe, first, first->rows, least_s));
        TRY(measure_contender(c, probe, second, second->rows, least_s));
        duel_step(&duel, present->rate_rows_s, other->rate_rows_s, clock_now_s() - started_s);
    }
    log_event(
        LOG_DEBUG, "%d x %d with %u rows: %.3f times as fast as %d x %d with %u, in %u rounds",
        other->parallelism.instances, other->parallelism.threads, other->rows, duel_ratio(&duel),
        present->parallelism.instances, present->parallelism.threads, present->rows, duel.n_rounds);
    *ret_is_won = duel.is_won;
    return NULL;
}

/* --- who is in use ----------------------------------------------------------------------------------- */

static void retire(struct tuning *tuning, struct runtime *runtime, bool is_in_use)
{
    struct runtime_stats stats;
    runtime_get_stats(runtime, &stats);
    tuning->ended_cpu_s += stats.cpu_s;
    if (is_in_use && tuning->first == NULL) {
        runtime_end_hosts(runtime); /* decoder and encoder hold its signature */
        tuning->first = runtime;
    } else {
        runtime_close(runtime);
    }
}

static void put_into_use(struct tuning *tuning, const struct contender *winner)
{
    retire(tuning, tuning->runtime, true);
    tuning->runtime = winner->runtime;
    tuning->load_s = winner->load_s;
    tuning->resources->instances_max = winner->parallelism.instances;
    tuning->resources->threads = winner->parallelism.threads;
}

/* *ret_is_open false: it could not be opened; that is no reason to stop. */
static tidemill_error *open_contender(const struct tuning *tuning, struct contender *one,
                                      bool *ret_is_open)
{
    struct runtime_options options = tuning->options;
    double started_s = clock_now_s();
    options.threads = one->parallelism.threads;
    options.instances_max = one->parallelism.instances;
    options.is_growing = false;
    tidemill_error *error = runtime_open(&options, &tuning->resources->region, &one->runtime);
    one->load_s = clock_now_s() - started_s;
    *ret_is_open = error == NULL;
    if (error == NULL || error_code_of(error) == ERROR_INTERRUPTED) return error;
    log_event(LOG_DEBUG, "%d x %d was not tried: %s", options.instances_max, options.threads,
              error_message(error));
    error_free(error);
    return NULL;
}

/* Both sets of processes are there at once while they are compared. */
static bool fits_beside(const struct calibration *c, const struct contender *present,
                        const struct contender *other)
{
    struct runtime_stats stats;
    runtime_get_stats(present->runtime, &stats);
    int n = present->parallelism.instances + other->parallelism.instances;
    return c->memory_bytes == 0 || stats.peak_memory_bytes * (uint64_t)n <= c->memory_bytes;
}

static bool is_affordable(const struct probe *probe, double load_s, double budget_s)
{
    double call_s = probe->mb.n_rows / MAX(probe->rate_rows_s, 1e-9);
    return load_s + ROUNDS_THAT_MUST_FIT * CALLS_A_ROUND * call_s <= budget_s;
}

static tidemill_error *challenge(struct tuning *tuning, struct calibration *c, struct probe *probe,
                                 struct contender *present, struct contender *other,
                                 double budget_s)
{
    bool is_open, is_won = false;
    TRY(open_contender(tuning, other, &is_open));
    if (!is_open) return NULL;
    tidemill_error *error = fight(c, probe, present, other, budget_s - other->load_s, &is_won);
    if (error == NULL && is_won) {
        put_into_use(tuning, other);
        *present = *other;
    } else {
        retire(tuning, other->runtime, false);
    }
    c->runtime = present->runtime;
    c->instances_max = present->parallelism.instances;
    return error;
}

tidemill_error *tune_parallelism(struct tuning *tuning, struct calibration *c, struct probe *probe,
                                 double budget_s, bool *ret_is_measured)
{
    struct parallelism list[PARALLELISMS_MAX];
    struct contender present = {.runtime = tuning->runtime, .rows = probe->mb.n_rows};
    present.parallelism.instances = tuning->resources->instances_max;
    present.parallelism.threads = tuning->resources->threads;
    int cores = tuning->resources->n_workers;
    size_t n = parallelism_list(cores, tuning->resources->instances_max, list);
    double end_s = clock_now_s() + budget_s;
    bool is_ready = false;
    *ret_is_measured = false;
    for (size_t i = 0; i < n; i++) {
        struct contender other = {.parallelism = list[i]};
        double left_s = SHARE_OF_ONE * (end_s - clock_now_s());
        if (is_listed(&present.parallelism, 1, list[i])) continue;
        if (!is_affordable(probe, tuning->load_s, left_s)) break;
        if (!fits_beside(c, &present, &other)) continue;
        runtime_want_hosts(present.runtime, present.parallelism.instances);
        if (!is_ready) TRY(measure_wait_for_hosts(c, present.parallelism.instances, &is_ready));
        if (!is_ready) break;
        TRY(challenge(tuning, c, probe, &present, &other, left_s));
        *ret_is_measured = true;
    }
    probe->mb.n_rows = present.rows;
    if (present.rate_rows_s > 0)
        probe->rate_rows_s = present.rate_rows_s / present.parallelism.instances;
    return NULL;
}
