/* SPDX-License-Identifier: Apache-2.0 */
/* cost.h - the way into the room of money. Pure: seconds and prices in, dollars out. */
#ifndef TIDEMILL_COST_COST_H
#define TIDEMILL_COST_COST_H

#include <stddef.h>
#include <stdint.h>

/* On-demand list price of one instance type, Linux, without discounts. */
struct instance_price {
    const char *name;  /* as the provider writes it: "c6i.large" */
    const char *cloud; /* "aws", "google", "azure" */
    const char *region;
    int vcpus;
    double memory_gib;
    const char *accelerator; /* "" where none */
    double usd_hour;
};

extern const char cost_prices_date[]; /* when the table was compiled, "2024-06" */
extern const struct instance_price cost_instances[];
extern const size_t n_cost_instances;
const struct instance_price *cost_instance_find(const char *name); /* NULL: not known */

/* USD for `seconds` of a machine at `usd_hour`. */
double cost_machine_usd(double seconds, double usd_hour);
/* USD for tokens at prices for a million of them. */
double cost_tokens_usd(uint64_t tokens_in, uint64_t tokens_out, double usd_in, double usd_out);
/* USD for a million predictions, when `predictions` cost `usd`; 0 for none. */
double cost_per_million_usd(double usd, uint64_t predictions);

#endif
