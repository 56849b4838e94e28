/* SPDX-License-Identifier: Apache-2.0 */
/* openai_files.c - OpenAI's Files API: uploads streamed to the disk, lists, contents in ranges.
 * Contract: openapi.yaml of openai/openai-openapi, and what its clients send. */
#include "server/json_out.h"
#include "server/routes.h"

#include <stdio.h>
#include <stdlib.h>

#define SECONDS_MIN 3600
#define SECONDS_MAX 2592000
#define FIELD_BYTES_MAX 512

static yyjson_mut_val *file_object(yyjson_mut_doc *doc, const struct store_file *file)
{
    yyjson_mut_val *object = yyjson_mut_obj(doc);
    yyjson_mut_obj_add_strcpy(doc, object, "id", file->id);
    yyjson_mut_obj_add_str(doc, object, "object", "file");
    yyjson_mut_obj_add_uint(doc, object, "bytes", file->bytes);
    json_out_time(doc, object, "created_at", file->created_at);
    if (file->expires_at != 0) json_out_time(doc, object, "expires_at", file->expires_at);
    yyjson_mut_obj_add_strcpy(doc, object, "filename",
                              file->filename != NULL ? file->filename : "");
    yyjson_mut_obj_add_strcpy(doc, object, "purpose", file->purpose);
    yyjson_mut_obj_add_str(doc, object, "status", "processed");
    yyjson_mut_obj_add_null(doc, object, "status_details");
    return object;
}

static void answer_file(struct exchange *exchange, const struct store_file *file)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    json_answer(exchange, 200, doc, doc != NULL ? file_object(doc, file) : NULL);
}

/* --- upload ------------------------------------------------------------------------------------- */

enum field { FIELD_NONE, FIELD_FILE, FIELD_PURPOSE, FIELD_ANCHOR, FIELD_SECONDS, FIELD_COUNT };

static const char *const field_names[FIELD_COUNT] = {
    NULL, "file", "purpose", "expires_after[anchor]", "expires_after[seconds]"};

struct upload {
    const struct app *app;
    struct store_upload *content; /* NULL until the file's part begins */
    struct store_file file;
    char text[FIELD_COUNT][FIELD_BYTES_MAX]; /* of the other parts */
    size_t text_size[FIELD_COUNT];
    enum field field; /* the part that is being read */
    bool ends_in_newline;
};

static tidemill_error *begin_part(void *context, const char *name, const char *filename)
{
    struct upload *upload = context;
    upload->field = FIELD_NONE;
    for (int i = 1; i < FIELD_COUNT; i++)
        if (strcmp(name, field_names[i]) == 0) upload->field = (enum field)i;
    if (upload->field == FIELD_NONE)
        return error_new(ERROR_USAGE, "the form has an unknown field '%.64s'", name);
    if (upload->field != FIELD_FILE) return NULL;
    if (upload->content != NULL) return error_new(ERROR_USAGE, "the form has two fields 'file'");
    upload->file.filename = strdup(filename);
    if (upload->file.filename == NULL) return error_memory();
    return store_upload_new(upload->app->store, &upload->content);
}

static uint64_t count_lines(const char *data, size_t size)
{
    uint64_t n = 0;
    for (const char *p = data; (p = memchr(p, '\n', size - (size_t)(p - data))) != NULL; p++) n++;
    return n;
}

static tidemill_error *take_content(struct upload *upload, const char *data, size_t size)
{
    uint64_t max = (uint64_t)upload->app->config->file_bytes_max;
    upload->file.bytes += size;
    if (max > 0 && upload->file.bytes > max)
        return error_new(ERROR_RECORD_TOO_LONG,
                         "File is too large: %llu bytes are allowed (max_file_bytes)",
                         (unsigned long long)max);
    upload->file.lines += count_lines(data, size);
    upload->ends_in_newline = data[size - 1] == '\n';
    return store_upload_write(upload->content, data, size);
}

static tidemill_error *take_part(void *context, const void *data, size_t size)
{
    struct upload *upload = context;
    if (size == 0) return NULL;
    if (upload->field == FIELD_FILE) return take_content(upload, data, size);
    size_t *used = &upload->text_size[upload->field];
    if (size >= FIELD_BYTES_MAX - *used)
        return error_new(ERROR_USAGE, "the form's field '%s' is too long",
                         field_names[upload->field]);
    memcpy(upload->text[upload->field] + *used, data, size);
    *used += size;
    return NULL;
}

static tidemill_error *end_part(void *context)
{
    (void)context;
    return NULL;
}

static tidemill_error *read_expiry(struct upload *upload)
{
    const char *seconds = upload->text[FIELD_SECONDS], *anchor = upload->text[FIELD_ANCHOR];
    struct store_file *file = &upload->file;
    if (seconds[0] == '\0' && anchor[0] == '\0') {
        if (strcmp(file->purpose, "batch") == 0 && upload->app->config->batch_retention_ms > 0)
            file->expires_at = file->created_at + upload->app->config->batch_retention_ms;
        return NULL;
    }
    char *end;
    long value = strtol(seconds, &end, 10);
    if (strcmp(anchor, "created_at") != 0)
        return error_new(ERROR_USAGE, "'expires_after[anchor]' must be created_at");
    if (end == seconds || *end != '\0' || value < SECONDS_MIN || value > SECONDS_MAX)
        return error_new(ERROR_USAGE, "'expires_after[seconds]' must be from %d to %d", SECONDS_MIN,
                         SECONDS_MAX);
    file->expires_at = file->created_at + value * 1000;
    return NULL;
}

static tidemill_error *read_fields(struct upload *upload)
{
    static const char *const purposes[] = {"batch",  "assistants", "fine-tune",
                                           "vision", "user_data",  "evals"};
    const char *purpose = upload->text[FIELD_PURPOSE];
    if (upload->content == NULL) return error_new(ERROR_USAGE, "the form has no field 'file'");
    for (size_t i = 0; i < COUNT_OF(purposes); i++)
        if (strcmp(purpose, purposes[i]) == 0)
            snprintf(upload->file.purpose, sizeof upload->file.purpose, "%s", purposes[i]);
    if (upload->file.purpose[0] == '\0')
        return error_new(
            ERROR_USAGE,
            "'purpose' must be one of batch, assistants, fine-tune, vision, user_data, "
            "evals");
    upload->file.created_at = store_now();
    if (upload->file.bytes > 0 && !upload->ends_in_newline) upload->file.lines++;
    return read_expiry(upload);
}

static void create_file(struct exchange *exchange, void *context)
{
    static const struct net_form form = {.begin = begin_part, .data = take_part, .end = end_part};
    struct upload *upload = calloc(1, sizeof *upload);
    if (upload == NULL) {
        app_refuse_error(exchange, error_memory());
        return;
    }
    struct net_form reading = form;
    reading.context = upload;
    upload->app = context;
    snprintf(upload->file.tenant, sizeof upload->file.tenant, "%s", app_caller(exchange)->tenant);
    tidemill_error *error = exchange_read_form(exchange, &reading);
    if (error == NULL) error = read_fields(upload);
    if (error == NULL) {
        error = store_upload_keep(upload->content, &upload->file);
        upload->content = NULL;
    }
    store_upload_drop(upload->content);
    if (error != NULL)
        app_refuse_error(exchange, error);
    else
        answer_file(exchange, &upload->file);
    store_file_free(&upload->file);
    free(upload);
}

/* --- the others --------------------------------------------------------------------------------- */

static void refuse_missing(struct exchange *exchange, const char *id)
{
    app_refuse(exchange, 404, NULL, "id", "No such File object: %.64s", id);
}

/* False: there is none, or it could not be looked for; that has been answered. */
static bool find_file(struct exchange *exchange, struct app *app, struct store_file *ret)
{
    bool is_found = false;
    const char *id = exchange_capture(exchange, 0);
    tidemill_error *error =
        store_file_get(app->store, app_caller(exchange)->tenant, id, ret, &is_found);
    if (error != NULL)
        app_refuse_error(exchange, error);
    else if (!is_found)
        refuse_missing(exchange, id);
    return error == NULL && is_found;
}

static void retrieve_file(struct exchange *exchange, void *context)
{
    struct store_file file = {0};
    if (!find_file(exchange, context, &file)) return;
    answer_file(exchange, &file);
    store_file_free(&file);
}

static void delete_file(struct exchange *exchange, void *context)
{
    struct app *app = context;
    const char *id = exchange_capture(exchange, 0);
    bool is_found = false;
    tidemill_error *error =
        store_file_delete(app->store, app_caller(exchange)->tenant, id, &is_found);
    if (error != NULL) {
        app_refuse_error(exchange, error);
    } else if (!is_found) {
        refuse_missing(exchange, id);
    } else {
        yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
        yyjson_mut_val *root = doc != NULL ? yyjson_mut_obj(doc) : NULL;
        yyjson_mut_obj_add_strcpy(doc, root, "id", id);
        yyjson_mut_obj_add_str(doc, root, "object", "file");
        yyjson_mut_obj_add_bool(doc, root, "deleted", true);
        json_answer(exchange, 200, doc, root);
    }
}

/* The whole content, or the range that was asked for. Its digest is its ETag. */
static void send_content(struct exchange *exchange, const struct app *app,
                         const struct store_file *file)
{
    char *path = NULL, etag[DIGEST_TEXT_BYTES];
    int fd = -1;
    uint64_t offset = 0, length = file->bytes;
    tidemill_error *error = store_file_path(app->store, file->id, &path);
    if (error == NULL) error = io_open(app->io, path, O_RDONLY, 0, &fd);
    free(path);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    int status = exchange_range(exchange, file->bytes, &offset, &length);
    digest_text(file->digest, etag);
    exchange_set_header(exchange, "ETag", "\"%s\"", etag);
    exchange_set_header(exchange, "Accept-Ranges", "bytes");
    if (status == 416) {
        io_close(app->io, fd);
        exchange_set_header(exchange, "Content-Range", "bytes */%llu",
                            (unsigned long long)file->bytes);
        app_refuse(exchange, 416, NULL, "range", "the file has %llu bytes",
                   (unsigned long long)file->bytes);
        return;
    }
    if (status == 200) {
        offset = 0;
        length = file->bytes;
    } else {
        exchange_set_header(exchange, "Content-Range", "bytes %llu-%llu/%llu",
                            (unsigned long long)offset, (unsigned long long)(offset + length - 1),
                            (unsigned long long)file->bytes);
    }
    exchange_answer_file(exchange, status, "application/octet-stream", fd, offset, length);
}

static void download_file(struct exchange *exchange, void *context)
{
    struct store_file file = {0};
    if (!find_file(exchange, context, &file)) return;
    send_content(exchange, context, &file);
    store_file_free(&file);
}

static bool read_order(struct exchange *exchange, bool *ret_is_ascending)
{
    const char *order = exchange_query(exchange, "order");
    *ret_is_ascending = order != NULL && strcmp(order, "asc") == 0;
    if (order == NULL || *ret_is_ascending || strcmp(order, "desc") == 0) return true;
    app_refuse(exchange, 400, NULL, "order", "'order' must be asc or desc");
    return false;
}

static void list_files(struct exchange *exchange, void *context)
{
    struct app *app = context;
    struct store_files files = {0};
    struct store_page page = {.tenant = app_caller(exchange)->tenant,
                              .after = exchange_query(exchange, "after")};
    if (!json_query_limit(exchange, 10000, 10000, &page.limit) ||
        !read_order(exchange, &page.is_ascending))
        return;
    tidemill_error *error =
        store_file_list(app->store, &page, exchange_query(exchange, "purpose"), &files);
    if (error != NULL) {
        app_refuse_error(exchange, error);
        return;
    }
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *data = yyjson_mut_arr(doc);
    for (size_t i = 0; i < files.n && doc != NULL; i++)
        yyjson_mut_arr_append(data, file_object(doc, &files.items[i]));
    json_answer_list(exchange, doc, data, files.has_more);
    store_files_free(&files);
}

#define INFO(summary)                                                                              \
    &(const struct route_info)                                                                     \
    {                                                                                              \
        DIALECT_OPENAI, ROUTE_USER, summary, false                                                 \
    }

const struct net_route openai_file_routes[] = {
    {.method = NET_POST,
     .pattern = "/v1/files",
     .body = NET_BODY_STREAM,
     .is_blocking = true,
     .handle = create_file,
     .operation = "createFile",
     .data = INFO("Upload a file, as multipart/form-data")},
    {.method = NET_GET,
     .pattern = "/v1/files",
     .is_blocking = true,
     .handle = list_files,
     .operation = "listFiles",
     .data = INFO("List files")},
    {.method = NET_GET,
     .pattern = "/v1/files/{file_id}",
     .is_blocking = true,
     .handle = retrieve_file,
     .operation = "retrieveFile",
     .data = INFO("A file's object")},
    {.method = NET_DELETE,
     .pattern = "/v1/files/{file_id}",
     .is_blocking = true,
     .handle = delete_file,
     .operation = "deleteFile",
     .data = INFO("Delete a file")},
    {.method = NET_GET,
     .pattern = "/v1/files/{file_id}/content",
     .is_blocking = true,
     .handle = download_file,
     .operation = "downloadFile",
     .data = INFO("A file's content, or a range of it")},
    {0},
};
