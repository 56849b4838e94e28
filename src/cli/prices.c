/* SPDX-License-Identifier: Apache-2.0 */
/* prices.c - tidemill prices: the table behind --price INSTANCE. */
#include "cli/cli.h"

#include "cost/cost.h"

#include <stdio.h>

int cli_prices(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        puts("Usage: tidemill prices\nList the machine prices that --price knows.");
        return 0;
    }
    printf("On-demand list prices, Linux, as of %s. Check them before you rely on them.\n\n",
           cost_prices_date);
    printf("%-18s %-7s %-12s %5s %8s  %-10s %s\n", "instance", "cloud", "region", "vcpu", "GiB",
           "USD/hour", "accelerator");
    for (size_t i = 0; i < n_cost_instances; i++) {
        const struct instance_price *p = &cost_instances[i];
        printf("%-18s %-7s %-12s %5d %8g  %-10g %s\n", p->name, p->cloud, p->region, p->vcpus,
               p->memory_gib, p->usd_hour, p->accelerator);
    }
    return 0;
}
