/* SPDX-License-Identifier: Apache-2.0 */
/* paths.c - see paths.h. */
#include "job/paths.h"

#include <stdio.h>
#include <stdlib.h>

char *path_with(const char *path, const char *ending)
{
    char *joined;
    return asprintf(&joined, "%s%s", path, ending) < 0 ? NULL : joined;
}
