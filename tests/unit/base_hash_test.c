/* SPDX-License-Identifier: Apache-2.0 */
/* base_hash_test.c - digests are XXH3's on every machine, and pieces give the digest of the
 * whole. */
#include "expect.h"

/* From the reference: `printf TEXT | xxhsum -H2` and `xxhsum -H3`. A change here makes every
 * journal and fingerprint that was written before worthless. */
static void digests_are_those_of_the_reference(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *digest;
        uint64_t checksum;
    } rows[] = {
        {"", "99aa06d3014798d86001c324468d497f", 0x2d06800538d394c2},
        {"a", "a96faf705af16834e6c632b61e964e1f", 0xe6c632b61e964e1f},
        {"abc", "06b05ab6733a618578af5f94892f3950", 0x78af5f94892f3950},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[DIGEST_TEXT_BYTES];
        digest_text(hash_bytes(rows[i].text, strlen(rows[i].text)), text);
        expect_text(text, rows[i].digest, rows[i].text);
        assert_true(hash_checksum(rows[i].text, strlen(rows[i].text)) == rows[i].checksum);
    }
}

static void pieces_give_the_digest_of_the_whole(void **unused)
{
    (void)unused;
    static const size_t sizes[] = {0, 1, 16, 240, 241, 1024, 65536, 300001};
    uint64_t state = random_seed(__func__);
    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        unsigned char *data = malloc(sizes[s] + 1);
        assert_non_null(data);
        for (size_t i = 0; i < sizes[s]; i++) data[i] = (unsigned char)random_next(&state);
        struct hash_state *running = hash_state_new();
        assert_non_null(running);
        for (size_t done = 0, n; done < sizes[s]; done += n) {
            n = 1 + random_below(&state, 3000);
            n = MIN(n, sizes[s] - done);
            hash_state_add(running, data + done, n);
            if (!digest_equal(hash_state_digest(running), hash_bytes(data, done + n)))
                fail_msg("the digest of %zu of %zu bytes", done + n, sizes[s]);
        }
        assert_true(digest_equal(hash_state_digest(running), hash_bytes(data, sizes[s])));
        hash_state_free(running);
        free(data);
    }
}

static void every_bit_counts(void **unused)
{
    (void)unused;
    unsigned char data[64] = {0};
    struct digest first = hash_bytes(data, sizeof data);
    uint64_t checksum = hash_checksum(data, sizeof data);
    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        assert_false(digest_equal(hash_bytes(data, sizeof data), first));
        assert_true(hash_checksum(data, sizeof data) != checksum);
        data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_false(digest_equal(hash_bytes(data, sizeof data - 1), first));
}

static void text_is_32_digits_with_leading_zeros(void **unused)
{
    (void)unused;
    char text[DIGEST_TEXT_BYTES];
    digest_text((struct digest){.low = 0x1f, .high = 0}, text);
    expect_text(text, "0000000000000000000000000000001f", "low");
    digest_text((struct digest){.low = 0, .high = 0x1f}, text);
    expect_text(text, "000000000000001f0000000000000000", "high");
    assert_false(digest_equal((struct digest){1, 2}, (struct digest){2, 1}));
}

/* RFC 7693's function with a 16-byte result and a key of 16 zero bytes, by Python's hashlib.blake2b. */
static void a_key_is_blake2b_over_all_parts(void **unused)
{
    (void)unused;
    struct hash_key key;
    struct digest none = {0, 0}, other = {1, 0}, whole;
    char text[DIGEST_TEXT_BYTES];
    hash_key_start(&key, none);
    hash_key_add(&key, "ab", 2);
    hash_key_add(&key, NULL, 0);
    hash_key_add(&key, "c", 1);
    whole = hash_key_end(&key);
    digest_text(whole, text);
    expect_text(text, "f36761b4b9aa01eea5e30c035d6abceb", "abc");
    hash_key_start(&key, other);
    hash_key_add(&key, "abc", 3);
    assert_false(digest_equal(hash_key_end(&key), whole));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_the_reference),
        cmocka_unit_test(pieces_give_the_digest_of_the_whole),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(text_is_32_digits_with_leading_zeros),
        cmocka_unit_test(a_key_is_blake2b_over_all_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
