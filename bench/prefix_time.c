/* SPDX-License-Identifier: Apache-2.0 */
/* prefix_time.c - how long plan_prefix_order takes for a million made-up prompts of 1 KB.
 *
 * Processor seconds of the one thread, on a machine that others may use; the prompts are in memory and
 * lie there in another order than they are given. From a fixed seed. */
#include "plan/plan.h"

#include <stdio.h>
#include <stdlib.h>

#define SEED 20240601
#define ROUNDS 5
#define PROMPTS 1000000
#define PROMPT_BYTES 1024

static void die(const char *why)
{
    fprintf(stderr, "prefix_time: %s\n", why);
    exit(1);
}

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct kind {
    const char *name;
    uint32_t n_beginnings; /* 0: nothing is shared on purpose */
    uint32_t shared_bytes; /* length of a beginning */
    uint32_t n_seconds;    /* texts that follow a beginning; 0: none */
    uint32_t second_bytes;
    uint32_t own_bytes;
};

/* Lower case words: random bytes would part at once. */
static void write_text(char *text, size_t size, uint64_t seed)
{
    static const char letters[] = "etaoinshrdlu    ";
    for (size_t i = 0; i < size; i += 16) {
        uint64_t bits = random_next(&seed);
        for (size_t k = i; k < MIN(i + 16, size); k++, bits >>= 4) text[k] = letters[bits & 15];
    }
}

static void make_prompts(const struct kind *kind, char *text, struct prefix_item *items)
{
    uint64_t state = SEED;
    uint32_t size = kind->shared_bytes + kind->second_bytes + kind->own_bytes;
    for (size_t i = 0; i < PROMPTS; i++, text += size) {
        uint64_t beginning = random_next(&state) % MAX(kind->n_beginnings, 1U);
        uint64_t second = random_next(&state) % MAX(kind->n_seconds, 1U);
        write_text(text, kind->shared_bytes, SEED + beginning);
        write_text(text + kind->shared_bytes, kind->second_bytes,
                   SEED + 1000000 + beginning * 10000 + second);
        write_text(text + kind->shared_bytes + kind->second_bytes, kind->own_bytes,
                   random_next(&state));
        items[i] = (struct prefix_item){.units = text, .n_units = size};
    }
    /* Prompts do not lie in memory in the order in which they came from a generator of groups. */
    for (size_t i = PROMPTS; i > 1; i--) {
        size_t other = random_next(&state) % i;
        struct prefix_item moved = items[i - 1];
        items[i - 1] = items[other];
        items[other] = moved;
    }
}

static int compare_seconds(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static void time_planner(const struct kind *kind, char *text, struct prefix_item *items)
{
    struct prefix_options options = {.unit_bytes = 1, .block_units = 64};
    double all_s[ROUNDS];
    uint64_t shared = 0, total = 0;
    size_t n_groups = 0;
    make_prompts(kind, text, items);
    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena = {0};
        struct prefix_plan plan;
        double started_s = clock_process_cpu_s();
        tidemill_error *error = plan_prefix_order(items, PROMPTS, &options, &arena, &plan);
        if (error != NULL) die(error_message(error));
        all_s[round] = clock_process_cpu_s() - started_s;
        shared = plan.shared_units;
        total = plan.total_units;
        n_groups = plan.n_groups;
        arena_free(&arena);
    }
    qsort(all_s, ROUNDS, sizeof *all_s, compare_seconds);
    printf("| %s | %.0f%% | %zu | %.2f | %.2f |\n", kind->name,
           100 * (double)shared / (double)total, n_groups, all_s[0], all_s[ROUNDS / 2]);
    fflush(stdout);
}

int main(void)
{
    static const struct kind kinds[] = {
        {"200 system prompts of 600 bytes", 200, 600, 0, 0, PROMPT_BYTES - 600},
        {"200 of 400 bytes, 50 documents each", 200, 400, 50, 400, PROMPT_BYTES - 800},
        {"one of 960 bytes for all", 1, 960, 0, 0, 64},
        {"nothing shared", 0, 0, 0, 0, PROMPT_BYTES},
        {"all equal", 1, PROMPT_BYTES, 0, 0, 0},
        {"every prompt about 20 times", 50000, PROMPT_BYTES, 0, 0, 0},
    };
    char *text = malloc((size_t)PROMPTS * PROMPT_BYTES);
    struct prefix_item *items = malloc(PROMPTS * sizeof *items);
    if (text == NULL || items == NULL) die("out of memory");
    printf("| a million prompts of 1 KB | shared | groups | best of %d, s | median, s |\n", ROUNDS);
    printf("|---|---|---|---|---|\n");
    for (size_t k = 0; k < COUNT_OF(kinds); k++) time_planner(&kinds[k], text, items);
    free(items);
    free(text);
    return 0;
}
