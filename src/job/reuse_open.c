/* SPDX-License-Identifier: Apache-2.0 */
/* reuse_open.c - what two answers must have in common to stand for one another across jobs: model,
 * library, and every option that shapes an answer. Names of files do not count, their contents do. */
#include "job/reuse.h"

#include "cache/cache.h"
#include "job/options.h"
#include "job/paths.h"

#include <stdlib.h>
#include <string.h>

#define DOMAIN_VERSION "tidemill answers 1"

void reuse_free(struct reuse *reuse)
{
    if (reuse == NULL) return;
    answers_close(reuse->answers);
    cache_close(reuse->cache);
    buffer_free(&reuse->found);
    buffer_free(&reuse->line);
    free(reuse);
}

/* "model digits.onnx" -> "model"; options by their name, files by what they are for. NULL: that part
 * of a job's identity does not shape its answers. */
static const char *kind_of_part(const char *name)
{
    static const char *const files[] = {"model data", "model", "labels", "tokenizer"};
    static const char option_mark[] = "option --";
    if (strncmp(name, option_mark, strlen(option_mark)) == 0) {
        const struct option *option = option_find(name + strlen(option_mark));
        return option != NULL && option->shapes_answer ? option->name : NULL;
    }
    for (size_t i = 0; i < COUNT_OF(files); i++)
        if (strncmp(name, files[i], strlen(files[i])) == 0) return files[i];
    return NULL;
}

static tidemill_error *make_domain(const struct reuse_config *config, struct digest *ret)
{
    struct buffer text = {0};
    buffer_printf(&text, DOMAIN_VERSION "\n%s\n%d", config->runtime, (int)config->output_format);
    for (size_t i = 0; i < config->identity->n; i++) {
        const struct identity_part *part = &config->identity->parts[i];
        const char *kind = kind_of_part(part->name);
        if (kind != NULL) buffer_printf(&text, "\n%s=%s", kind, part->value);
    }
    *ret = hash_bytes(text.data, text.size);
    bool is_failed = text.is_failed;
    buffer_free(&text);
    return is_failed ? error_memory() : NULL;
}

tidemill_error *reuse_open_answers(struct reuse *reuse, const struct reuse_config *config,
                                   bool is_resumed)
{
    const struct job_spec *spec = config->spec;
    uint64_t n_known;
    char *path = spec->to_stdout ? NULL : path_with(spec->output, ".answers");
    if (path == NULL && !spec->to_stdout) return error_memory();
    tidemill_error *error = answers_open(config->io, path, (uint64_t)spec->dedup_bytes, is_resumed,
                                         &reuse->answers, &n_known);
    free(path);
    return error;
}

static tidemill_error *open_cache(const struct reuse_config *config, struct reuse *reuse)
{
    struct cache_options options = {
        .path = config->spec->cache,
        .bytes_max = (uint64_t)config->spec->cache_bytes_max,
    };
    return cache_open(config->io, &options, &reuse->cache);
}

tidemill_error *reuse_open(const struct reuse_config *config, struct reuse **ret)
{
    struct reuse *reuse = calloc(1, sizeof *reuse);
    if (reuse == NULL) return error_memory();
    *reuse = (struct reuse){.is_collapsing = config->spec->dedup == DEDUP_ON,
                            .n_inputs = config->n_inputs,
                            .encoder = config->encoder};
    tidemill_error *error = make_domain(config, &reuse->domain);
    if (error == NULL && config->spec->cache != NULL) error = open_cache(config, reuse);
    if (error != NULL) {
        reuse_free(reuse);
        return error;
    }
    *ret = reuse;
    return NULL;
}
