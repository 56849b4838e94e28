/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c - XXH3 and BLAKE2b behind our own names, so that a library can be changed in one place. */
#include "base/hash.h"

#include <stdio.h>
#include <string.h>

#include <xxhash.h>

struct digest hash_bytes(const void *data, size_t size)
{
    XXH128_hash_t hash = XXH3_128bits(data, size);
    return (struct digest){.low = hash.low64, .high = hash.high64};
}

uint64_t hash_checksum(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

void digest_text(struct digest digest, char text[DIGEST_TEXT_BYTES])
{
    snprintf(text, DIGEST_TEXT_BYTES, "%016llx%016llx", (unsigned long long)digest.high,
             (unsigned long long)digest.low);
}

struct hash_state *hash_state_new(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (state != NULL) XXH3_128bits_reset(state);
    return (struct hash_state *)state;
}

void hash_state_add(struct hash_state *state, const void *data, size_t size)
{
    XXH3_128bits_update((XXH3_state_t *)state, data, size);
}

struct digest hash_state_digest(const struct hash_state *state)
{
    XXH128_hash_t hash = XXH3_128bits_digest((const XXH3_state_t *)state);
    return (struct digest){.low = hash.low64, .high = hash.high64};
}

void hash_state_copy(struct hash_state *to, const struct hash_state *from)
{
    XXH3_copyState((XXH3_state_t *)to, (const XXH3_state_t *)from);
}

void hash_state_free(struct hash_state *state)
{
    XXH3_freeState((XXH3_state_t *)state);
}

/* BLAKE2b (RFC 7693) with a 16-byte result, keyed with the domain. */
void hash_key_start(struct hash_key *key, struct digest domain)
{
    unsigned char bytes[sizeof domain];
    memcpy(bytes, &domain, sizeof bytes);
    crypto_generichash_init(&key->state, bytes, sizeof bytes, sizeof(struct digest));
}

void hash_key_add(struct hash_key *key, const void *data, size_t size)
{
    if (size > 0) crypto_generichash_update(&key->state, data, size);
}

struct digest hash_key_end(struct hash_key *key)
{
    struct digest digest;
    unsigned char bytes[sizeof digest];
    crypto_generichash_final(&key->state, bytes, sizeof bytes);
    memcpy(&digest, bytes, sizeof digest);
    return digest;
}
