/* SPDX-License-Identifier: Apache-2.0 */
/* resources.c - how many processes, threads and chunks a job has, and the memory that they share. */
#include "job/resources.h"

#include "job/machine.h"

#include <stdlib.h>
#include <string.h>

/* Address space for tensors, for each byte of a chunk's records, and for one microbatch's answer. The
 * densest JSON ("1,1,1") becomes 4 times its bytes, a converted .npy 8 times. Where address space is
 * limited (ulimit -v) less of it must do. */
static const struct {
    size_t area_factor, output_bytes;
} generosity[] = {
    {16, (size_t)1 << 30},
    {8, (size_t)256 << 20},
    {4, (size_t)64 << 20},
};

#define PROMPTS_CHUNKS 4  /* large ones: one read, one under way, and what they overlap */
#define LLAMA_SLOTS 512   /* where --parallel is measured: twice what it may become */
#define BATCH_SLOTS 50000 /* requests that servers take in one batch */
#define TEXT_BYTES ((size_t)16 << 20) /* of address space for an answer that is text */

static void choose_parallelism(const struct job_spec *spec, const struct io *io,
                               struct resources *r)
{
    struct stat status;
    int cores = machine_cores(io);
    enum model_kind kind = model_kind(spec->model);
    bool is_on_cpu = strncmp(spec->provider, "cpu", 3) == 0;
    uint64_t memory =
        spec->memory_bytes > 0 ? (uint64_t)spec->memory_bytes : machine_memory_free_bytes(io) / 2;
    uint64_t model_bytes =
        io->stat(io->context, spec->model, &status) == 0 ? (uint64_t)status.st_size : 0;
    uint64_t instance_bytes = 2 * model_bytes + ((uint64_t)64 << 20); /* weights, packed weights */
    int fitting = memory == 0 ? 1 : (int)MIN(memory / instance_bytes, (uint64_t)cores);
    r->n_workers = cores;
    r->memory_bytes = memory;
    r->threads = (int)spec->threads;
    r->instances_max = (int)spec->instances;
    if (kind == MODEL_HTTP || (kind == MODEL_LLAMA && r->instances_max == 0)) r->instances_max = 1;
    if (r->instances_max == 0) {
        int wanted = r->threads > 0 ? cores / r->threads : cores;
        r->instances_max = is_on_cpu ? MAX(MIN(wanted, fitting), 1) : 1;
    }
    if (r->threads == 0) r->threads = is_on_cpu ? MAX(cores / r->instances_max, 1) : 1;
}

static void choose_chunks(const struct job_spec *spec, size_t n_many, struct resources *r)
{
    enum model_kind kind = model_kind(spec->model);
    bool has_prompts = (kind == MODEL_HTTP || kind == MODEL_LLAMA) && spec->order != ORDER_INPUT;
    r->chunk_rows = has_prompts ? PROMPTS_ROWS : CHUNK_ROWS;
    r->chunk_bytes = has_prompts ? PROMPTS_BYTES : CHUNK_BYTES;
    r->n_chunks = has_prompts ? PROMPTS_CHUNKS : (size_t)r->n_workers + 4;
    r->n_chunks += n_many / r->chunk_rows;
}

static size_t input_area_bytes(const struct job_spec *spec, const struct resources *r,
                               size_t factor)
{
    size_t bytes = factor * (8 * r->chunk_bytes + (size_t)spec->record_bytes_max);
    return (bytes + 4095) & ~(size_t)4095;
}

/* What answers many at a time, each alone, needs a slot for each; its answers are texts. */
static size_t slots_of_many(const struct job_spec *spec)
{
    switch (model_kind(spec->model)) {
    case MODEL_HTTP: return spec->via == VIA_BATCH ? BATCH_SLOTS : (size_t)spec->inflight_max;
    case MODEL_LLAMA: return (size_t)(spec->parallel > 0 ? 2 * spec->parallel : LLAMA_SLOTS);
    default: return 0;
    }
}

/* Servers' answers are in memory of their own; what goes into a batch goes in one by one. */
static void choose_slots(const struct job_spec *spec, size_t output_bytes, struct resources *r)
{
    enum model_kind kind = model_kind(spec->model);
    size_t record_bytes = ((size_t)spec->record_bytes_max + 4095) & ~(size_t)4095;
    r->gather_bytes = r->area_bytes;
    r->output_bytes = output_bytes;
    if (kind != MODEL_HTTP && kind != MODEL_LLAMA) return;
    r->gather_bytes = kind == MODEL_HTTP && spec->via == VIA_LIVE
                          ? MIN(r->area_bytes, 8 * r->chunk_bytes + 4 * record_bytes)
                          : 0;
    r->output_bytes = kind == MODEL_HTTP ? 0 : MIN(output_bytes, TEXT_BYTES);
}

/* One region for every chunk's tensors and every slot; pages come as they are touched. */
static tidemill_error *reserve_region(struct resources *r)
{
    size_t offset = r->n_chunks * r->area_bytes;
    size_t slot_bytes = r->gather_bytes + r->output_bytes;
    TRY(shared_region_new(offset + r->n_slots * slot_bytes, &r->region));
    for (size_t i = 0; i < r->n_slots; i++, offset += slot_bytes) {
        r->slots[i] = (struct slot){
            .gather_offset = offset,
            .gather_capacity = r->gather_bytes,
            .output_offset = offset + r->gather_bytes,
            .output_capacity = r->output_bytes,
            .next = i + 1 < r->n_slots ? &r->slots[i + 1] : NULL,
        };
    }
    return NULL;
}

tidemill_error *resources_reserve(const struct job_spec *spec, const struct io *io,
                                  struct resources *ret)
{
    *ret = (struct resources){.region = {.fd = -1}};
    choose_parallelism(spec, io, ret);
    size_t n_many = slots_of_many(spec);
    choose_chunks(spec, n_many, ret);
    ret->n_slots = 2 * (size_t)ret->instances_max + 2 * (size_t)ret->n_workers + n_many;
    ret->slots = calloc(ret->n_slots, sizeof *ret->slots);
    ret->chunks = calloc(ret->n_chunks, sizeof *ret->chunks);
    if (ret->slots == NULL || ret->chunks == NULL) return error_memory();
    tidemill_error *error = NULL;
    for (size_t i = 0; i < COUNT_OF(generosity); i++) {
        error_free(error);
        ret->area_bytes = input_area_bytes(spec, ret, generosity[i].area_factor);
        choose_slots(spec, generosity[i].output_bytes, ret);
        error = reserve_region(ret);
        if (error == NULL) return NULL;
    }
    return error_context(error, "a smaller --max-record-bytes needs less");
}

tidemill_error *resources_make_chunks(struct resources *resources, size_t n_inputs,
                                      const struct padding *padding)
{
    for (size_t i = 0; i < resources->n_chunks; i++)
        TRY(chunk_new(&resources->region, i * resources->area_bytes, resources->area_bytes,
                      n_inputs, padding, &resources->chunks[i]));
    return NULL;
}

void resources_free(struct resources *resources)
{
    for (size_t i = 0; i < resources->n_chunks && resources->chunks != NULL; i++)
        chunk_free(resources->chunks[i]);
    shared_region_free(&resources->region);
    free(resources->chunks);
    free(resources->slots);
    *resources = (struct resources){.region = {.fd = -1}};
}
