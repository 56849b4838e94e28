/* SPDX-License-Identifier: Apache-2.0 */
/* cache_broken_test.c - a file that somebody changed: each byte in turn, its end, its seal. What
 * comes back is right, or a miss; and the cache can be used again. */
#include "expect.h"
#include "tempdir.h"

#include "cache/cache.h"

#include <fcntl.h>
#include <sys/stat.h>

#define ENTRIES 60
#define VALUE_BYTES 150

static struct tempdir folder;

static struct digest key_of(uint64_t number)
{
    return hash_bytes(&number, sizeof number);
}

static void make_value(uint64_t number, char *value)
{
    uint64_t state = number + 77;
    for (size_t i = 0; i < VALUE_BYTES; i++) value[i] = (char)(random_next(&state) >> 9);
}

static struct cache *open_cache(void)
{
    struct cache *cache = NULL;
    struct cache_options options = {.path = tempdir_path(&folder, "c"), .bytes_max = 1 << 20};
    expect_fine(cache_open(&io_local, &options, &cache), "open");
    return cache;
}

static void fill(struct cache *cache)
{
    static char values[ENTRIES][VALUE_BYTES];
    struct cache_entry entries[ENTRIES];
    for (uint64_t i = 0; i < ENTRIES; i++) {
        make_value(i, values[i]);
        entries[i] = (struct cache_entry){key_of(i), values[i], VALUE_BYTES};
    }
    expect_fine(cache_put(cache, entries, ENTRIES), "put");
}

/* How many are there; fails where one is wrong. */
static int count_right(struct cache *cache, const char *where)
{
    int n = 0;
    struct buffer out = {0};
    for (uint64_t i = 0; i < ENTRIES; i++) {
        char value[VALUE_BYTES];
        out.size = 0;
        if (!cache_get(cache, key_of(i), &out)) continue;
        make_value(i, value);
        if (out.size != VALUE_BYTES || memcmp(out.data, value, VALUE_BYTES) != 0)
            fail_msg("%s: a wrong value for %llu", where, (unsigned long long)i);
        n++;
    }
    buffer_free(&out);
    return n;
}

static size_t read_file(const char *name, char **ret)
{
    size_t size = 0;
    expect_fine(io_read_file(&io_local, tempdir_path(&folder, name), 1 << 24, ret, &size), name);
    return size;
}

/* Another time, as when a person or a program changed it. */
static void write_file(const char *name, const char *data, size_t size)
{
    static int turn = 1000;
    const struct timespec times[2] = {{.tv_sec = turn}, {.tv_sec = turn}};
    turn++;
    tempdir_write(tempdir_path(&folder, name), data, size);
    if (utimensat(AT_FDCWD, tempdir_path(&folder, name), times, 0) != 0) abort();
}

static void each_byte_of_a_closed_file(void **unused)
{
    (void)unused;
    char *data, *state, where[64];
    log_configure(LOG_ERROR, LOG_FORMAT_TEXT);
    struct cache *cache = open_cache();
    fill(cache);
    cache_close(cache);
    size_t size = read_file("c/results.mdb", &data),
           state_size = read_file("c/cache.state", &state);
    uint64_t random = random_seed(__func__);
    for (size_t i = random_below(&random, 11); i < size; i += 11) {
        char old = data[i];
        data[i] = (char)(old ^ (1 << random_below(&random, 8)));
        write_file("c/results.mdb", data, size);
        write_file("c/cache.state", state, state_size);
        snprintf(where, sizeof where, "byte %zu", i);
        cache = open_cache();
        assert_int_equal(count_right(cache, where), 0); /* all of it is dropped */
        if (i % 64 == 0) {
            fill(cache);
            assert_int_equal(count_right(cache, where), ENTRIES);
        }
        cache_close(cache);
        data[i] = old;
    }
    write_file("c/results.mdb", data, size); /* unharmed, but for its time: believed */
    write_file("c/cache.state", state, state_size);
    cache = open_cache();
    assert_int_equal(count_right(cache, "unharmed"), ENTRIES);
    cache_close(cache);
    free(data);
    free(state);
}

/* The file is open, so it is not judged: the values' checksums are all there is. */
static void each_byte_of_the_values_of_an_open_file(void **unused)
{
    (void)unused;
    struct cache_stats stats;
    char *data, where[64], value[VALUE_BYTES];
    struct cache *cache = open_cache();
    expect_fine(cache_clear(cache), "clear");
    fill(cache);
    size_t size = read_file("c/results.mdb", &data);
    int fd = open(tempdir_path(&folder, "c/results.mdb"), O_RDWR | O_CLOEXEC);
    size_t n_found = 0;
    for (uint64_t number = 0; number < ENTRIES; number += 7) {
        make_value(number, value);
        char *place = memmem(data, size, value, sizeof value);
        for (; place != NULL;
             place = memmem(place + 1, size - (size_t)(place + 1 - data), value, sizeof value)) {
            n_found++;
            for (ptrdiff_t i = -(ptrdiff_t)sizeof(uint64_t); i < VALUE_BYTES; i++) {
                char flipped = (char)(place[i] ^ 0x10);
                snprintf(where, sizeof where, "value %d, byte %d", (int)number, (int)i);
                if (pwrite(fd, &flipped, 1, place - data + i) != 1) abort();
                if (count_right(cache, where) < ENTRIES - 1) fail_msg("%s: more are gone", where);
                if (pwrite(fd, place + i, 1, place - data + i) != 1) abort();
            }
        }
    }
    assert_true(n_found >= 9);
    cache_get_stats(cache, &stats);
    assert_true(stats.broken >= 9 * VALUE_BYTES);
    close(fd);
    free(data);
    cache_close(cache);
}

static void a_file_that_became_shorter(void **unused)
{
    (void)unused;
    char *data;
    static const size_t cuts[] = {0, 1, 100, 4096, 8191, 8192, 12288, 16384};
    for (size_t i = 0; i < COUNT_OF(cuts); i++) {
        struct cache *cache = open_cache();
        fill(cache);
        cache_close(cache);
        size_t size = read_file("c/results.mdb", &data);
        assert_true(size > cuts[i]);
        write_file("c/results.mdb", data, cuts[i]);
        free(data);
        cache = open_cache();
        assert_int_equal(count_right(cache, "cut"), 0);
        fill(cache);
        assert_int_equal(count_right(cache, "filled again"), ENTRIES);
        cache_close(cache);
    }
}

/* `cp -r` while a job writes may tear the file: only a copy of a closed cache is one. */
static void a_copy_is_a_cache_if_it_was_made_of_a_closed_one(void **unused)
{
    (void)unused;
    static const char *const names[] = {"cache.state", "results.mdb"};
    for (int is_closed = 0; is_closed < 2; is_closed++) {
        struct cache *cache = open_cache(), *copy = NULL;
        fill(cache);
        if (is_closed) cache_close(cache);
        mkdir(tempdir_path(&folder, "copy"), 0700);
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            char from[64], to[64], *data;
            snprintf(from, sizeof from, "c/%s", names[i]);
            snprintf(to, sizeof to, "copy/%s", names[i]);
            size_t size = read_file(from, &data);
            unlink(tempdir_path(&folder, to));
            write_file(to, data, size);
            free(data);
        }
        struct cache_options options = {.path = tempdir_path(&folder, "copy")};
        expect_fine(cache_open(&io_local, &options, &copy), "open");
        assert_int_equal(count_right(copy, "copy"), is_closed ? ENTRIES : 0);
        cache_close(copy);
        if (!is_closed) cache_close(cache);
    }
}

static void what_the_state_file_may_say(void **unused)
{
    (void)unused;
    static const struct {
        const char *name, *status;
        int n_there;
    } rows[] = {
        {"the machine went down while it was open", "open boot=11111111-2222-3333 inode=7\n", 0},
        {"its boot is not known", "open boot=unknown inode=7\n", 0},
        {"it was found broken", "broken\n", 0},
        {"half a seal", "sealed boot=x size=", 0},
        {"nothing", "", 0},
        {"another file's seal",
         "sealed boot=x size=3 mtime=1 inode=1 digest=00000000000000000000000000000000\n", 0},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[256];
        struct cache *cache = open_cache();
        fill(cache);
        assert_int_equal(count_right(cache, rows[i].name), ENTRIES);
        cache_close(cache);
        snprintf(text, sizeof text, "tidemill cache 1\n%s", rows[i].status);
        tempdir_write(tempdir_path(&folder, "c/cache.state"), text, strlen(text));
        cache = open_cache();
        if (count_right(cache, rows[i].name) != rows[i].n_there) fail_msg("%s", rows[i].name);
        cache_close(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_byte_of_a_closed_file),
        cmocka_unit_test(each_byte_of_the_values_of_an_open_file),
        cmocka_unit_test(a_file_that_became_shorter),
        cmocka_unit_test(a_copy_is_a_cache_if_it_was_made_of_a_closed_one),
        cmocka_unit_test(what_the_state_file_may_say),
    };
    tempdir_open(&folder);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    tempdir_close(&folder);
    return failed;
}
