/* SPDX-License-Identifier: Apache-2.0 */
/* plan_prefix_test.c - the order of prompts loses none, shares what any order can share at most, and
 * is the same every time; cuts for workers are even and cheap. */
#include "expect.h"

#include "plan/plan.h"

#include <inttypes.h>

#define ROUNDS 3000
#define ITEMS_MAX 2000
#define ITEMS_FEW 48 /* of most rounds */
#define UNITS_MAX 24
#define MANY 100000

/* --- an allocation that fails ----------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_OWN_MALLOC 0
#endif
#endif
#if !defined(HAS_OWN_MALLOC) && defined(__GLIBC__)
#define HAS_OWN_MALLOC 1
#endif

#if HAS_OWN_MALLOC
static long mallocs_until_failure; /* 0: none fails */
static bool has_failed;

void *__libc_malloc(size_t size);

void *malloc(size_t size)
{
    if (mallocs_until_failure > 0 && --mallocs_until_failure == 0) {
        has_failed = true;
        return NULL;
    }
    return __libc_malloc(size);
}
#endif

/* --- what is true of every plan --------------------------------------------------------------------- */

/* Unit by unit, unlike the planner. */
static uint32_t common_units(const struct prefix_item *a, const struct prefix_item *b,
                             const struct prefix_options *options)
{
    const char *left = a->units, *right = b->units;
    uint32_t n = 0, shorter = MIN(a->n_units, b->n_units);
    while (n < shorter && memcmp(left + (size_t)n * options->unit_bytes,
                                 right + (size_t)n * options->unit_bytes, options->unit_bytes) == 0)
        n++;
    return n;
}

static uint32_t common_blocks(const struct prefix_item *a, const struct prefix_item *b,
                              const struct prefix_options *options)
{
    return common_units(a, b, options) / options->block_units;
}

/* A node of the trie is the beginning of an item that no earlier item has: so an item adds as many as
 * it has blocks, but for the longest beginning that it shares with an earlier one. */
static uint64_t most_shared(const struct prefix_item *items, size_t n,
                            const struct prefix_options *options)
{
    uint64_t blocks = 0, nodes = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t own = items[i].n_units / options->block_units, known = 0;
        for (size_t k = 0; k < i; k++)
            known = MAX(known, common_blocks(&items[i], &items[k], options));
        blocks += own;
        nodes += own - known;
    }
    return (blocks - nodes) * options->block_units;
}

static uint32_t group_min_of(const struct prefix_options *options)
{
    return options->group_min_units == 0 ? options->block_units : options->group_min_units;
}

static void assert_each_item_once(const struct prefix_plan *plan, size_t n)
{
    bool *seen = calloc(n + 1, sizeof *seen);
    assert_non_null(seen);
    assert_int_equal(plan->n, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(plan->order[i] < n);
        if (seen[plan->order[i]]) fail_msg("item %u runs twice", plan->order[i]);
        seen[plan->order[i]] = true;
    }
    free(seen);
}

static void assert_shared(const struct prefix_item *items, const struct prefix_options *options,
                          const struct prefix_plan *plan)
{
    uint64_t sum = 0, total = 0;
    for (size_t i = 0; i < plan->n; i++) {
        uint32_t expected =
            i == 0 ? 0
                   : options->block_units *
                         common_blocks(&items[plan->order[i]], &items[plan->order[i - 1]], options);
        if (plan->shared_with_previous[i] != expected)
            fail_msg("place %zu shares %u, not %u", i, plan->shared_with_previous[i], expected);
        sum += expected;
        total += items[i].n_units;
    }
    assert_true(plan->shared_units == sum);
    assert_true(plan->total_units == total);
}

static void assert_groups(const struct prefix_item *items, const struct prefix_options *options,
                          const struct prefix_plan *plan)
{
    uint64_t work_before = UINT64_MAX;
    uint32_t at = 0;
    for (size_t g = 0; g < plan->n_groups; g++) {
        const struct prefix_group *group = &plan->groups[g];
        uint64_t total = 0, shared = 0, cost = 0;
        assert_int_equal(group->first, at); /* one after another, no gap, no overlap */
        assert_true(group->count >= 1);
        for (uint32_t i = at; i < at + group->count; i++) {
            if (i > at) {
                assert_true(plan->shared_with_previous[i] >= group_min_of(options));
                shared += plan->shared_with_previous[i];
            } else {
                assert_true(plan->shared_with_previous[i] < group_min_of(options));
            }
            total += items[plan->order[i]].n_units;
            cost += items[plan->order[i]].cost;
        }
        assert_true(group->total_units == total && group->shared_units == shared);
        assert_true(group->cost == cost);
        assert_true(total - shared + cost <= work_before);
        work_before = total - shared + cost;
        at += group->count;
    }
    assert_int_equal(at, plan->n);
}

static void assert_equal_items_keep_their_order(const struct prefix_item *items,
                                                const struct prefix_options *options,
                                                const struct prefix_plan *plan)
{
    for (size_t g = 0; g < plan->n_groups; g++) {
        uint32_t end = plan->groups[g].first + plan->groups[g].count;
        for (uint32_t i = plan->groups[g].first; i + 1 < end; i++) {
            const struct prefix_item *a = &items[plan->order[i]], *b = &items[plan->order[i + 1]];
            if (a->n_units == b->n_units && common_units(a, b, options) == a->n_units)
                assert_true(plan->order[i] < plan->order[i + 1]);
        }
    }
}

static void assert_plan(const struct prefix_item *items, size_t n,
                        const struct prefix_options *options, const struct prefix_plan *plan)
{
    uint64_t most = most_shared(items, n, options);
    assert_each_item_once(plan, n);
    assert_shared(items, options, plan);
    assert_groups(items, options, plan);
    assert_equal_items_keep_their_order(items, options, plan);
    assert_true(plan->shared_units <= most);
    if (group_min_of(options) <= options->block_units)
        assert_true(plan->shared_units == most);
    else if (plan->n_groups > 0)
        assert_true(plan->shared_units + (plan->n_groups - 1) * options->group_min_units >= most);
}

/* --- examples --------------------------------------------------------------------------------------- */

static void known_items_get_a_known_order(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        const char *texts[7];
        uint32_t block_units, group_min_units;
        uint32_t order[6], shared[6];
        size_t n_groups;
    } rows[] = {
        {"the example of the readme",
         {"bx", "a1", "bxy", "a2", "b", "bxz"},
         1,
         0,
         {0, 2, 5, 4, 1, 3},
         {0, 2, 2, 1, 0, 1},
         2},
        {"no items make a group", {NULL}, 1, 0, {0}, {0}, 0},
        {"one item is lost", {"a"}, 1, 0, {0}, {0}, 1},
        {"equal items change places", {"aa", "aa", "aa"}, 1, 0, {0, 1, 2}, {0, 2, 2}, 1},
        {"a single item comes before a subtree", {"abc", "ab", "a"}, 1, 0, {1, 0, 2}, {0, 2, 1}, 1},
        {"empty items share something", {"", "a", ""}, 1, 0, {1, 0, 2}, {0, 0, 0}, 3},
        {"part of a block is shared", {"aaab", "aaac", "aabb"}, 2, 0, {0, 1, 2}, {0, 2, 2}, 1},
        {"less than a block makes a group", {"ab", "ac", "ad"}, 2, 0, {0, 1, 2}, {0, 0, 0}, 3},
        {"groups of three units are parted only at two",
         {"aab1", "aac12", "aab2"},
         1,
         3,
         {0, 2, 1},
         {0, 3, 2},
         2},
        {"equal subtrees come in another order than their units",
         {"a2x", "a2y", "a1x", "a1y"},
         1,
         0,
         {2, 3, 0, 1},
         {0, 2, 1, 2},
         1},
        {"the smaller subtree comes first",
         {"a1x", "a1y", "a2xx1", "a2xx2", "a0"},
         1,
         0,
         {2, 3, 0, 1, 4},
         {0, 4, 1, 2, 1},
         1},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct prefix_item items[6];
        struct prefix_options options = {1, rows[r].block_units, rows[r].group_min_units};
        struct arena arena = {0};
        struct prefix_plan plan;
        size_t n = 0;
        for (; rows[r].texts[n] != NULL; n++)
            items[n] =
                (struct prefix_item){rows[r].texts[n], (uint32_t)strlen(rows[r].texts[n]), 0};
        expect_fine(plan_prefix_order(items, n, &options, &arena, &plan), rows[r].name);
        assert_plan(items, n, &options, &plan);
        for (size_t i = 0; i < n; i++)
            if (plan.order[i] != rows[r].order[i] ||
                plan.shared_with_previous[i] != rows[r].shared[i])
                fail_msg("%s: place %zu has item %u, shares %u", rows[r].name, i, plan.order[i],
                         plan.shared_with_previous[i]);
        assert_int_equal(plan.n_groups, rows[r].n_groups);
        arena_free(&arena);
    }
}

static void expected_output_puts_a_group_first(void **unused)
{
    (void)unused;
    static const struct prefix_item items[] = {{"aaaa", 4, 0}, {"b", 1, 100}, {"aaab", 4, 1}};
    static const uint32_t order[] = {1, 0, 2};
    struct prefix_options options = {.unit_bytes = 1, .block_units = 1};
    struct arena arena = {0};
    struct prefix_plan plan;
    expect_fine(plan_prefix_order(items, 3, &options, &arena, &plan), "plan");
    assert_memory_equal(plan.order, order, sizeof order);
    assert_true(plan.groups[0].cost == 100 && plan.groups[1].cost == 1);
    arena_free(&arena);
}

/* Zeros at the end of a word are not the padding behind a shorter item. */
static void zeros_are_units_like_others(void **unused)
{
    (void)unused;
    static const char zeros[64] = {0};
    for (uint32_t unit_bytes = 1; unit_bytes <= 8; unit_bytes *= unit_bytes == 1 ? 4 : 2) {
        struct prefix_options options = {.unit_bytes = unit_bytes, .block_units = 1};
        struct prefix_item items[9];
        struct arena arena = {0};
        struct prefix_plan plan;
        for (uint32_t i = 0; i < COUNT_OF(items); i++)
            items[i] = (struct prefix_item){zeros, (i * 5) % 9 % (64 / unit_bytes), 0};
        expect_fine(plan_prefix_order(items, COUNT_OF(items), &options, &arena, &plan), "zeros");
        assert_plan(items, COUNT_OF(items), &options, &plan);
        arena_free(&arena);
    }
}

/* --- properties ------------------------------------------------------------------------------------- */

struct prompts {
    struct prefix_options options;
    struct prefix_item items[ITEMS_MAX];
    size_t n;
    char text[ITEMS_MAX][UNITS_MAX * 8 + 8];
};

static void write_unit(char *to, uint32_t unit_bytes, uint64_t *state)
{
    static const uint64_t values[] = {0, 1, 0x80, (uint64_t)1 << 31, (uint64_t)1 << 32, UINT64_MAX};
    uint64_t wide = values[random_below(state, random_below(state, 4) == 0 ? 6 : 2)];
    uint32_t narrow = (uint32_t)wide;
    unsigned char byte = (unsigned char)wide;
    if (unit_bytes == 8) memcpy(to, &wide, sizeof wide);
    if (unit_bytes == 4) memcpy(to, &narrow, sizeof narrow);
    if (unit_bytes == 1) memcpy(to, &byte, sizeof byte);
}

/* Each item goes on from a random place of an earlier one, or is one again; units lie anywhere. */
static void random_prompts(struct prompts *prompts, uint64_t *state)
{
    static const uint32_t unit_sizes[] = {1, 4, 8};
    struct prefix_options *options = &prompts->options;
    uint32_t units_max = 1 + (uint32_t)random_below(state, UNITS_MAX);
    *options = (struct prefix_options){
        .unit_bytes = unit_sizes[random_below(state, 3)],
        .block_units = 1 + (uint32_t)(random_below(state, 2) * random_below(state, 5)),
        .group_min_units = (uint32_t)(random_below(state, 2) * random_below(state, 8)),
    };
    prompts->n = random_below(state, random_below(state, 300) == 0 ? ITEMS_MAX + 1 : ITEMS_FEW);
    for (size_t i = 0; i < prompts->n; i++) {
        struct prefix_item *item = &prompts->items[i];
        char *units = prompts->text[i] + random_below(state, 8);
        uint32_t n_kept = 0, n_units = (uint32_t)random_below(state, units_max + 1);
        if (i > 0) {
            const struct prefix_item *other = &prompts->items[random_below(state, i)];
            n_kept = (uint32_t)random_below(state, other->n_units + 1);
            if (random_below(state, 4) == 0) n_units = n_kept = other->n_units;
            n_units = MAX(n_units, n_kept);
            memcpy(units, other->units, (size_t)n_kept * options->unit_bytes);
        }
        for (uint32_t u = n_kept; u < n_units; u++)
            write_unit(units + (size_t)u * options->unit_bytes, options->unit_bytes, state);
        *item = (struct prefix_item){units, n_units, (uint32_t)random_below(state, 9)};
    }
}

static void any_prompts_share_all_that_can_be_shared(void **unused)
{
    (void)unused;
    static struct prompts prompts;
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena = {0};
        struct prefix_plan plan;
        random_prompts(&prompts, &state);
        expect_fine(plan_prefix_order(prompts.items, prompts.n, &prompts.options, &arena, &plan),
                    "plan");
        assert_plan(prompts.items, prompts.n, &prompts.options, &plan);
        arena_free(&arena);
    }
}

static void shuffle(struct prefix_item *items, size_t n, uint64_t *state)
{
    for (size_t i = n; i > 1; i--) {
        size_t other = random_below(state, i);
        struct prefix_item moved = items[i - 1];
        items[i - 1] = items[other];
        items[other] = moved;
    }
}

static void the_order_of_the_input_does_not_matter(void **unused)
{
    (void)unused;
    static struct prompts prompts;
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < ROUNDS; round++) {
        static struct prefix_item shuffled[ITEMS_MAX];
        struct arena arena = {0};
        struct prefix_plan plan, other;
        random_prompts(&prompts, &state);
        memcpy(shuffled, prompts.items, sizeof shuffled);
        shuffle(shuffled, prompts.n, &state);
        expect_fine(plan_prefix_order(prompts.items, prompts.n, &prompts.options, &arena, &plan),
                    "plan");
        expect_fine(plan_prefix_order(shuffled, prompts.n, &prompts.options, &arena, &other),
                    "other");
        assert_int_equal(plan.n_groups, other.n_groups);
        assert_true(plan.shared_units == other.shared_units);
        for (size_t i = 0; i < prompts.n; i++) {
            const struct prefix_item *a = &prompts.items[plan.order[i]];
            const struct prefix_item *b = &shuffled[other.order[i]];
            assert_int_equal(a->n_units, b->n_units);
            assert_int_equal(common_units(a, b, &prompts.options), a->n_units);
        }
        arena_free(&arena);
    }
}

/* Long enough that whole cache lines are skipped, with the difference anywhere. */
static void long_prompts_part_where_they_differ(void **unused)
{
    (void)unused;
    enum { BYTES = 2000 };
    uint64_t state = random_seed(__func__);
    char *texts[2] = {calloc(BYTES, 1), calloc(BYTES, 1)};
    assert_true(texts[0] != NULL && texts[1] != NULL);
    for (int round = 0; round < ROUNDS; round++) {
        struct prefix_options options = {.unit_bytes = 1, .block_units = 1};
        struct prefix_item items[2];
        struct arena arena = {0};
        struct prefix_plan plan;
        uint32_t differs = (uint32_t)random_below(&state, BYTES);
        for (size_t i = 0; i < 2; i++) {
            memset(texts[i], 'a', BYTES);
            items[i] = (struct prefix_item){texts[i], (uint32_t)random_below(&state, BYTES), 0};
        }
        texts[1][differs] = 'b';
        expect_fine(plan_prefix_order(items, 2, &options, &arena, &plan), "plan");
        assert_true(plan.shared_units == MIN(differs, MIN(items[0].n_units, items[1].n_units)));
        arena_free(&arena);
    }
    free(texts[0]);
    free(texts[1]);
}

/* --- adversaries: these end at once, or not at all -------------------------------------------------- */

static void items_that_begin_one_another_are_as_deep_as_many(void **unused)
{
    (void)unused;
    struct prefix_options options = {.unit_bytes = 4, .block_units = 1};
    uint32_t *units = calloc(MANY, sizeof *units);
    struct prefix_item *items = calloc(MANY, sizeof *items);
    struct arena arena = {0};
    struct prefix_plan plan;
    uint64_t state = random_seed(__func__);
    assert_true(units != NULL && items != NULL);
    /* All zero: to a comparison by words they look equal. */
    for (uint32_t i = 0; i < MANY; i++) items[i] = (struct prefix_item){units, i + 1, 0};
    shuffle(items, MANY, &state);
    expect_fine(plan_prefix_order(items, MANY, &options, &arena, &plan), "ladder");
    assert_each_item_once(&plan, MANY);
    assert_int_equal(plan.n_groups, 1);
    assert_true(plan.total_units - plan.shared_units == MANY); /* each unit once */
    arena_free(&arena);
    free(items);
    free(units);
}

static void many_items_with_a_long_common_prefix_are_told_apart_behind_it(void **unused)
{
    (void)unused;
    struct prefix_options options = {.unit_bytes = 4, .block_units = 16};
    uint32_t *units = calloc(MANY, sizeof *units);
    struct prefix_item *items = calloc(MANY, sizeof *items);
    struct arena arena = {0};
    struct prefix_plan plan;
    assert_true(units != NULL && items != NULL);
    for (uint32_t i = 0; i < MANY; i++) items[i] = (struct prefix_item){units, MANY - i % 2, 0};
    expect_fine(plan_prefix_order(items, MANY, &options, &arena, &plan), "equal");
    /* The longer ones have a block more: 100000 is a multiple of 16. They share that one too. */
    assert_true(plan.shared_units == (uint64_t)(MANY / 2 - 1) * MANY + (MANY / 2) * (MANY - 16ul));
    for (uint32_t i = 0; i < MANY / 2; i++) {
        assert_int_equal(plan.order[i], i * 2);
        assert_int_equal(plan.order[MANY / 2 + i], i * 2 + 1);
    }
    arena_free(&arena);
    free(items);
    free(units);
}

/* Item i is i times a, then b: the whole input is read, but not once for each item. */
static void a_staircase_is_read_once(void **unused)
{
    (void)unused;
    enum { STEPS = 4000 };
    struct prefix_options options = {.unit_bytes = 1, .block_units = 1};
    char *text = calloc(STEPS, STEPS + 1);
    struct prefix_item *items = calloc(STEPS, sizeof *items);
    struct arena arena = {0};
    struct prefix_plan plan;
    assert_true(text != NULL && items != NULL);
    for (uint32_t i = 0; i < STEPS; i++) {
        char *own = text + (size_t)i * (STEPS + 1);
        memset(own, 'a', i);
        own[i] = 'b';
        items[i] = (struct prefix_item){own, i + 1, 0};
    }
    expect_fine(plan_prefix_order(items, STEPS, &options, &arena, &plan), "staircase");
    assert_each_item_once(&plan, STEPS);
    assert_true(plan.total_units - plan.shared_units == STEPS - 1 + STEPS); /* every a, every b */
    arena_free(&arena);
    free(items);
    free(text);
}

/* --- no memory -------------------------------------------------------------------------------------- */

static void every_allocation_that_fails_is_an_error(void **unused)
{
    (void)unused;
#if HAS_OWN_MALLOC
    static const struct prefix_item items[] = {{"ab", 2, 0}, {"b", 1, 0}, {"ac", 2, 0}};
    struct prefix_item *many = calloc(MANY, sizeof *many);
    struct prefix_options options = {.unit_bytes = 1, .block_units = 1};
    long n_errors = 0;
    assert_non_null(many);
    for (size_t i = 0; i < MANY; i++) many[i] = items[i % COUNT_OF(items)];
    for (long nth = 1;; nth++) {
        struct arena arena = {0};
        struct prefix_plan plan = {.n = 77};
        has_failed = false;
        mallocs_until_failure = nth;
        tidemill_error *error = plan_prefix_order(many, MANY, &options, &arena, &plan);
        mallocs_until_failure = 0;
        if (error != NULL) {
            expect_error(error, ERROR_MEMORY, NULL, "nth allocation");
            assert_int_equal(plan.n, 77); /* no half of a plan */
            n_errors++;
        } else {
            assert_each_item_once(&plan, MANY);
        }
        arena_free(&arena);
        if (!has_failed) break;
    }
    assert_true(n_errors >= 8); /* as many arrays as are made */
    free(many);
#else
    skip();
#endif
}

/* --- cuts ------------------------------------------------------------------------------------------- */

struct cut_case {
    const struct prefix_item *items;
    const struct prefix_plan *plan;
    uint32_t n_workers, slack_percent;
    const uint32_t *cuts;
    uint64_t total; /* work */
};

static uint64_t work_at(const struct cut_case *cut, size_t at)
{
    const struct prefix_item *item = &cut->items[cut->plan->order[at]];
    return item->n_units - cut->plan->shared_with_previous[at] + item->cost;
}

/* Work of a range on a cache of its own. */
static uint64_t work_of(const struct cut_case *cut, size_t first, size_t end)
{
    uint64_t work = first < end ? cut->plan->shared_with_previous[first] : 0;
    for (size_t i = first; i < end; i++) work += work_at(cut, i);
    return work;
}

static void assert_even(const struct cut_case *cut)
{
    uint64_t largest = 0;
    for (size_t i = 0; i < cut->plan->n; i++)
        largest = MAX(largest, (uint64_t)cut->items[i].n_units + cut->items[i].cost);
    uint64_t bound = cut->total * (100 + 2 * cut->slack_percent) / 100 / cut->n_workers + 1;
    for (uint32_t k = 0; k < cut->n_workers; k++)
        if (work_of(cut, cut->cuts[k], cut->cuts[k + 1]) > bound + 2 * largest)
            fail_msg("worker %u of %u has more than %" PRIu64, k, cut->n_workers,
                     bound + 2 * largest);
}

/* No place as near to the even one shares less. */
static void assert_shallow(const struct cut_case *cut)
{
    uint64_t slack = cut->total / cut->n_workers * cut->slack_percent / 100;
    for (uint32_t k = 1; k < cut->n_workers; k++) {
        uint64_t even = cut->total * k / cut->n_workers, before = 0;
        for (size_t i = 0; i < cut->plan->n; i++) {
            if (before + slack >= even && before <= even + slack && cut->cuts[k] < cut->plan->n)
                assert_true(cut->plan->shared_with_previous[cut->cuts[k]] <=
                            cut->plan->shared_with_previous[i]);
            before += work_at(cut, i);
        }
    }
}

static void any_cut_is_even_and_shallow(void **unused)
{
    (void)unused;
    static struct prompts prompts;
    uint64_t state = random_seed(__func__);
    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena = {0};
        struct prefix_plan plan;
        uint32_t cuts[65];
        struct cut_case cut = {
            .items = prompts.items,
            .plan = &plan,
            .n_workers = 1 + (uint32_t)random_below(&state, random_below(&state, 4) == 0 ? 64 : 5),
            .slack_percent = (uint32_t)random_below(&state, 26),
            .cuts = cuts,
        };
        random_prompts(&prompts, &state);
        expect_fine(plan_prefix_order(prompts.items, prompts.n, &prompts.options, &arena, &plan),
                    "plan");
        uint64_t again =
            plan_prefix_cut(prompts.items, &plan, cut.n_workers, cut.slack_percent, cuts);
        uint64_t ranges = 0;
        cut.total = work_of(&cut, 0, plan.n);
        assert_int_equal(cuts[0], 0);
        assert_int_equal(cuts[cut.n_workers], plan.n);
        for (uint32_t k = 0; k < cut.n_workers; k++) {
            assert_true(cuts[k] <= cuts[k + 1]);
            ranges += work_of(&cut, cuts[k], cuts[k + 1]);
        }
        assert_true(ranges == cut.total + again); /* nothing but the cuts costs */
        assert_even(&cut);
        assert_shallow(&cut);
        arena_free(&arena);
    }
}

static void a_cut_goes_beside_the_middle_where_that_is_cheaper(void **unused)
{
    (void)unused;
    static const struct prefix_item items[] = {
        {"aaaa1", 5, 6}, {"aaaa2", 5, 9}, {"aaaa3", 5, 4}, {"bbbb1", 5, 6}, {"bbbb2", 5, 4}};
    struct prefix_options options = {.unit_bytes = 1, .block_units = 1};
    struct arena arena = {0};
    struct prefix_plan plan;
    uint32_t cuts[3];
    expect_fine(plan_prefix_order(items, COUNT_OF(items), &options, &arena, &plan), "plan");
    assert_true(plan_prefix_cut(items, &plan, 2, 25, cuts) == 0);
    assert_int_equal(cuts[1], 3); /* 26 and 16 of 42 */
    assert_true(plan_prefix_cut(items, &plan, 2, 0, cuts) == 4);
    assert_int_equal(cuts[1], 2); /* 21 and 21, and 4 again */
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_items_get_a_known_order),
        cmocka_unit_test(expected_output_puts_a_group_first),
        cmocka_unit_test(zeros_are_units_like_others),
        cmocka_unit_test(any_prompts_share_all_that_can_be_shared),
        cmocka_unit_test(the_order_of_the_input_does_not_matter),
        cmocka_unit_test(long_prompts_part_where_they_differ),
        cmocka_unit_test(items_that_begin_one_another_are_as_deep_as_many),
        cmocka_unit_test(many_items_with_a_long_common_prefix_are_told_apart_behind_it),
        cmocka_unit_test(a_staircase_is_read_once),
        cmocka_unit_test(every_allocation_that_fails_is_an_error),
        cmocka_unit_test(any_cut_is_even_and_shallow),
        cmocka_unit_test(a_cut_goes_beside_the_middle_where_that_is_cheaper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
