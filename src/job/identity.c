/* SPDX-License-Identifier: Apache-2.0 */
/* identity.c - names every part of a job's identity, so that a refusal can say what changed. */
#include "job/identity.h"

#include "job/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* External data of an ONNX model is looked for as far as this; its graph comes before that. */
#define MODEL_SCAN_BYTES_MAX ((size_t)64 << 20)
#define EXTERNAL_FILES_MAX 256

static tidemill_error *add_file(struct identity *identity, const struct io *io, const char *what,
                                const char *path)
{
    struct digest digest;
    uint64_t size;
    char text[DIGEST_TEXT_BYTES], value[DIGEST_TEXT_BYTES + 32];
    TRY(io_fingerprint(io, path, &digest, &size));
    digest_text(digest, text);
    snprintf(value, sizeof value, "%.16s of %llu bytes", text, (unsigned long long)size);
    return identity_add(identity, value, "%s %s", what, path);
}

/* --- external data ---------------------------------------------------------------------------------- */

/* A tensor that lies in another file has an entry {key: "location", value: FILE}: in the protocol
 * buffer's bytes 0x0a 8 "location" 0x12 LENGTH FILE (onnx.proto, StringStringEntryProto). */
static const char location_mark[] = "\x0a\x08location\x12";

static bool is_known(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return true;
    return false;
}

/* Names that lead out of the model's folder are the library's to refuse; they are not even looked at. */
static bool is_inside(const char *name)
{
    return name[0] != '/' && strncmp(name, "../", 3) != 0 && strstr(name, "/../") == NULL;
}

static tidemill_error *add_external(struct identity *identity, const struct io *io,
                                    const char *model, const char *name)
{
    char *path;
    const char *slash = strrchr(model, '/');
    int directory = slash == NULL ? 0 : (int)(slash - model) + 1;
    if (asprintf(&path, "%.*s%s", directory, model, name) < 0) return error_memory();
    tidemill_error *error = io_exists(io, path) ? add_file(identity, io, "model data", path) : NULL;
    free(path);
    return error;
}

static tidemill_error *scan_model(struct identity *identity, const struct io *io, const char *model,
                                  const char *bytes, size_t size)
{
    char *names[EXTERNAL_FILES_MAX];
    size_t n = 0;
    tidemill_error *error = NULL;
    const char *end = bytes + size, *p = bytes;
    while (error == NULL && n < EXTERNAL_FILES_MAX &&
           (p = memmem(p, (size_t)(end - p), location_mark, sizeof location_mark - 1)) != NULL) {
        p += sizeof location_mark - 1;
        size_t length = p < end ? (unsigned char)*p : 0;
        if (length == 0 || length > 127 || (size_t)(end - p) <= length) continue;
        char *name = strndup(p + 1, length);
        if (name == NULL || !is_inside(name) || is_known((const char *const *)names, n, name)) {
            free(name);
            continue;
        }
        names[n++] = name;
        error = add_external(identity, io, model, name);
    }
    while (n > 0) free(names[--n]);
    return error;
}

static tidemill_error *add_external_data(struct identity *identity, const struct io *io,
                                         const char *model)
{
    int fd;
    size_t size;
    char *bytes = malloc(MODEL_SCAN_BYTES_MAX);
    if (bytes == NULL) return error_memory();
    tidemill_error *error = io_open(io, model, O_RDONLY, 0, &fd);
    if (error == NULL) {
        error = io_read_all(io, fd, model, bytes, MODEL_SCAN_BYTES_MAX, &size);
        io_close(io, fd);
        if (error == NULL) error = scan_model(identity, io, model, bytes, size);
    }
    free(bytes);
    return error;
}

/* --- parts --------------------------------------------------------------------------------------------- */

/* A program is what its command says, and each file that is a word of it. */
static tidemill_error *add_command(struct identity *identity, const struct io *io,
                                   const char *model)
{
    struct stat status;
    char **words;
    TRY(exec_split_command(model + strlen("exec:"), &words));
    tidemill_error *error = identity_add(identity, model, "model");
    for (size_t i = 0; error == NULL && words[i] != NULL; i++)
        if (io->stat(io->context, words[i], &status) == 0 && S_ISREG(status.st_mode))
            error = add_file(identity, io, "model file", words[i]);
    free(words);
    return error;
}

tidemill_error *identity_of_model(const struct job_spec *spec, const struct io *io,
                                  struct identity *identity)
{
    struct stat status;
    enum model_kind kind = model_kind(spec->model);
    if (kind == MODEL_EXEC) return add_command(identity, io, spec->model);
    if (kind == MODEL_ECHO || kind == MODEL_HTTP)
        return identity_add(identity, spec->model, "model");
    if (io->stat(io->context, spec->model, &status) != 0)
        return error_errno(ERROR_MODEL_LOAD, errno, "cannot read the model %s", spec->model);
    if (!S_ISREG(status.st_mode))
        return error_new(ERROR_MODEL_LOAD, "%s is not a file; --model wants a .onnx file",
                         spec->model);
    TRY(add_file(identity, io, "model", spec->model));
    if (kind == MODEL_LLAMA) return NULL;
    return add_external_data(identity, io, spec->model);
}

/* One that lies beside the model counts even if nothing brings text: that is not known yet. */
static tidemill_error *add_tokenizer(struct identity *identity, const struct job_spec *spec,
                                     const struct io *io)
{
    char *path;
    TRY(job_spec_tokenizer(spec, io, &path));
    tidemill_error *error = path == NULL ? NULL : add_file(identity, io, "tokenizer", path);
    free(path);
    return error;
}

static tidemill_error *add_options(struct identity *identity, const struct job_spec *spec)
{
    tidemill_error *error = NULL;
    struct buffer text = {0};
    for (size_t i = 0; i < n_job_options && error == NULL; i++) {
        const struct option *option = &job_options[i];
        if (!option->shapes_output) continue;
        buffer_reset(&text, SIZE_MAX);
        option_text(spec, option, &text);
        buffer_byte(&text, '\0');
        error = text.is_failed ? error_memory()
                               : identity_add(identity, text.data, "option --%s", option->name);
    }
    buffer_free(&text);
    return error;
}

tidemill_error *identity_of_job(const struct job_spec *spec, const struct io *io,
                                struct identity *ret)
{
    TRY(identity_of_model(spec, io, ret));
    if (spec->template_path != NULL) TRY(add_file(ret, io, "template", spec->template_path));
    TRY(add_tokenizer(ret, spec, io));
    if (spec->labels != NULL) TRY(add_file(ret, io, "labels", spec->labels));
    for (size_t i = 0; i < spec->input_paths.n; i++) {
        const char *path = spec->input_paths.items[i];
        if (io_is_stream(io, path))
            TRY(identity_add(ret, "a stream", "input %s", path));
        else
            TRY(add_file(ret, io, "input", path));
    }
    return add_options(ret, spec);
}
