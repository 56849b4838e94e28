/* SPDX-License-Identifier: Apache-2.0 */
/* cost.c - the divisions that every cost line is made of. */
#include "cost/cost.h"

double cost_machine_usd(double seconds, double usd_hour)
{
    return seconds / 3600 * usd_hour;
}

double cost_tokens_usd(uint64_t tokens_in, uint64_t tokens_out, double usd_in, double usd_out)
{
    return ((double)tokens_in * usd_in + (double)tokens_out * usd_out) / 1e6;
}

double cost_per_million_usd(double usd, uint64_t predictions)
{
    return predictions == 0 ? 0 : usd / (double)predictions * 1e6;
}
