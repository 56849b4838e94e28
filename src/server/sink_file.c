/* SPDX-License-Identifier: Apache-2.0 */
/* sink_file.c - the file that sinks send from, in the job's folder: made for one try, the same bytes
 * each time. */
#include "server/delivery_parts.h"
#include "server/result_lines.h"

#include <stdio.h>
#include <stdlib.h>

#define FILE_NAME "sink.jsonl"

static tidemill_error *take(void *context, struct slice key, struct slice line)
{
    struct spool *spool = context;
    (void)key;
    TRY(spool_append(spool, line.data, line.size));
    return spool_append(spool, "\n", 1);
}

static tidemill_error *write_file(struct app *app, const struct store_job *job,
                                  const char *key_field, const char *path)
{
    struct spool *spool;
    uint64_t bytes;
    TRY(spool_open(app->io, path, COMPRESSION_NONE, NULL, &spool));
    struct result_lines lines = {.take = take, .context = spool, .key_field = key_field};
    tidemill_error *error = result_lines_read(app, job, &lines);
    if (error == NULL) error = spool_finish(spool, &bytes);
    spool_close(spool);
    return error;
}

tidemill_error *sink_make_file(struct app *app, const struct store_job *job, const char *key_field,
                               char **ret_path)
{
    char *folder, *path = NULL;
    TRY(store_job_folder(app->store, job->id, &folder));
    int size = asprintf(&path, "%s/" FILE_NAME, folder);
    free(folder);
    if (size < 0) return error_memory();
    tidemill_error *error = write_file(app, job, key_field, path);
    if (error != NULL)
        free(path);
    else
        *ret_path = path;
    return error;
}
