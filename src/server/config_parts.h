/* SPDX-License-Identifier: Apache-2.0 */
/* config_parts.h - what the files of the configuration share: the table of keys, and where they are
 * read to. */
#ifndef TIDEMILL_SERVER_CONFIG_PARTS_H
#define TIDEMILL_SERVER_CONFIG_PARTS_H

#include "format/yaml_tree.h"
#include "server/config.h"

#define CONFIG_NAME_MAX 64 /* of models and queues */

/* A mapping of tidemill.yaml. */
enum config_section {
    SECTION_SERVER,
    SECTION_TLS,
    SECTION_WEBHOOK,
    SECTION_MODEL,
    SECTION_SYNC,
    SECTION_QUEUE,
    SECTION_WINDOW,
    SECTION_TARIFF,
    SECTION_SINK,
    SECTION_COUNT
};
/* "the server", "a queue", ...: for messages. And where it stands, for people: "queues.NAME". */
extern const char *const config_section_names[SECTION_COUNT];
extern const char *const config_section_places[SECTION_COUNT];

struct config_reading {
    const struct io *io;
    const char *path; /* of the file */
    struct server_config *config;
};

struct config_key;
/* Reads a value into the section's struct `base`. */
typedef tidemill_error *config_read(const struct config_reading *reading,
                                    const struct config_key *key, const struct yaml_tree *value,
                                    void *base);

struct config_key {
    enum config_section section;
    /* Name, type, range, default and help as options have them; `offset` is in the section's struct. The
     * type says what is stored there, also where `read` reads it. */
    struct option option;
    config_read *read;         /* NULL: by the type, as options are */
    enum config_section inner; /* not SERVER: the value is that section, at `offset` */
    bool has_storage;          /* of `read`: something that is freed by the type */
};
extern const struct config_key config_keys[];
extern const size_t n_config_keys;

/* "PATH:LINE: message". */
tidemill_error *config_wrong(const struct config_reading *reading, size_t line, const char *format,
                             ...) __attribute__((format(printf, 3, 4), warn_unused_result));

/* config_section.c: a mapping by the table, then the defaults of what was not named. `node` NULL: the
 * defaults alone. In the section MODEL what the table does not have goes to the options of a job. */
tidemill_error *config_read_section(const struct config_reading *reading,
                                    enum config_section section, const struct yaml_tree *node,
                                    void *base);
void config_free_section(enum config_section section, void *base);
/* A value that is text; else an error that names the key. */
tidemill_error *config_text(const struct config_reading *reading, const struct yaml_tree *value,
                            const char **ret);
/* Replaces *path by what it is seen from the configuration's folder. */
tidemill_error *config_resolve(const struct config_reading *reading, char **path);

/* config_model.c. An item of `node` that is an option of a job; *ret_is_known false: it is none. */
tidemill_error *config_model_option(const struct config_reading *reading,
                                    const struct yaml_tree *node, const struct yaml_tree *item,
                                    struct model_config *model, bool *ret_is_known);
tidemill_error *config_model_init(struct model_config *model);
/* After all of its keys were read. */
tidemill_error *config_model_check(const struct config_reading *reading,
                                   const struct yaml_tree *node, struct model_config *model);

/* config_values.c */
config_read config_listen, config_resp, config_keep_warm, config_micros, config_cron, config_zone,
    config_hours, config_tariffs, config_json, config_sinks, config_sink;

/* config_queue.c: models and queues, each of which has a name. Queues are read once the models are
 * known: `config_later` leaves them. */
config_read config_models, config_queue_model, config_later;
tidemill_error *config_queues(const struct config_reading *reading, const struct yaml_tree *node);

/* config_check.c: what more than one key has to do with. */
tidemill_error *config_check(const struct config_reading *reading, const struct yaml_tree *root);

#endif
