/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_order.c - what an order of requests is worth to a prefix cache.
 *
 * Reads a trace of requests, JSON lines with `hash_ids`: equal leading ids are shared prompt blocks of
 * 512 tokens. Without a trace, or after it, the same for one that is made up. Prints how many blocks a
 * simulated cache of several sizes finds in several orders, beside the most that any can give. */
#include "plan/plan.h"

#include "prefix_cache.h"

#include <yyjson.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED 20240601
#define BLOCK_TOKENS 512 /* of the trace */
#define COLUMNS 38       /* of a row's name */
#define N_CAPACITIES 4

/* The made-up trace, its lengths in blocks. */
#define SYSTEMS 10
#define SYSTEM_BLOCKS 2
#define DOCUMENTS 200 /* of each system prompt */
#define DOCUMENT_BLOCKS_MIN 4
#define DOCUMENT_BLOCKS_MAX 28
#define QUESTIONS_MAX 20 /* about a document */

static void die(const char *what, const char *why)
{
    fprintf(stderr, "prefix_order: %s: %s\n", what, why);
    exit(1);
}

static void check(tidemill_error *error)
{
    if (error != NULL) die("the planner", error_message(error));
}

static void *make(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    if (memory == NULL) die("out of memory", "the prompts");
    return memory;
}

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* --- a trace ---------------------------------------------------------------------------------------- */

struct trace {
    uint32_t *ids; /* of all requests one after another */
    size_t *first; /* request i begins there; n + 2 of them, the last one is where the next ends */
    uint32_t *output_tokens;
    size_t n;
    struct prefix_item *items;
};

/* Room for `count` elements and one more; doubles. */
static void *grow(void *memory, size_t count, size_t size)
{
    bool is_full = (count & (count + 1)) == 0;
    void *larger = is_full ? realloc(memory, (count + 1) * 2 * size) : memory;
    if (larger == NULL) die("out of memory", "the trace");
    return larger;
}

static void add_block(struct trace *trace, uint32_t id)
{
    size_t end = trace->first[trace->n + 1];
    trace->ids = grow(trace->ids, end, sizeof *trace->ids);
    trace->ids[end] = id;
    trace->first[trace->n + 1]++;
}

/* Its blocks were added before. */
static void end_request(struct trace *trace, uint32_t output_tokens)
{
    trace->output_tokens = grow(trace->output_tokens, trace->n, sizeof *trace->output_tokens);
    trace->output_tokens[trace->n++] = output_tokens;
    trace->first = grow(trace->first, trace->n + 1, sizeof *trace->first);
    trace->first[trace->n + 1] = trace->first[trace->n];
}

static void read_request(const char *line, size_t length, struct trace *trace)
{
    yyjson_doc *doc = yyjson_read(line, length, 0);
    yyjson_val *root = yyjson_doc_get_root(doc), *ids = yyjson_obj_get(root, "hash_ids"), *id;
    size_t i, n;
    if (!yyjson_is_arr(ids)) die("a line has no hash_ids", line);
    yyjson_arr_foreach(ids, i, n, id)
    {
        if (!yyjson_is_uint(id) || yyjson_get_uint(id) > UINT32_MAX) die("not a block id", line);
        add_block(trace, (uint32_t)yyjson_get_uint(id));
    }
    end_request(trace, (uint32_t)yyjson_get_uint(yyjson_obj_get(root, "output_length")));
    yyjson_doc_free(doc);
}

static struct trace new_trace(void)
{
    return (struct trace){.first = make(2, sizeof(size_t))};
}

static void free_trace(struct trace *trace)
{
    free(trace->items);
    free(trace->output_tokens);
    free(trace->first);
    free(trace->ids);
}

/* Questions about documents behind system prompts, document by document. */
static void make_trace(struct trace *trace)
{
    uint64_t state = SEED;
    uint32_t system_id = 0, document_id = SYSTEMS * SYSTEM_BLOCKS, question_id = UINT32_MAX;
    for (uint32_t s = 0; s < SYSTEMS; s++, system_id += SYSTEM_BLOCKS) {
        for (uint32_t d = 0; d < DOCUMENTS; d++) {
            uint32_t n_blocks =
                DOCUMENT_BLOCKS_MIN +
                (uint32_t)(random_next(&state) % (DOCUMENT_BLOCKS_MAX - DOCUMENT_BLOCKS_MIN + 1));
            uint32_t n_questions = 1 + (uint32_t)(random_next(&state) % QUESTIONS_MAX);
            for (uint32_t q = 0; q < n_questions; q++) {
                for (uint32_t b = 0; b < SYSTEM_BLOCKS; b++) add_block(trace, system_id + b);
                for (uint32_t b = 0; b < n_blocks; b++) add_block(trace, document_id + b);
                add_block(trace, question_id--);
                end_request(trace, 0);
            }
            document_id += n_blocks;
        }
    }
}

static void read_trace(const char *path, struct trace *trace)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    if (file == NULL) die("cannot open", path);
    while ((length = getline(&line, &capacity, file)) > 0)
        if (line[0] != '\n') read_request(line, (size_t)length, trace);
    free(line);
    fclose(file);
}

/* An item's unit is a block; its cost the blocks' worth of tokens that it generates. */
static void make_items(struct trace *trace)
{
    trace->items = make(trace->n, sizeof *trace->items);
    for (size_t r = 0; r < trace->n; r++)
        trace->items[r] = (struct prefix_item){
            .units = trace->ids + trace->first[r],
            .n_units = (uint32_t)(trace->first[r + 1] - trace->first[r]),
            .cost = trace->output_tokens[r] / BLOCK_TOKENS,
        };
}

/* --- orders ----------------------------------------------------------------------------------------- */

static void arrival_order(const struct trace *trace, uint32_t *order)
{
    for (size_t i = 0; i < trace->n; i++) order[i] = (uint32_t)i;
}

static void shuffled_order(const struct trace *trace, uint32_t *order)
{
    uint64_t state = SEED;
    arrival_order(trace, order);
    for (size_t i = trace->n; i > 1; i--) {
        size_t other = random_next(&state) % i;
        uint32_t moved = order[i - 1];
        order[i - 1] = order[other];
        order[other] = moved;
    }
}

struct hashed {
    uint64_t hash;
    uint32_t place, request;
};

static int compare_hashed(const void *a, const void *b)
{
    const struct hashed *left = a, *right = b;
    if (left->hash != right->hash) return left->hash < right->hash ? -1 : 1;
    return left->place < right->place ? -1 : left->place > right->place;
}

/* Requests with the same first blocks together, found by a hash; else as they stand in `order`. */
static void group_by_hash(const struct trace *trace, size_t n_blocks, uint32_t *order)
{
    struct hashed *hashed = make(trace->n, sizeof *hashed);
    for (size_t i = 0; i < trace->n; i++) {
        const struct prefix_item *item = &trace->items[order[i]];
        size_t bytes = MIN((size_t)item->n_units, n_blocks) * sizeof(uint32_t);
        uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
        for (size_t b = 0; b < bytes; b++)
            hash = (hash ^ ((const unsigned char *)item->units)[b]) * 0x100000001b3u;
        hashed[i] = (struct hashed){hash, (uint32_t)i, order[i]};
    }
    qsort(hashed, trace->n, sizeof *hashed, compare_hashed);
    for (size_t i = 0; i < trace->n; i++) order[i] = hashed[i].request;
    free(hashed);
}

/* Replaces `order` by the plan of the requests as they stand in it. */
static void planned_order(const struct trace *trace, uint32_t *order)
{
    struct prefix_options options = {.unit_bytes = sizeof(uint32_t), .block_units = 1};
    struct prefix_item *items = make(trace->n, sizeof *items);
    uint32_t *before = make(trace->n, sizeof *before);
    struct arena arena = {0};
    struct prefix_plan plan;
    memcpy(before, order, trace->n * sizeof *order);
    for (size_t i = 0; i < trace->n; i++) items[i] = trace->items[order[i]];
    check(plan_prefix_order(items, trace->n, &options, &arena, &plan));
    for (size_t i = 0; i < trace->n; i++) order[i] = before[plan.order[i]];
    arena_free(&arena);
    free(before);
    free(items);
}

/* Blocks: the longest request, ten times that, a thousand, more than there are. */
static void list_capacities(const struct block_paths *paths, size_t *capacities)
{
    size_t longest = paths->longest, large = longest * 10;
    capacities[0] = longest;
    capacities[1] = MAX(MIN(large, 1000U), longest);
    capacities[2] = MAX(large, 1000U);
    capacities[3] = MAX(paths->n_blocks, capacities[2]);
}

static void print_row(const char *name, const struct block_paths *paths, const uint32_t *order)
{
    size_t capacities[N_CAPACITIES];
    list_capacities(paths, capacities);
    double most = (double)(paths->n_blocks - paths->n_nodes);
    printf("| %-*s |", COLUMNS, name);
    for (size_t c = 0; c < N_CAPACITIES; c++) {
        size_t hits = prefix_cache_hits(paths, order, capacities[c]);
        printf(" %6zu (%5.1f%%) |", hits, most == 0 ? 100 : 100 * (double)hits / most);
        if (capacities[c] >= paths->n_blocks && hits != paths->n_blocks - paths->n_nodes)
            die("the cache", "an endless one does not find all that is shared");
    }
    printf("\n");
}

static void simulate(const char *name, const struct trace *trace)
{
    struct block_paths paths;
    uint32_t *order = make(trace->n, sizeof *order);
    size_t capacities[N_CAPACITIES];
    block_paths_make(trace->ids, trace->first, trace->n, &paths);
    list_capacities(&paths, capacities);
    size_t most = paths.n_blocks - paths.n_nodes;
    printf("\n%s: %zu requests, %zu blocks, the longest %zu; distinct prefix blocks %" PRIu32
           ", so at most %zu (%.1f%%) are found\n\n",
           name, trace->n, paths.n_blocks, paths.longest, paths.n_nodes, most,
           100 * (double)most / (double)MAX(paths.n_blocks, 1U));
    printf("| %-*s | %7zu blocks | %7zu blocks | %7zu blocks | %15s |\n", COLUMNS, "cache of",
           capacities[0], capacities[1], capacities[2], "without end");
    printf("|---|---|---|---|---|\n");
    arrival_order(trace, order);
    print_row("as in the trace", &paths, order);
    group_by_hash(trace, 1, order);
    print_row("the same, first block grouped", &paths, order);
    shuffled_order(trace, order);
    print_row("shuffled", &paths, order);
    group_by_hash(trace, 1, order);
    print_row("shuffled, first block grouped", &paths, order);
    shuffled_order(trace, order);
    group_by_hash(trace, 2, order);
    print_row("shuffled, first two blocks grouped", &paths, order);
    shuffled_order(trace, order);
    planned_order(trace, order);
    print_row("shuffled, then plan_prefix_order", &paths, order);
    block_paths_free(&paths);
    free(order);
}

static void print_cuts(const struct trace *trace)
{
    struct prefix_options options = {.unit_bytes = sizeof(uint32_t), .block_units = 1};
    struct arena arena = {0};
    struct prefix_plan plan;
    check(plan_prefix_order(trace->items, trace->n, &options, &arena, &plan));
    printf("\n| workers | blocks computed again | of all computed |\n|---|---|---|\n");
    for (uint32_t workers = 2; workers <= 64; workers *= 2) {
        uint32_t cuts[65];
        uint64_t again = plan_prefix_cut(trace->items, &plan, workers, 10, cuts);
        printf("| %" PRIu32 " | %" PRIu64 " | %.3f%% |\n", workers, again,
               100 * (double)again / (double)(plan.total_units - plan.shared_units));
    }
    arena_free(&arena);
}

static void show(const char *name, struct trace *trace)
{
    make_items(trace);
    simulate(name, trace);
    print_cuts(trace);
    free_trace(trace);
}

int main(int argc, char **argv)
{
    struct trace trace = new_trace(), made_up = new_trace();
    if (argc > 2) {
        fputs("usage: prefix_order [TRACE.jsonl]\n", stderr);
        return 2;
    }
    if (argc == 2) {
        read_trace(argv[1], &trace);
        show(argv[1], &trace);
    }
    make_trace(&made_up);
    show("made up", &made_up);
    return 0;
}
