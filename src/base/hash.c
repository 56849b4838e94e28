/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c - XXH3 behind our own names, so that the library can be changed in one place. */
#include "base/hash.h"

#include <stdio.h>

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

void hash_state_free(struct hash_state *state)
{
    XXH3_freeState((XXH3_state_t *)state);
}
