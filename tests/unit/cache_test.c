/* SPDX-License-Identifier: Apache-2.0 */
/* cache_test.c - what goes in comes out or is gone: never something else, never more than the limit,
 * and what is used stays. One process; tests/e2e/test_cache_command.py has several and kills. */
#include "expect.h"
#include "tempdir.h"

#include "cache/cache.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <lmdb.h>

#define MIB ((uint64_t)1 << 20)

static struct digest key_of(uint64_t number)
{
    return hash_bytes(&number, sizeof number);
}

/* A value that tells its key, so that any other value is seen to be wrong. */
static size_t make_value(uint64_t number, uint64_t version, size_t size, char *value)
{
    uint64_t state = number * 1000003 + version;
    for (size_t i = 0; i < size; i++) value[i] = (char)(random_next(&state) >> 7);
    return size;
}

static struct cache *open_cache(const char *path, uint64_t bytes_max)
{
    struct cache *cache = NULL;
    struct cache_options options = {.path = path, .bytes_max = bytes_max};
    expect_fine(cache_open(&io_local, &options, &cache), "open");
    return cache;
}

static void put(struct cache *cache, uint64_t number, uint64_t version, size_t size)
{
    char *value = malloc(size + 1);
    make_value(number, version, size, value);
    struct cache_entry entry = {key_of(number), value, size};
    expect_fine(cache_put(cache, &entry, 1), "put");
    free(value);
}

/* 1: there, 0: a miss. Fails where it is another value. */
static int get(struct cache *cache, uint64_t number, uint64_t version, size_t size)
{
    struct buffer out = {0};
    buffer_text(&out, "before");
    bool is_hit = cache_get(cache, key_of(number), &out);
    assert_memory_equal(out.data, "before", 6);
    assert_int_equal(out.size, is_hit ? 6 + size : 6);
    if (is_hit) {
        char *value = malloc(size + 1);
        make_value(number, version, size, value);
        assert_memory_equal(out.data + 6, value, size);
        free(value);
    }
    buffer_free(&out);
    return is_hit;
}

/* --- one value -------------------------------------------------------------------------------- */

static void values_of_every_size_come_back(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {0, 1, 20, 100, 2000, 2030, 2040, 4096, 70000, 3000000};
    struct tempdir folder;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), 64 * MIB);
    for (uint64_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_int_equal(get(cache, i, 0, sizes[i]), 0);
        put(cache, i, 0, sizes[i]);
    }
    for (int turn = 0; turn < 2; turn++) {
        for (uint64_t i = 0; i < COUNT_OF(sizes); i++)
            assert_int_equal(get(cache, i, 0, sizes[i]), 1);
        cache_close(cache);
        cache = open_cache(tempdir_path(&folder, "c"), 64 * MIB);
    }
    struct cache_stats stats;
    cache_get_stats(cache, &stats);
    assert_int_equal(stats.entries, COUNT_OF(sizes));
    assert_int_equal(stats.bytes_max, 64 * MIB);
    assert_true(stats.bytes_used > 3000000 && stats.bytes_used <= stats.file_bytes);
    cache_close(cache);
    cache_close(NULL);
    tempdir_close(&folder);
}

static void the_last_value_of_a_key_counts(void **unused)
{
    (void)unused;
    struct tempdir folder;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), MIB);
    put(cache, 1, 0, 50);
    put(cache, 1, 1, 60);
    assert_int_equal(get(cache, 1, 1, 60), 1);
    struct cache_entry entries[3] = {
        {key_of(2), "first", 5}, {key_of(3), "other", 5}, {key_of(2), "last", 4}};
    struct buffer out = {0};
    expect_fine(cache_put(cache, entries, 3), "put");
    assert_true(cache_get(cache, key_of(2), &out));
    assert_int_equal(out.size, 4);
    assert_memory_equal(out.data, "last", 4);
    buffer_free(&out);
    cache_close(cache);
    tempdir_close(&folder);
}

/* --- room ------------------------------------------------------------------------------------- */

static void put_many(struct cache *cache, uint64_t begin, uint64_t n, size_t size)
{
    struct cache_entry *entries = calloc(n, sizeof *entries);
    char *values = malloc(n * size);
    for (uint64_t i = 0; i < n; i++) {
        make_value(begin + i, 0, size, values + i * size);
        entries[i] = (struct cache_entry){key_of(begin + i), values + i * size, size};
    }
    expect_fine(cache_put(cache, entries, n), "put many");
    free(values);
    free(entries);
}

static void the_file_stays_below_its_limit(void **unused)
{
    (void)unused;
    static const struct {
        const char *name;
        uint64_t bytes_max;
        size_t size, batch;
    } rows[] = {
        {"small values", MIB, 40, 500},
        {"one at a time", MIB, 300, 1},
        {"pages of their own", 2 * MIB, 5000, 20},
        {"large batches", 8 * MIB, 100, 10000},
        {"as large as may be", 2 * MIB, 131072, 3},
    };
    for (size_t r = 0; r < COUNT_OF(rows); r++) {
        struct tempdir folder;
        struct cache_stats stats;
        tempdir_open(&folder);
        struct cache *cache = open_cache(tempdir_path(&folder, "c"), rows[r].bytes_max);
        uint64_t n = 0;
        for (uint64_t bytes = 0; bytes < 6 * rows[r].bytes_max; n += rows[r].batch) {
            put_many(cache, n, rows[r].batch, rows[r].size);
            bytes += rows[r].batch * rows[r].size;
            cache_get_stats(cache, &stats);
            if (stats.file_bytes > rows[r].bytes_max || stats.bytes_used > rows[r].bytes_max)
                fail_msg("%s: %llu bytes", rows[r].name, (unsigned long long)stats.file_bytes);
        }
        if (stats.rejected > 0 || stats.evicted == 0)
            fail_msg("%s: %llu not stored, %llu evicted", rows[r].name,
                     (unsigned long long)stats.rejected, (unsigned long long)stats.evicted);
        /* What was put last is there, and more than a third of the file is in use. */
        assert_int_equal(get(cache, n - 1, 0, rows[r].size), 1);
        if (stats.bytes_used < rows[r].bytes_max / 3)
            fail_msg("%s: only %llu bytes used", rows[r].name,
                     (unsigned long long)stats.bytes_used);
        cache_close(cache);
        tempdir_close(&folder);
    }
}

static void what_is_used_stays(void **unused)
{
    (void)unused;
    struct tempdir folder;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), MIB);
    struct cache_stats stats;
    uint64_t n_lost = 0;
    put_many(cache, 0, 200, 100);
    for (uint64_t n = 1000; n < 40000; n += 100) {
        put_many(cache, n, 100, 100);
        for (uint64_t i = 0; i < 100; i++) n_lost += get(cache, i, 0, 100) == 0; /* half of them */
    }
    assert_int_equal(n_lost, 0);
    for (uint64_t i = 100; i < 200; i++) assert_int_equal(get(cache, i, 0, 100), 0);
    cache_get_stats(cache, &stats);
    assert_true(stats.kept >= 100);
    cache_close(cache);
    tempdir_close(&folder);
}

static void a_value_that_is_too_large_is_left_out(void **unused)
{
    (void)unused;
    struct tempdir folder;
    struct cache_stats stats;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), MIB);
    put(cache, 1, 0, 70000);
    put(cache, 2, 0, 60000);
    assert_int_equal(get(cache, 1, 0, 70000), 0);
    assert_int_equal(get(cache, 2, 0, 60000), 1);
    cache_get_stats(cache, &stats);
    assert_int_equal(stats.rejected, 1);
    assert_int_equal(stats.puts, 1);
    cache_close(cache);
    tempdir_close(&folder);
}

static void another_limit_holds_from_the_next_open_on(void **unused)
{
    (void)unused;
    struct tempdir folder;
    struct cache_stats stats;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), 8 * MIB);
    put_many(cache, 0, 40000, 100);
    cache_close(cache);
    cache = open_cache(tempdir_path(&folder, "c"), 2 * MIB);
    cache_get_stats(cache, &stats);
    assert_true(stats.file_bytes <= 2 * MIB && stats.entries > 0);
    for (uint64_t n = 0; n < 40000; n += 2000) put_many(cache, 50000 + n, 2000, 100);
    cache_get_stats(cache, &stats);
    assert_true(stats.file_bytes <= 2 * MIB);
    assert_int_equal(get(cache, 50000 + 39999, 0, 100), 1);
    cache_close(cache);
    cache = open_cache(tempdir_path(&folder, "c"), 0); /* as it was */
    cache_get_stats(cache, &stats);
    assert_int_equal(stats.bytes_max, 2 * MIB);
    cache_close(cache);
    cache = open_cache(tempdir_path(&folder, "c"), 16 * MIB);
    for (uint64_t n = 0; n < 80000; n += 2000) put_many(cache, 100000 + n, 2000, 100);
    cache_get_stats(cache, &stats);
    assert_true(stats.file_bytes > 6 * MIB && stats.file_bytes <= 16 * MIB);
    cache_close(cache);
    tempdir_close(&folder);
}

static void pruning_and_clearing_give_the_space_back(void **unused)
{
    (void)unused;
    struct tempdir folder;
    struct cache_stats stats;
    uint64_t dropped;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), 16 * MIB);
    put_many(cache, 0, 30000, 100);
    expect_fine(cache_prune(cache, 100 * MIB, &dropped), "nothing to do");
    assert_int_equal(dropped, 0);
    expect_fine(cache_prune(cache, 3 * MIB, &dropped), "prune");
    cache_get_stats(cache, &stats);
    assert_true(dropped > 0 && stats.entries == 30000 - dropped);
    assert_true(stats.bytes_used <= 3 * MIB && stats.bytes_used > 2 * MIB);
    assert_true(stats.file_bytes < 5 * MIB);
    uint64_t n_there = 0;
    for (uint64_t i = 0; i < 30000; i++) n_there += (uint64_t)get(cache, i, 0, 100);
    assert_int_equal(n_there, stats.entries);
    expect_fine(cache_clear(cache), "clear");
    cache_get_stats(cache, &stats);
    assert_int_equal(stats.entries, 0);
    assert_true(stats.file_bytes < MIB);
    put(cache, 1, 1, 10);
    assert_int_equal(get(cache, 1, 1, 10), 1);
    cache_close(cache);
    tempdir_close(&folder);
}

/* --- against a model -------------------------------------------------------------------------- */

#define MODEL_KEYS 3000

/* Any row of puts, opens, prunes: a hit is the last value of its key. */
static void it_never_says_what_a_map_would_not_say(void **unused)
{
    (void)unused;
    struct tempdir folder;
    uint64_t state = random_seed(__func__), hits = 0, gets = 0, dropped;
    static uint64_t versions[MODEL_KEYS];
    memset(versions, 0, sizeof versions);
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), MIB);
    for (int step = 0; step < 3000; step++) {
        uint64_t what = random_below(&state, 1000);
        if (what < 400) {
            for (uint64_t i = random_below(&state, 40); i-- > 0;) {
                uint64_t number = random_below(&state, MODEL_KEYS);
                versions[number]++;
                put(cache, number, versions[number], versions[number] * 37 % 900);
            }
        } else if (what < 985) {
            for (uint64_t i = 0; i < 50; i++) {
                uint64_t number = random_below(&state, MODEL_KEYS / (1 + i % 3));
                hits += (uint64_t)get(cache, number, versions[number], versions[number] * 37 % 900);
                gets++;
            }
        } else if (what < 995) {
            cache_close(cache);
            cache = open_cache(tempdir_path(&folder, "c"), (1 + random_below(&state, 3)) * MIB);
        } else {
            expect_fine(cache_prune(cache, random_below(&state, MIB), &dropped), "prune");
        }
    }
    print_message("%llu of %llu hit\n", (unsigned long long)hits, (unsigned long long)gets);
    assert_true(hits > gets / 20);
    cache_close(cache);
    tempdir_close(&folder);
}

/* --- what is not ours, and neighbours --------------------------------------------------------- */

static void two_opens_of_one_process_are_one_cache(void **unused)
{
    (void)unused;
    struct tempdir folder;
    tempdir_open(&folder);
    struct cache *a = open_cache(tempdir_path(&folder, "c"), MIB);
    struct cache *b = open_cache(tempdir_path(&folder, "c/."), 2 * MIB);
    put(a, 1, 0, 10);
    assert_int_equal(get(b, 1, 0, 10), 1);
    cache_close(a);
    put(b, 2, 0, 10);
    assert_int_equal(get(b, 1, 0, 10), 1);
    cache_close(b);
    tempdir_close(&folder);
}

/* A job opens a cache with an I/O table of its own, which ends with it; another job goes on. */
static void who_opened_it_first_may_be_gone(void **unused)
{
    (void)unused;
    struct tempdir folder;
    tempdir_open(&folder);
    const char *path = tempdir_path(&folder, "c");
    struct cache *first = NULL;
    struct cache_options options = {.path = path};
    struct io *io = malloc(sizeof *io);
    assert_non_null(io);
    *io = io_local;
    expect_fine(cache_open(io, &options, &first), "open");
    struct cache *second = open_cache(path, 0);
    cache_close(first);
    memset(io, 0x5a, sizeof *io);
    free(io);
    put(second, 1, 1, 100);
    assert_int_equal(get(second, 1, 1, 100), 1);
    cache_close(second);
    tempdir_close(&folder);
}

static void bad_folders_are_refused_with_a_reason(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *folder, *file, *content;
        enum error_code code;
        const char *part;
    } rows[] = {
        {"no parent", "no/such", NULL, NULL, ERROR_IO, "check that the folder is there"},
        {"a file", "file", NULL, NULL, ERROR_IO, "a part of the path is a file"},
        {"other state", "other", "other/cache.state", "hello\n", ERROR_EXISTS, "not a file of"},
        {"other data", "data", "data/results.mdb", "hello\n", ERROR_EXISTS, "not a cache of"},
        {"newer", "newer", "newer/cache.state", "tidemill cache 2\nopen boot=x\n", ERROR_EXISTS,
         "another version"},
        {"proc", "/proc", NULL, NULL, ERROR_IO, "cannot"},
    };
    struct tempdir folder;
    tempdir_open(&folder);
    tempdir_write(tempdir_path(&folder, "file"), "x", 1);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct cache *cache = NULL;
        if (rows[i].file != NULL) {
            mkdir(tempdir_path(&folder, rows[i].folder), 0700);
            tempdir_write(tempdir_path(&folder, rows[i].file), rows[i].content,
                          strlen(rows[i].content));
        }
        struct cache_options options = {.path = rows[i].folder[0] == '/'
                                                    ? rows[i].folder
                                                    : tempdir_path(&folder, rows[i].folder)};
        expect_error(cache_open(&io_local, &options, &cache), rows[i].code, rows[i].part,
                     rows[i].name);
        assert_null(cache);
    }
    tempdir_close(&folder);
}

/* Begins a process that runs `body` once a byte comes through *ret_fd. */
static pid_t start_neighbour(void (*body)(const char *path), const char *path, int *ret_fd)
{
    int ends[2];
    char byte;
    if (pipe(ends) != 0) abort();
    pid_t pid = fork();
    if (pid == 0) {
        if (read(ends[0], &byte, 1) == 1) body(path);
        _exit(0);
    }
    close(ends[0]);
    *ret_fd = ends[1];
    return pid;
}

static void fill_16_mib(const char *path)
{
    struct cache *cache = open_cache(path, 16 * MIB);
    for (uint64_t n = 0; n < 60000; n += 2000) put_many(cache, 1000 + n, 2000, 100);
    cache_close(cache);
}

static void a_neighbour_may_make_the_file_larger(void **unused)
{
    (void)unused;
    struct tempdir folder;
    struct cache_stats stats;
    int fd, status;
    tempdir_open(&folder);
    const char *path = tempdir_path(&folder, "c");
    pid_t pid = start_neighbour(fill_16_mib, path, &fd);
    struct cache *cache = open_cache(path, MIB);
    put(cache, 1, 0, 10);
    assert_int_equal(get(cache, 1, 0, 10), 1);
    if (write(fd, "x", 1) != 1 || waitpid(pid, &status, 0) != pid) abort();
    assert_int_equal(status, 0);
    cache_get_stats(cache, &stats);
    assert_true(stats.file_bytes > 4 * MIB);
    assert_int_equal(get(cache, 60999, 0, 100), 1);
    put(cache, 2, 0, 10); /* our limit is the smaller one: now it holds */
    assert_int_equal(get(cache, 2, 0, 10), 1);
    cache_get_stats(cache, &stats);
    assert_true(stats.bytes_used <= MIB);
    cache_close(cache);
    close(fd);
    tempdir_close(&folder);
}

/* Looks into the file and stops there, as a process that is suspended. */
static void look_for_ever(const char *path)
{
    MDB_env *env;
    MDB_txn *txn;
    char data[256];
    snprintf(data, sizeof data, "%s/results.mdb", path);
    if (mdb_env_create(&env) != 0 || mdb_env_set_mapsize(env, 4 * MIB) != 0 ||
        mdb_env_open(env, data, MDB_NOSUBDIR | MDB_NOTLS, 0600) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0)
        _exit(1);
    for (;;) pause();
}

static uint64_t rejected_by(struct cache *cache, uint64_t begin)
{
    struct cache_stats before, after;
    cache_get_stats(cache, &before);
    for (uint64_t n = 0; n < 20000; n += 200) put_many(cache, begin + n, 200, 100);
    cache_get_stats(cache, &after);
    assert_true(after.file_bytes <= 2 * MIB);
    return after.rejected - before.rejected;
}

static void a_reader_that_stands_still_costs_room_and_nothing_else(void **unused)
{
    (void)unused;
    struct tempdir folder;
    int fd, status;
    tempdir_open(&folder);
    const char *path = tempdir_path(&folder, "c");
    pid_t pid = start_neighbour(look_for_ever, path, &fd);
    struct cache *cache = open_cache(path, 2 * MIB);
    assert_int_equal(rejected_by(cache, 0), 0);
    assert_int_equal(get(cache, 19999, 0, 100), 1);
    if (write(fd, "x", 1) != 1) abort();
    while (rejected_by(cache, 100000) == 0) continue; /* until it has begun to look */
    assert_int_equal(waitpid(pid, &status, WNOHANG), 0);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    put_many(cache, 0, 200, 100); /* finds that the reader is dead */
    assert_int_equal(rejected_by(cache, 200000), 0);
    assert_int_equal(get(cache, 219999, 0, 100), 1);
    cache_close(cache);
    close(fd);
    tempdir_close(&folder);
}

static void a_program_that_is_started_inherits_nothing(void **unused)
{
    (void)unused;
    struct tempdir folder;
    char link[256], target[256];
    int n_found = 0;
    tempdir_open(&folder);
    struct cache *cache = open_cache(tempdir_path(&folder, "c"), MIB);
    put(cache, 1, 0, 10);
    assert_int_equal(get(cache, 1, 0, 10), 1);
    for (int fd = 3; fd < 256; fd++) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t size = readlink(link, target, sizeof target - 1);
        if (size <= 0) continue;
        target[size] = '\0';
        if (strncmp(target, folder.path, strlen(folder.path)) != 0) continue;
        n_found++;
        if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0) fail_msg("%s leaks", target);
    }
    assert_true(n_found >= 3);
    cache_close(cache);
    tempdir_close(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_every_size_come_back),
        cmocka_unit_test(the_last_value_of_a_key_counts),
        cmocka_unit_test(the_file_stays_below_its_limit),
        cmocka_unit_test(what_is_used_stays),
        cmocka_unit_test(a_value_that_is_too_large_is_left_out),
        cmocka_unit_test(another_limit_holds_from_the_next_open_on),
        cmocka_unit_test(pruning_and_clearing_give_the_space_back),
        cmocka_unit_test(it_never_says_what_a_map_would_not_say),
        cmocka_unit_test(two_opens_of_one_process_are_one_cache),
        cmocka_unit_test(who_opened_it_first_may_be_gone),
        cmocka_unit_test(bad_folders_are_refused_with_a_reason),
        cmocka_unit_test(a_neighbour_may_make_the_file_larger),
        cmocka_unit_test(a_reader_that_stands_still_costs_room_and_nothing_else),
        cmocka_unit_test(a_program_that_is_started_inherits_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
