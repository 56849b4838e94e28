/* SPDX-License-Identifier: Apache-2.0 */
/* backoff.c - pauses between tries. */
#include "plan/upstream.h"

double backoff_s(double base_s, double max_s, uint32_t attempt, uint64_t *random_state)
{
    double top_s = base_s;
    for (uint32_t i = 0; i < attempt && top_s < max_s; i++) top_s *= 2;
    /* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) */
    uint64_t z = *random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return MIN(top_s, max_s) * ((double)(z >> 11) * 0x1p-53);
}
