/* SPDX-License-Identifier: Apache-2.0 */
/* tune.c - decides what a job runs with, as cheaply as its length allows.
 *
 *   1  what is given stays; what is remembered for this model and machine is taken over
 *   2  else batch sizes are measured with one process (calibrate.c), in a few hundredths of a second
 *   3  a longer job compares ways of using the cores (tune_parallel.c)
 *   4  ... and sizes between the powers of two, with all processes busy (plan/batch_tuner.c)
 *
 * Steps 3 and 4 end within tuning_budget_s. */
#include "job/tune.h"

#include "job/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Seconds inside the model that make up for starting another host. */
#define HOST_WORTH_S 0.6
/* What was remembered after measuring for so much less time than this job grants is measured again. */
#define BUDGET_FAR_LARGER 4
/* Below that a short job's figures are as good as it gets. */
#define BUDGET_S_SMALL 0.25
/* Calls that one round over three sizes takes, and rounds that must fit. */
#define CALLS_A_ROUND 9
#define ROUNDS_THAT_MUST_FIT 3
/* Rows of a request to a server that takes several, where none are given. */
#define SERVER_ROWS 32

/* --- what is known beforehand ------------------------------------------------------------------------ */

static tidemill_error *digest_model(struct tuning *tuning, const struct identity *identity)
{
    struct identity own = {0};
    struct hash_state *state = hash_state_new();
    if (state == NULL) return error_memory();
    tidemill_error *error = NULL;
    if (identity->n == 0) {
        error = identity_of_model(tuning->spec, tuning->io, &own);
        identity = &own;
    }
    for (size_t i = 0; i < identity->n; i++)
        if (strncmp(identity->parts[i].name, "model", 5) == 0)
            hash_state_add(state, identity->parts[i].value, strlen(identity->parts[i].value) + 1);
    digest_text(hash_state_digest(state), tuning->model_text);
    hash_state_free(state);
    identity_free(&own);
    return error;
}

static struct tune_key key_of(const struct tuning *tuning)
{
    return (struct tune_key){
        .model = tuning->model_text,
        .provider = tuning->spec->provider,
        .outputs = tuning->outputs.data,
        .cpu = tuning->cpu,
        .cores = tuning->resources->n_workers,
    };
}

/* What was measured holds where as many processes of that size fit. */
static bool is_entry_usable(const struct tuning *tuning)
{
    const struct tune_entry *entry = &tuning->entry;
    const struct resources *r = tuning->resources;
    return entry->instances <= r->instances_max &&
           (int64_t)entry->instances * entry->threads <= r->n_workers &&
           (r->memory_bytes == 0 || entry->host_bytes == 0 ||
            entry->host_bytes <= r->memory_bytes / (uint64_t)entry->instances);
}

static tidemill_error *recall(struct tuning *tuning, const struct identity *identity)
{
    const struct job_spec *spec = tuning->spec;
    if (spec->tune == TUNE_OFF) return NULL;
    enum model_kind kind = model_kind(spec->model);
    if (kind != MODEL_ONNX)
        return NULL; /* others tune themselves, or may change under their name */
    TRY(tune_memory_path(&tuning->memory_path));
    if (tuning->memory_path == NULL) return NULL;
    TRY(digest_model(tuning, identity));
    machine_cpu_name(tuning->io, tuning->cpu, sizeof tuning->cpu);
    for (size_t i = 0; i < spec->output_names.n; i++)
        buffer_printf(&tuning->outputs, "%s,", spec->output_names.items[i]);
    if (spec->precision != PRECISION_FP32)
        buffer_text(&tuning->outputs, precision_name((enum precision)spec->precision));
    buffer_byte(&tuning->outputs, '\0');
    if (tuning->outputs.is_failed) return error_memory();
    if (spec->tune == TUNE_ALWAYS) return NULL;
    struct tune_key key = key_of(tuning);
    tuning->is_recalled = tune_memory_find(tuning->io, tuning->memory_path, &key, &tuning->entry) &&
                          is_entry_usable(tuning);
    return NULL;
}

static bool is_parallelism_free(const struct tuning *tuning)
{
    enum model_kind kind = model_kind(tuning->spec->model);
    return (kind == MODEL_ONNX || kind == MODEL_ECHO) && tuning->spec->instances == 0 &&
           tuning->spec->threads == 0 && strncmp(tuning->spec->provider, "cpu", 3) == 0;
}

static void use_parallelism(struct tuning *tuning, int instances, int threads)
{
    tuning->resources->instances_max = instances;
    tuning->resources->threads = threads;
}

/* --- opening ----------------------------------------------------------------------------------------- */

static tidemill_error *open_runtime(struct tuning *tuning)
{
    const struct job_spec *spec = tuning->spec;
    tuning->options = job_spec_runtime(spec);
    tuning->options.threads = tuning->resources->threads;
    tuning->options.instances_max = tuning->resources->instances_max;
    tuning->options.is_growing = spec->instances == 0;
    tuning->options.wake_fd = tuning->stop->wake_fd;
    double started_s = clock_now_s();
    TRY(runtime_open(&tuning->options, &tuning->resources->region, &tuning->runtime));
    tuning->load_s = clock_now_s() - started_s;
    return NULL;
}

/* Another library: what was measured with the old one says nothing. */
static tidemill_error *check_library(struct tuning *tuning)
{
    if (!tuning->is_recalled ||
        strcmp(tuning->entry.library, runtime_description(tuning->runtime)) == 0)
        return NULL;
    tuning->is_recalled = false;
    const struct resources *r = tuning->resources;
    if (r->instances_max == tuning->instances_usual && r->threads == tuning->threads_usual)
        return NULL;
    runtime_close(tuning->runtime);
    tuning->runtime = NULL;
    use_parallelism(tuning, tuning->instances_usual, tuning->threads_usual);
    return open_runtime(tuning);
}

tidemill_error *tuning_open(struct tuning *tuning, const struct identity *identity,
                            const struct journal_plan *begun)
{
    const struct resources *r = tuning->resources;
    tuning->instances_usual = r->instances_max;
    tuning->threads_usual = r->threads;
    bool is_free = is_parallelism_free(tuning);
    if (begun->is_set) {
        bool fits = begun->instances >= 1 && begun->instances <= r->instances_max &&
                    begun->threads >= 1 && begun->threads <= r->n_workers / begun->instances;
        if (is_free && fits) use_parallelism(tuning, begun->instances, begun->threads);
        return open_runtime(tuning);
    }
    TRY(recall(tuning, identity));
    if (is_free && tuning->is_recalled)
        use_parallelism(tuning, tuning->entry.instances, tuning->entry.threads);
    TRY(open_runtime(tuning));
    return check_library(tuning);
}

void tuning_close(struct tuning *tuning)
{
    runtime_close(tuning->first);
    buffer_free(&tuning->outputs);
    free(tuning->memory_path);
}

/* --- measuring --------------------------------------------------------------------------------------- */

struct calibration tuning_calibration(struct tuning *tuning, struct chunk *first)
{
    struct calibration calibration = {
        .runtime = tuning->runtime,
        .region = &tuning->resources->region,
        .slots = tuning->resources->slots,
        .n_slots = tuning->resources->n_slots,
        .chunk = first,
        .memory_bytes = tuning->resources->memory_bytes,
        .instances_max = tuning->resources->instances_max,
        .stop = tuning->stop,
    };
    if (first->raw.is_last)
        calibration.records_total = (double)first->raw.n_records;
    else if (first->share_read > 0)
        calibration.records_total = (double)first->raw.n_records / first->share_read;
    return calibration;
}

/* Sizes between the powers of two, with all processes that are there busy. */
static tidemill_error *refine(const struct calibration *c, struct probe *probe, double budget_s)
{
    struct batch_tuner tuner;
    struct measurement result;
    double call_s = probe->mb.n_rows / MAX(probe->rate_rows_s, 1e-9), rate;
    if (ROUNDS_THAT_MUST_FIT * CALLS_A_ROUND * call_s > budget_s) return NULL;
    batch_tuner_start(&tuner, probe->mb.n_rows, probe->rows_max, budget_s);
    while (!tuner.is_done) {
        double started_s = clock_now_s();
        probe->mb.n_rows = tuner.batch;
        TRY(measure_busy(c, &probe->mb, batch_tuner_measure_s(&tuner), &result));
        batch_tuner_step(&tuner, result.rows, result.seconds, clock_now_s() - started_s,
                         result.is_usable && measure_fits_memory(c));
    }
    log_event(LOG_DEBUG, "length %u: %u rows a call instead of %u, by %u rounds", probe->length,
              batch_tuner_best(&tuner, &rate), tuner.points[0].batch, tuner.n_rounds);
    probe->mb.n_rows = batch_tuner_best(&tuner, &rate);
    size_t n_hosts = runtime_capacity(c->runtime) / 2;
    if (rate > 0 && n_hosts > 0) probe->rate_rows_s = rate / (double)n_hosts;
    return NULL;
}

/* The sizes that the probes ended with, and the rate that follows. */
static void take_over(const struct probe *probes, size_t n, bool is_dynamic,
                      struct calibrated *found)
{
    double share = 0, seconds = 0;
    for (size_t i = 0; i < n; i++) {
        share += probes[i].rows_share;
        seconds += probes[i].rows_share / MAX(probes[i].rate_rows_s, 1e-9);
        if (is_dynamic)
            found->tokens[probes[i].class] = probes[i].mb.n_rows * probes[i].length;
        else
            found->rows = probes[i].mb.n_rows;
    }
    if (seconds > 0) found->rate_rows_s = share / seconds;
}

struct measuring {
    struct calibration calibration;
    struct calibrated found;
    bool is_dynamic, is_size_free;
    double started_s, budget_s;
};

static double left_s(const struct measuring *m)
{
    return m->budget_s - (clock_now_s() - m->started_s);
}

static tidemill_error *refine_all(struct measuring *m)
{
    struct calibrated *found = &m->found;
    double whole_s = 0;
    for (size_t i = 0; i < found->n_probes; i++)
        whole_s += found->probes[i].rows_share / MAX(found->probes[i].rate_rows_s, 1e-9);
    for (size_t i = 0; i < found->n_probes; i++) {
        struct probe *probe = &found->probes[i];
        double own_s = probe->rows_share / MAX(probe->rate_rows_s, 1e-9);
        if (whole_s <= 0) break;
        TRY(refine(&m->calibration, probe, left_s(m) * own_s / whole_s));
        whole_s -= own_s;
    }
    return NULL;
}

/* Steps 3 and 4. */
static tidemill_error *measure_more(struct tuning *tuning, struct measuring *m,
                                    enum tuned_from *parallel_from)
{
    struct calibrated *found = &m->found;
    double instances = tuning->resources->instances_max;
    m->budget_s = tuning_budget_s(m->calibration.records_total, found->rate_rows_s * instances);
    bool is_measured = false;
    if (found->n_probes == 0) return NULL;
    if (is_parallelism_free(tuning) && left_s(m) > 0) {
        struct probe before = found->probes[0];
        TRY(tune_parallelism(tuning, &m->calibration, &found->probes[0], left_s(m), &is_measured));
        uint32_t rows = found->probes[0].mb.n_rows;
        for (size_t i = 1; i < found->n_probes; i++) {
            struct probe *other = &found->probes[i];
            other->mb.n_rows =
                MIN(other->mb.n_rows * MAX(rows / before.mb.n_rows, 1U), other->rows_max);
        }
        if (!m->is_size_free) found->probes[0].mb.n_rows = before.mb.n_rows;
    }
    if (is_measured) *parallel_from = TUNED_MEASURED;
    if (m->is_size_free && left_s(m) > 0) TRY(refine_all(m));
    take_over(found->probes, found->n_probes, m->is_dynamic, found);
    return NULL;
}

/* --- deciding ---------------------------------------------------------------------------------------- */

/* A model that will keep one host busy for long is the bottleneck: all that may be start at once. The
 * others come one by one, when the engine finds itself waiting. */
static void start_hosts(struct tuning *tuning, double records_total, double rate_rows_s)
{
    double model_s = rate_rows_s > 0 ? records_total / rate_rows_s : 0;
    if (model_s > HOST_WORTH_S)
        runtime_want_hosts(tuning->runtime, (int)MIN(model_s / HOST_WORTH_S, 1e6) + 1);
}

/* Sizes that are given or forced by the model. Where records vary in length they are counted in tokens;
 * a batch size that is given bounds the rows as well. True: sizes are free to be measured. */
static bool given_limits(const struct tuning *tuning, bool is_dynamic, struct journal_plan *plan)
{
    const struct job_spec *spec = tuning->spec;
    const struct model_signature *signature = runtime_signature(tuning->runtime);
    struct plan_limits *limits = &plan->limits;
    if (!signature->is_batched) return false;
    if (model_kind(spec->model) == MODEL_HTTP) {
        limits->rows_max = spec->batch > 0 ? (uint32_t)spec->batch : SERVER_ROWS;
        if (spec->batch > 0) plan->batch_from = TUNED_GIVEN;
        return false;
    }
    if (is_dynamic) limits->rows_max = CHUNK_ROWS;
    if (spec->batch > 0) limits->rows_max = (uint32_t)spec->batch;
    for (size_t i = 0; i < PLAN_CLASSES; i++) limits->tokens_max[i] = (uint32_t)spec->tokens_max;
    if (signature->batch_fixed > 0) {
        limits->rows_max = (uint32_t)signature->batch_fixed;
        if (spec->batch > 0 && spec->batch != signature->batch_fixed)
            log_event(LOG_WARNING,
                      "the model takes exactly %lld records a call; --batch %lld is not used",
                      (long long)signature->batch_fixed, (long long)spec->batch);
        return false;
    }
    if (spec->batch == 0 && !(is_dynamic && spec->tokens_max > 0)) return true;
    plan->batch_from = TUNED_GIVEN;
    return false;
}

/* A job that grants far more time than was spent on the entry may find something better. */
static bool is_entry_enough(const struct tuning *tuning, double records_total)
{
    double budget_s = tuning_budget_s(records_total, tuning->entry.rate_rows_s);
    return budget_s <= BUDGET_S_SMALL || budget_s <= BUDGET_FAR_LARGER * tuning->entry.budget_s;
}

static void recall_sizes(const struct tuning *tuning, struct calibrated *found)
{
    const struct tune_entry *entry = &tuning->entry;
    found->rows = entry->rows;
    memcpy(found->tokens, entry->tokens, sizeof found->tokens);
    found->call_tokens = entry->call_tokens;
    found->rate_rows_s = entry->rate_rows_s / entry->instances;
}

static void note_entry(struct tuning *tuning, const struct measuring *m,
                       const struct journal_plan *plan)
{
    struct runtime_stats stats;
    struct tune_entry *entry = &tuning->entry;
    const struct calibrated *found = &m->found;
    runtime_get_stats(tuning->runtime, &stats);
    *entry = (struct tune_entry){
        .instances = tuning->resources->instances_max,
        .threads = tuning->resources->threads,
        .is_parallel_measured =
            plan->parallel_from == TUNED_MEASURED || plan->parallel_from == TUNED_REMEMBERED,
        .rows = found->rows,
        .call_tokens = found->call_tokens,
        .rate_rows_s = found->rate_rows_s * tuning->resources->instances_max,
        .host_bytes = stats.peak_memory_bytes,
        .budget_s = tuning->is_recalled ? entry->budget_s : m->budget_s,
    };
    memcpy(entry->tokens, found->tokens, sizeof entry->tokens);
    snprintf(entry->library, sizeof entry->library, "%s", runtime_description(tuning->runtime));
    tuning->is_worth_keeping = true;
}

static tidemill_error *measure_sizes(struct measuring *m, struct journal_plan *plan)
{
    struct calibrated *found = &m->found;
    if (m->is_dynamic)
        TRY(calibrate_tokens(&m->calibration, found));
    else
        TRY(calibrate_batch(&m->calibration, found));
    if (found->n_probes == 0) return NULL;
    plan->batch_from = TUNED_MEASURED;
    return NULL;
}

static tidemill_error *decide_by_measuring(struct tuning *tuning, struct measuring *m,
                                           struct journal_plan *plan)
{
    bool is_whole = !tuning->is_recalled;
    if (m->is_size_free)
        TRY(measure_sizes(m, plan));
    else
        TRY(calibrate_given(&m->calibration, &plan->limits, &m->found));
    if (is_whole) TRY(measure_more(tuning, m, &plan->parallel_from));
    bool is_found = m->found.n_probes > 0 && m->is_size_free && tuning->spec->instances == 0 &&
                    tuning->spec->threads == 0;
    if (is_found) note_entry(tuning, m, plan);
    return NULL;
}

tidemill_error *tuning_decide(struct tuning *tuning, struct chunk *first, bool is_dynamic,
                              struct journal_plan *plan, double *ret_rate_rows_s)
{
    const struct job_spec *spec = tuning->spec;
    enum model_kind kind = model_kind(spec->model);
    struct measuring m = {.calibration = tuning_calibration(tuning, first),
                          .is_dynamic = is_dynamic,
                          .started_s = clock_now_s()};
    double records_total = m.calibration.records_total;
    m.is_size_free = given_limits(tuning, is_dynamic, plan);
    if (!is_parallelism_free(tuning) && (spec->instances > 0 || spec->threads > 0))
        plan->parallel_from = TUNED_GIVEN;
    if (tuning->is_recalled && is_parallelism_free(tuning) && tuning->entry.is_parallel_measured)
        plan->parallel_from = TUNED_REMEMBERED;
    if (tuning->is_recalled && !is_entry_enough(tuning, records_total)) tuning->is_recalled = false;
    if (tuning->is_recalled && m.is_size_free) {
        recall_sizes(tuning, &m.found);
        plan->batch_from = TUNED_REMEMBERED;
    }
    bool is_measurable = kind != MODEL_HTTP && kind != MODEL_LLAMA;
    if (spec->tune != TUNE_OFF && is_measurable) TRY(decide_by_measuring(tuning, &m, plan));
    if (m.is_size_free) calibrated_limits(&m.found, is_dynamic, &plan->limits);
    plan->instances = tuning->resources->instances_max;
    plan->threads = tuning->resources->threads;
    start_hosts(tuning, records_total, m.found.rate_rows_s);
    tuning->spent_s = clock_now_s() - m.started_s;
    *ret_rate_rows_s = m.found.rate_rows_s;
    return NULL;
}

void tuning_keep(struct tuning *tuning)
{
    if (!tuning->is_worth_keeping || tuning->memory_path == NULL) return;
    struct tune_key key = key_of(tuning);
    tidemill_error *error = tune_memory_keep(tuning->io, tuning->memory_path, &key, &tuning->entry);
    if (error == NULL) return;
    log_event(LOG_DEBUG, "what was measured is not remembered: %s", error_message(error));
    error_free(error);
}
