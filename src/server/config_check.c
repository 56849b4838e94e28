/* SPDX-License-Identifier: Apache-2.0 */
/* config_check.c - what more than one key of tidemill.yaml has to do with. */
#include "server/config_parts.h"
#include "server/delivery_address.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tidemill_error *check_file(const struct config_reading *reading,
                                  const struct yaml_tree *section, const char *key,
                                  const char *path)
{
    const struct yaml_tree *item = yaml_tree_find(section, key);
    if (path == NULL) return config_wrong(reading, section->key_line, "tls: needs %s, too", key);
    if (!io_exists(reading->io, path))
        return config_wrong(reading, item->line, "%s: %s is not there", key, path);
    return NULL;
}

static tidemill_error *check_tls(const struct config_reading *reading, const struct yaml_tree *root)
{
    const struct yaml_tree *tls = yaml_tree_find(root, "tls");
    if (tls == NULL) return NULL;
    TRY(check_file(reading, tls, "certificate", reading->config->tls_certificate));
    return check_file(reading, tls, "key", reading->config->tls_key);
}

static bool is_variable(const char *name)
{
    if (!isalpha((unsigned char)*name) && *name != '_') return false;
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char)*name) && *name != '_') return false;
    return true;
}

static tidemill_error *check_webhook(const struct config_reading *reading,
                                     const struct yaml_tree *owner,
                                     const struct webhook_config *webhook)
{
    const struct yaml_tree *node = yaml_tree_find(owner, "webhook");
    if (node == NULL) return NULL;
    if (webhook->url == NULL) return config_wrong(reading, node->key_line, "webhook: needs a url");
    const struct yaml_tree *url = yaml_tree_find(node, "url");
    TRY(error_context(delivery_address_check(webhook->url, reading->config->webhooks_private),
                      "%s:%zu: url", reading->path, url->line));
    if (webhook->secret_variable == NULL || is_variable(webhook->secret_variable)) return NULL;
    return config_wrong(
        reading, yaml_tree_find(node, "secret_env")->line,
        "secret_env: names a variable of the environment; the secret itself does not "
        "belong into this file");
}

static tidemill_error *check_max_errors(const struct config_reading *reading,
                                        const struct yaml_tree *item,
                                        const struct queue_config *queue)
{
    struct job_spec spec = {.model = queue->model->spec.model, .max_errors = queue->max_errors};
    if (queue->max_errors == NULL) return NULL;
    tidemill_error *error = job_spec_check_model(&spec);
    if (error == NULL) return NULL;
    error_free(error);
    return config_wrong(reading, yaml_tree_find(item, "max_errors")->line,
                        "max_errors: '%s' is not a count or a share such as 1%%",
                        queue->max_errors);
}

/* Queues stand first as in the file; those that were added have nothing to look at. */
static tidemill_error *check_queues(const struct config_reading *reading,
                                    const struct yaml_tree *root)
{
    const struct yaml_tree *node = yaml_tree_find(root, "queues");
    const struct yaml_tree *item = node != NULL ? node->items : NULL;
    for (size_t i = 0; item != NULL; i++, item = item->next) {
        const struct queue_config *queue = &reading->config->queues[i];
        TRY(check_webhook(reading, item, &queue->webhook));
        TRY(check_max_errors(reading, item, queue));
    }
    return NULL;
}

tidemill_error *config_check(const struct config_reading *reading, const struct yaml_tree *root)
{
    if (reading->config->n_models == 0)
        return config_wrong(reading, root->line,
                            "no models: name one, 'models: {NAME: {model: FILE}}'");
    TRY(check_tls(reading, root));
    TRY(check_webhook(reading, root, &reading->config->webhook));
    return check_queues(reading, root);
}
