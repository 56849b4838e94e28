/* SPDX-License-Identifier: Apache-2.0 */
/* resources.h - what a job may use, fixed before it begins: this is what bounds its memory. */
#ifndef TIDEMILL_JOB_RESOURCES_H
#define TIDEMILL_JOB_RESOURCES_H

#include "job/pipeline.h"

/* A chunk: the unit of planning. Large enough for big batches, small enough for little memory. */
#define CHUNK_ROWS ((uint32_t)2048)
#define CHUNK_BYTES ((size_t)2 << 20)
/* Where prompts are put into an order: what begins alike is found within a chunk only. */
#define PROMPTS_ROWS ((uint32_t)16384)
#define PROMPTS_BYTES ((size_t)16 << 20)

struct resources {
    int n_workers;       /* threads that decode and encode */
    int instances_max;   /* model processes */
    int threads;         /* of each of them */
    uint32_t chunk_rows; /* of a chunk, at most */
    size_t chunk_bytes;
    uint64_t memory_bytes;             /* for all model processes together; 0: not known */
    size_t area_bytes;                 /* of address space for one chunk's tensors */
    size_t gather_bytes, output_bytes; /* of a slot */
    struct shared_region region;
    struct slot *slots; /* a list, and an array of n_slots */
    size_t n_slots;
    struct chunk **chunks;
    size_t n_chunks;
};

/* Also on an error: resources_free. Chunks are made once the model has told its inputs. */
tidemill_error *resources_reserve(const struct job_spec *spec, const struct io *io,
                                  struct resources *ret);
tidemill_error *resources_make_chunks(struct resources *resources, size_t n_inputs,
                                      const struct padding *padding);
void resources_free(struct resources *resources);

#endif
