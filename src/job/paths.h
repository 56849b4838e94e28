/* SPDX-License-Identifier: Apache-2.0 */
/* paths.h - the names of what lies beside an output while, and after, a job runs. */
#ifndef TIDEMILL_JOB_PATHS_H
#define TIDEMILL_JOB_PATHS_H

/* OUTPUT.journal, OUTPUT.lock, OUTPUT.partial, ERRORS.partial, OUTPUT.rows (.npz before assembly),
 * OUTPUT.retry... malloc'ed; NULL when out of memory. */
char *path_with(const char *path, const char *ending);

#endif
