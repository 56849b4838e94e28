/* SPDX-License-Identifier: Apache-2.0 */
/* spec_yaml.c - a job file: one YAML mapping whose keys are the options' names. Scalars and
 * sequences of scalars only, so libyaml's events are enough, and every message has its line. */
#include "io/io.h"
#include "job/options.h"
#include "job/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#define JOB_FILE_BYTES_MAX ((size_t)1 << 20)

struct job_file {
    struct job_spec *spec;
    const char *path;
    yaml_parser_t parser;
    yaml_event_t event; /* the present one */
};

static tidemill_error *next_event(struct job_file *file)
{
    yaml_event_delete(&file->event);
    if (yaml_parser_parse(&file->parser, &file->event)) return NULL;
    memset(&file->event, 0, sizeof file->event);
    return error_new(ERROR_USAGE, "%s:%zu: not valid YAML: %s", file->path,
                     file->parser.problem_mark.line + 1,
                     file->parser.problem != NULL ? file->parser.problem : "unknown problem");
}

static tidemill_error *wrong(const struct job_file *file, const char *what)
{
    return error_new(ERROR_USAGE, "%s:%zu: %s", file->path, file->event.start_mark.line + 1, what);
}

static const char *scalar(const struct job_file *file)
{
    return (const char *)file->event.data.scalar.value;
}

static tidemill_error *find_option(const struct job_file *file, const struct option **ret)
{
    if (file->event.type != YAML_SCALAR_EVENT) return wrong(file, "expected an option's name");
    *ret = option_find(scalar(file));
    if (*ret != NULL) return NULL;
    const char *nearest = option_suggest(scalar(file));
    return error_new(ERROR_USAGE, "%s:%zu: unknown option '%s'%s%s%s", file->path,
                     file->event.start_mark.line + 1, scalar(file),
                     nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                     nearest != NULL ? "'?" : "");
}

static tidemill_error *set_scalar(struct job_file *file, const struct option *option)
{
    char origin[512];
    if (file->event.type != YAML_SCALAR_EVENT)
        return wrong(file, "expected a value or a list of values");
    snprintf(origin, sizeof origin, "%s:%zu: %s", file->path, file->event.start_mark.line + 1,
             option->name);
    return option_set(file->spec, option, scalar(file), origin);
}

static tidemill_error *read_value(struct job_file *file, const struct option *option)
{
    TRY(next_event(file));
    if (file->event.type != YAML_SEQUENCE_START_EVENT) return set_scalar(file, option);
    if (option->type != OPTION_LIST && option->type != OPTION_COMMAS)
        return wrong(file, "this option takes one value, not a list");
    for (;;) {
        TRY(next_event(file));
        if (file->event.type == YAML_SEQUENCE_END_EVENT) return NULL;
        TRY(set_scalar(file, option));
    }
}

static tidemill_error *read_mapping(struct job_file *file)
{
    bool seen[JOB_OPTIONS_MAX] = {false};
    for (;;) {
        const struct option *option;
        TRY(next_event(file));
        if (file->event.type == YAML_MAPPING_END_EVENT) return NULL;
        TRY(find_option(file, &option));
        size_t place = (size_t)(option - job_options);
        if (place < COUNT_OF(seen) && seen[place]) return wrong(file, "this option stands twice");
        if (place < COUNT_OF(seen)) seen[place] = true;
        TRY(read_value(file, option));
    }
}

static tidemill_error *read_document(struct job_file *file)
{
    do TRY(next_event(file));
    while (file->event.type == YAML_STREAM_START_EVENT ||
           file->event.type == YAML_DOCUMENT_START_EVENT);
    if (file->event.type == YAML_STREAM_END_EVENT) return NULL; /* an empty file sets nothing */
    if (file->event.type != YAML_MAPPING_START_EVENT)
        return wrong(file, "a job file is a mapping, 'option: value' a line");
    return read_mapping(file);
}

tidemill_error *job_spec_load_yaml(struct job_spec *spec, const struct io *io, const char *path)
{
    char *text;
    size_t size;
    TRY(io_read_file(io, path, JOB_FILE_BYTES_MAX, &text, &size));
    struct job_file file = {.spec = spec, .path = path};
    if (!yaml_parser_initialize(&file.parser)) {
        free(text);
        return error_memory();
    }
    yaml_parser_set_input_string(&file.parser, (const unsigned char *)text, size);
    tidemill_error *error = read_document(&file);
    yaml_event_delete(&file.event);
    yaml_parser_delete(&file.parser);
    free(text);
    return error;
}
