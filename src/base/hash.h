/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h - 128-bit fingerprints of content and 64-bit checksums of stored frames, both XXH3
 * (libxxhash): they find accidents, not attackers. And keys, BLAKE2b (libsodium), for which nobody can
 * make two contents with one key: where equal keys are taken for equal contents. */
#ifndef TIDEMILL_BASE_HASH_H
#define TIDEMILL_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include <sodium/crypto_generichash.h>

struct digest {
    uint64_t low, high;
};

#define DIGEST_TEXT_BYTES 33 /* 32 hexadecimal digits and a NUL */

struct digest hash_bytes(const void *data, size_t size);
uint64_t hash_checksum(const void *data, size_t size);
void digest_text(struct digest digest, char text[DIGEST_TEXT_BYTES]);

static inline int digest_equal(struct digest a, struct digest b)
{
    return a.low == b.low && a.high == b.high;
}

/* A running hash: the digest of all bytes added so far, at any time. NULL when out of memory. */
struct hash_state;
struct hash_state *hash_state_new(void);
void hash_state_add(struct hash_state *state, const void *data, size_t size);
struct digest hash_state_digest(const struct hash_state *state);
/* `to` goes on as `from` would: a point to go back to. */
void hash_state_copy(struct hash_state *to, const struct hash_state *from);
void hash_state_free(struct hash_state *state);

/* The same for keys; lives where the caller puts it. `domain` tells uses apart: other domains, other
 * keys of the same content. */
struct hash_key {
    crypto_generichash_state state;
};
void hash_key_start(struct hash_key *key, struct digest domain);
void hash_key_add(struct hash_key *key, const void *data, size_t size);
struct digest hash_key_end(struct hash_key *key);

#endif
