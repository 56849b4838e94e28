/* SPDX-License-Identifier: Apache-2.0 */
/* bench.c - opens the model in each way, and runs growing numbers of the same records through it. */
#include "job/bench.h"

#include "job/calibrate.h"
#include "job/machine.h"
#include "job/padding.h"
#include "job/resources.h"
#include "job/tune.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define BATCH_MAX 4096
#define TOKENS_MAX ((uint64_t)1 << 16)
/* Records of random numbers: so many of a length, and so many bytes of text, unless one is larger. */
#define RANDOM_RECORDS 256
#define RANDOM_BYTES ((size_t)1 << 20)
/* A point is measured in so many parts, one after all others of its curve. */
#define ROUNDS 5
/* Larger batches are left out after a call of that length. */
#define CALL_S_MAX 5.0
#define BEST_SHARE 0.99

struct bench {
    const struct bench_request *request;
    const struct io *io;
    struct bench_result *result;
    struct resources resources;
    struct runtime *runtime; /* in use */
    struct runtime *first;   /* the decoder holds its signature */
    struct source *source;
    struct decoder *decoder;
    struct padding padding;
    int records_fd; /* of random ones; -1: none */
    struct calibration calibration;
    struct probe probes[BENCH_LENGTHS_MAX];
    size_t n_probes;
};

/* --- the model, in one way ---------------------------------------------------------------------- */

static size_t ways(const struct bench *bench, struct parallelism *ret)
{
    const struct job_spec *spec = bench->request->spec;
    const struct resources *r = &bench->resources;
    bool is_given = spec->instances > 0 || spec->threads > 0;
    if (!is_given && strncmp(spec->provider, "cpu", 3) == 0)
        return parallelism_list(r->n_workers, r->instances_max, ret);
    ret[0] = (struct parallelism){.instances = r->instances_max, .threads = r->threads};
    return 1;
}

static tidemill_error *open_way(struct bench *bench, const struct parallelism *way)
{
    if (bench->runtime != NULL && bench->runtime == bench->first)
        runtime_end_hosts(bench->runtime);
    else
        runtime_close(bench->runtime);
    bench->runtime = NULL;
    struct runtime_options options = job_spec_runtime(bench->request->spec);
    options.threads = way->threads;
    options.instances_max = way->instances;
    options.wake_fd = bench->calibration.stop->wake_fd;
    TRY(runtime_open(&options, &bench->resources.region, &bench->runtime));
    if (bench->first == NULL) bench->first = bench->runtime;
    bench->calibration.runtime = bench->runtime;
    bench->calibration.instances_max = way->instances;
    return NULL;
}

/* --- records ------------------------------------------------------------------------------------ */

static const uint32_t lengths_usual[] = {16, 64, 256};

static size_t lengths_of(const struct bench *bench, const uint32_t **ret)
{
    static const uint32_t one[] = {1};
    *ret = one;
    if (!bench->result->is_dynamic) return 1;
    *ret = bench->request->n_lengths > 0 ? bench->request->lengths : lengths_usual;
    return bench->request->n_lengths > 0 ? bench->request->n_lengths : COUNT_OF(lengths_usual);
}

/* As many records as come to RANDOM_BYTES, in a file without a name. */
static tidemill_error *make_records(struct bench *bench, const struct model_signature *signature)
{
    struct buffer text = {0};
    const uint32_t *lengths;
    size_t n_lengths = lengths_of(bench, &lengths);
    tidemill_error *error = bench_records(signature, lengths, n_lengths, 1, &text);
    uint32_t n =
        (uint32_t)MIN(MAX(RANDOM_BYTES / (text.size + 1), (size_t)1), (size_t)RANDOM_RECORDS);
    text.size = 0;
    if (error == NULL) error = bench_records(signature, lengths, n_lengths, n, &text);
    bench->records_fd = memfd_create("records", MFD_CLOEXEC);
    if (error == NULL && bench->records_fd < 0)
        error = error_errno(ERROR_IO, errno, "cannot make a file in memory");
    if (error == NULL)
        error = io_write_all(&io_local, bench->records_fd, "records", text.data, text.size);
    buffer_free(&text);
    return error;
}

static tidemill_error *open_records(struct bench *bench)
{
    const struct job_spec *spec = bench->request->spec;
    const struct model_signature *signature = runtime_signature(bench->runtime);
    struct raw_chunk *raw = &bench->resources.chunks[0]->raw;
    char path[64];
    const char *random_paths[] = {path};
    if (bench->result->is_random) TRY(make_records(bench, signature));
    snprintf(path, sizeof path, "/proc/self/fd/%d", bench->records_fd);
    struct source_config source = {
        .paths = bench->result->is_random ? random_paths : (const char *const *)spec->inputs.items,
        .n_paths = bench->result->is_random ? 1 : spec->inputs.n,
        .format = bench->result->is_random ? FORMAT_JSONL : (enum format)spec->input_format,
        .compression = COMPRESSION_AUTO,
        .record_bytes_max = (size_t)spec->record_bytes_max,
        .chunk_bytes = CHUNK_BYTES,
        .chunk_rows = CHUNK_ROWS,
    };
    TRY(source_open(bench->result->is_random ? &io_local : bench->io, &source, NULL,
                    &bench->source));
    TRY(source_read_chunk(bench->source, raw));
    struct decoder_config config = {
        .schema = source_schema(bench->source),
        .signature = signature,
        .maps = (const char *const *)spec->maps.items,
        .n_maps = bench->result->is_random ? 0 : spec->maps.n,
        .nonfinite = (enum nonfinite_policy)spec->nonfinite,
        .masks = (const char *const *)spec->masks.items,
        .n_masks = bench->result->is_random ? 0 : spec->masks.n,
    };
    struct slice sample = raw->n_records > 0 ? raw->records[0].bytes : (struct slice){0};
    return decoder_new(&config, sample, &bench->decoder);
}

static tidemill_error *decode_records(struct bench *bench)
{
    struct chunk *chunk = bench->resources.chunks[0];
    TRY(padding_decide(bench->request->spec, runtime_signature(bench->runtime), 0,
                       &bench->padding));
    struct decode_scratch *scratch = decode_scratch_new();
    if (scratch == NULL) return error_memory();
    tidemill_error *error = chunk_decode(chunk, bench->decoder, scratch, NULL);
    decode_scratch_free(scratch);
    return error;
}

/* The records that can be run, of [from, to), over and over. */
static tidemill_error *cycle_records(struct bench *bench, uint32_t from, uint32_t to,
                                     uint32_t length, struct probe *ret)
{
    struct chunk *chunk = bench->resources.chunks[0];
    uint32_t *rows = arena_alloc(&chunk->arena, BATCH_MAX * sizeof *rows), n = 0;
    if (rows == NULL) return error_memory();
    for (uint32_t i = from; i < to && n < BATCH_MAX; i++)
        if (chunk->records[i].state == RECORD_PENDING) rows[n++] = i;
    if (n == 0)
        return error_new(ERROR_INPUT, "no record fits the model: %s",
                         chunk->raw.n_records == 0 ? "there are none"
                         : chunk->records[from].decoded.message != NULL
                             ? chunk->records[from].decoded.message
                             : "the first ones all fail");
    for (uint32_t i = n; i < BATCH_MAX; i++) rows[i] = rows[i % n];
    *ret = (struct probe){
        .mb = {.chunk = chunk, .rows = rows, .n_rows = 1},
        .rows_max = (uint32_t)MAX(MIN(TOKENS_MAX / length, (uint64_t)BATCH_MAX), UINT64_C(1)),
        .length = length,
    };
    if (length == 1) ret->rows_max = BATCH_MAX;
    return NULL;
}

static tidemill_error *make_probes(struct bench *bench)
{
    uint32_t n_records = (uint32_t)bench->resources.chunks[0]->raw.n_records;
    const uint32_t *lengths;
    size_t n_lengths = lengths_of(bench, &lengths);
    if (!bench->result->is_random && bench->result->is_dynamic) {
        TRY(calibrate_token_probes(&bench->calibration, bench->probes, &bench->n_probes));
        if (bench->n_probes > 0) return NULL;
        return cycle_records(bench, 0, n_records, 1, &bench->probes[0]); /* says why */
    }
    for (size_t i = 0; i < n_lengths; i++) {
        uint32_t n = n_records / (uint32_t)n_lengths, from = n * (uint32_t)i;
        TRY(cycle_records(bench, from, from + n, lengths[i], &bench->probes[i]));
    }
    bench->n_probes = n_lengths;
    return NULL;
}

static tidemill_error *prepare(struct bench *bench, const struct parallelism *way)
{
    TRY(open_way(bench, way));
    const struct model_signature *signature = runtime_signature(bench->runtime);
    bench->result->is_dynamic = signature_has_dynamic_row(signature);
    TRY(resources_make_chunks(&bench->resources, signature->n_inputs, &bench->padding));
    bench->calibration.chunk = bench->resources.chunks[0];
    TRY(open_records(bench));
    TRY(decode_records(bench));
    return make_probes(bench);
}

/* --- measuring ---------------------------------------------------------------------------------- */

static void choose_batches(const struct bench *bench, const struct probe *probe,
                           struct bench_curve *curve)
{
    const struct bench_request *request = bench->request;
    const struct model_signature *signature = runtime_signature(bench->runtime);
    uint32_t only = !signature->is_batched ? 1 : (uint32_t)signature->batch_fixed;
    if (only > 0) {
        curve->points[curve->n_points++].batch = only;
        return;
    }
    for (size_t i = 0; i < request->n_batches; i++)
        if (request->batches[i] <= probe->rows_max)
            curve->points[curve->n_points++].batch = request->batches[i];
    for (uint32_t b = 1; request->n_batches == 0 && b <= probe->rows_max; b *= 2)
        curve->points[curve->n_points++].batch = b;
}

/* The middle one; 0 when some round failed. */
static double middle(const double *rates)
{
    for (int i = 0; i < ROUNDS; i++) {
        int n_lower = 0, n_higher = 0;
        for (int k = 0; k < ROUNDS; k++) {
            n_lower += rates[k] < rates[i];
            n_higher += rates[k] > rates[i];
            if (rates[k] <= 0) return 0;
        }
        if (n_lower <= ROUNDS / 2 && n_higher <= ROUNDS / 2) return rates[i];
    }
    return 0;
}

/* Round by round, so that what else the machine does hits all sizes. */
static tidemill_error *measure_curve(struct bench *bench, struct probe *probe,
                                     struct bench_curve *curve)
{
    double rates[BENCH_POINTS_MAX][ROUNDS] = {{0}};
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < curve->n_points; i++) {
            struct measurement result;
            probe->mb.n_rows = curve->points[i].batch;
            TRY(measure_busy(&bench->calibration, &probe->mb, bench->request->seconds / ROUNDS,
                             &result));
            rates[i][round] = result.is_usable ? (double)result.rows / result.seconds : 0;
            double call_s = curve->instances * curve->points[i].batch / MAX(rates[i][round], 1e-9);
            if (call_s > CALL_S_MAX) curve->n_points = i + 1;
        }
    }
    for (size_t i = 0; i < curve->n_points; i++) curve->points[i].rate_rows_s = middle(rates[i]);
    return NULL;
}

static tidemill_error *measure_way(struct bench *bench, const struct parallelism *way,
                                   void (*told)(const char *what))
{
    char text[128];
    for (size_t i = 0; i < bench->n_probes; i++) {
        struct bench_result *result = bench->result;
        struct bench_curve *curve = &result->curves[result->n_curves++];
        *curve = (struct bench_curve){.instances = way->instances,
                                      .threads = way->threads,
                                      .length = bench->probes[i].length};
        choose_batches(bench, &bench->probes[i], curve);
        snprintf(text, sizeof text, "measuring %d instances x %d threads, length %u",
                 way->instances, way->threads, curve->length);
        if (told != NULL) told(text);
        TRY(measure_curve(bench, &bench->probes[i], curve));
    }
    return NULL;
}

static int compare_curves(const void *a, const void *b)
{
    const struct bench_curve *left = a, *right = b;
    if (left->length != right->length) return left->length < right->length ? -1 : 1;
    return left->threads < right->threads ? -1 : left->threads > right->threads;
}

static tidemill_error *measure_all(struct bench *bench, void (*told)(const char *what))
{
    struct parallelism list[PARALLELISMS_MAX];
    size_t n = ways(bench, list), curve, point;
    struct bench_result *result = bench->result;
    TRY(prepare(bench, &list[0]));
    snprintf(result->runtime, sizeof result->runtime, "%s", runtime_description(bench->runtime));
    for (size_t i = 0; i < n; i++) {
        if (i > 0) TRY(open_way(bench, &list[i]));
        TRY(measure_way(bench, &list[i], told));
    }
    qsort(result->curves, result->n_curves, sizeof result->curves[0], compare_curves);
    for (size_t i = 0; i < result->n_curves; i++)
        if (bench_best(result, result->curves[i].length, &curve, &point)) return NULL;
    return error_new(ERROR_MODEL_ERROR, "the model answered no call%s",
                     result->is_random ? " with random records; give some with --input" : "");
}

tidemill_error *bench_run(const struct bench_request *request, const struct io *io,
                          struct job_stop *stop, void (*told)(const char *what),
                          struct bench_result *ret)
{
    struct bench bench = {.request = request,
                          .io = io,
                          .result = ret,
                          .records_fd = -1,
                          .calibration = {.stop = stop}};
    *ret = (struct bench_result){.is_random = request->spec->inputs.n == 0};
    enum model_kind kind = model_kind(request->spec->model);
    if (kind == MODEL_HTTP || kind == MODEL_LLAMA)
        return error_new(
            ERROR_USAGE,
            "tidemill bench compares batch sizes and processes, and %s finds by itself "
            "how many requests to have under way; time it with tidemill run",
            kind == MODEL_HTTP ? "the runtime for servers" : "the runtime for GGUF models");
    machine_cpu_name(io, ret->cpu, sizeof ret->cpu);
    tidemill_error *error = resources_reserve(request->spec, io, &bench.resources);
    if (error == NULL) {
        bench.calibration.region = &bench.resources.region;
        bench.calibration.slots = bench.resources.slots;
        bench.calibration.n_slots = bench.resources.n_slots;
        ret->cores = bench.resources.n_workers;
        error = measure_all(&bench, told);
    }
    decoder_free(bench.decoder);
    source_close(bench.source);
    if (bench.runtime != bench.first) runtime_close(bench.runtime);
    runtime_close(bench.first);
    resources_free(&bench.resources);
    if (bench.records_fd >= 0) close(bench.records_fd);
    return error;
}

bool bench_best(const struct bench_result *result, uint32_t length, size_t *ret_curve,
                size_t *ret_point)
{
    double highest = 0;
    bool is_found = false;
    for (size_t c = 0; c < result->n_curves; c++)
        for (size_t p = 0; p < result->curves[c].n_points && result->curves[c].length == length;
             p++)
            highest = MAX(highest, result->curves[c].points[p].rate_rows_s);
    for (size_t c = 0; c < result->n_curves && highest > 0; c++) {
        const struct bench_curve *curve = &result->curves[c];
        for (size_t p = 0; p < curve->n_points && curve->length == length; p++) {
            bool is_good = curve->points[p].rate_rows_s >= BEST_SHARE * highest;
            bool is_smaller = !is_found || curve->points[p].batch <
                                               result->curves[*ret_curve].points[*ret_point].batch;
            if (!is_good || !is_smaller) continue;
            is_found = true;
            *ret_curve = c;
            *ret_point = p;
        }
    }
    return is_found;
}
