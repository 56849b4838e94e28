/* SPDX-License-Identifier: Apache-2.0 */
/* prices.c - list prices of common machines, so that --price takes a name.
 *
 * On-demand, Linux, USD an hour, from the providers' public price pages as generally known at the
 * date below. Prices change: for a figure that matters, give --price in USD. */
#include "cost/cost.h"

#include <strings.h>

const char cost_prices_date[] = "2024-06";

const struct instance_price cost_instances[] = {
    {"t3.medium", "aws", "us-east-1", 2, 4, "", 0.0416},
    {"m5.large", "aws", "us-east-1", 2, 8, "", 0.096},
    {"m6i.large", "aws", "us-east-1", 2, 8, "", 0.096},
    {"m7i.large", "aws", "us-east-1", 2, 8, "", 0.1008},
    {"c5.large", "aws", "us-east-1", 2, 4, "", 0.085},
    {"c5.24xlarge", "aws", "us-east-1", 96, 192, "", 4.08},
    {"c6i.large", "aws", "us-east-1", 2, 4, "", 0.085},
    {"c6i.xlarge", "aws", "us-east-1", 4, 8, "", 0.17},
    {"c6i.2xlarge", "aws", "us-east-1", 8, 16, "", 0.34},
    {"c6i.4xlarge", "aws", "us-east-1", 16, 32, "", 0.68},
    {"c7i.large", "aws", "us-east-1", 2, 4, "", 0.08925},
    {"c7g.large", "aws", "us-east-1", 2, 4, "", 0.0725},
    {"g4dn.xlarge", "aws", "us-east-1", 4, 16, "1 x T4", 0.526},
    {"g5.xlarge", "aws", "us-east-1", 4, 16, "1 x A10G", 1.006},
    {"p3.2xlarge", "aws", "us-east-1", 8, 61, "1 x V100", 3.06},
    {"e2-standard-2", "google", "us-central1", 2, 8, "", 0.06701},
    {"n2-standard-2", "google", "us-central1", 2, 8, "", 0.0971},
    {"c2-standard-4", "google", "us-central1", 4, 16, "", 0.2088},
    {"Standard_D2s_v5", "azure", "eastus", 2, 8, "", 0.096},
    {"Standard_F2s_v2", "azure", "eastus", 2, 4, "", 0.0846},
};

const size_t n_cost_instances = sizeof cost_instances / sizeof cost_instances[0];

const struct instance_price *cost_instance_find(const char *name)
{
    for (size_t i = 0; i < n_cost_instances; i++)
        if (strcasecmp(cost_instances[i].name, name) == 0) return &cost_instances[i];
    return NULL;
}
