/* SPDX-License-Identifier: Apache-2.0 */
/* resp_commands.c - what of Redis is understood: reading keys, and what its clients say to set up a
 * connection. Nothing here writes. A key is QUEUE:KEY; of a queue that a caller may not use, or that is not
 * there, every key is a miss. */
#include "server/resp_parts.h"

#include "server/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define CHECK_AGAIN_S 1.0
#define MGET_KEYS_MAX 1000

static bool is_word(struct slice word, const char *text)
{
    return word.size == strlen(text) && strncasecmp(word.data, text, word.size) == 0;
}

static void arity_error(struct resp_session *session, const char *name)
{
    resp_error(session->out, "ERR wrong number of arguments for '%s' command", name);
}

/* --- who it is ------------------------------------------------------------------------------------- */

static bool needs_key(struct app *app)
{
    struct server_config *config = app->config;
    return config->needs_key || access_has_keys(app->access);
}

void resp_check_caller(struct app *app, struct resp_client *client)
{
    double now_s = clock_now_s();
    if (client->checked_s != 0 && now_s - client->checked_s < CHECK_AGAIN_S) return;
    client->checked_s = now_s;
    client->is_open = !needs_key(app);
    if (client->has_key) {
        struct slice key = {client->key, strlen(client->key)};
        client->has_key = access_find(app->access, key, &client->caller);
    }
    if (client->has_key || !client->is_open) return;
    client->caller = (struct caller){.is_admin = true};
    memcpy(client->caller.tenant, "default", sizeof "default");
}

/* AUTH's words behind it: a key, or any user's name and a key. */
static bool authenticate(struct resp_session *session, struct slice key)
{
    struct resp_client *client = session->client;
    struct caller caller;
    if (key.size >= sizeof client->key || memchr(key.data, '\0', key.size) != NULL ||
        !access_find(session->app->access, key, &caller)) {
        resp_error(session->out, "WRONGPASS invalid username-password pair or user is disabled.");
        return false;
    }
    memcpy(client->key, key.data, key.size);
    client->key[key.size] = '\0';
    client->caller = caller;
    client->has_key = true;
    client->last.queue = NULL;
    return true;
}

static void run_auth(struct resp_session *session, const struct resp_command *command)
{
    if (authenticate(session, command->args[command->n - 1])) resp_simple(session->out, "OK");
}

static void set_name(struct resp_client *client, struct slice name)
{
    size_t size = MIN(name.size, sizeof client->name - 1);
    memcpy(client->name, name.data, size);
    client->name[size] = '\0';
}

static void append_pair(struct resp_session *session, const char *name, const char *value)
{
    resp_bulk(session->out, name, strlen(name));
    resp_bulk(session->out, value, strlen(value));
}

static void answer_hello(struct resp_session *session)
{
    struct resp_client *client = session->client;
    resp_map(session->out, client->protocol, 7);
    append_pair(session, "server", "tidemill");
    append_pair(session, "version", TIDEMILL_VERSION);
    resp_bulk(session->out, "proto", 5);
    resp_integer(session->out, client->protocol);
    resp_bulk(session->out, "id", 2);
    resp_integer(session->out, (int64_t)client->id);
    append_pair(session, "mode", "standalone");
    append_pair(session, "role", "master");
    resp_bulk(session->out, "modules", 7);
    resp_array(session->out, 0);
}

/* HELLO [2|3 [AUTH user key] [SETNAME name]] */
static void run_hello(struct resp_session *session, const struct resp_command *command)
{
    struct resp_client *client = session->client;
    int protocol = client->protocol;
    if (command->n > 1) {
        bool is_known = is_word(command->args[1], "2") || is_word(command->args[1], "3");
        if (!is_known) {
            resp_error(session->out, "NOPROTO unsupported protocol version");
            return;
        }
        protocol = command->args[1].data[0] - '0';
    }
    for (size_t i = 2; i < command->n;) {
        if (is_word(command->args[i], "AUTH") && i + 2 < command->n) {
            if (!authenticate(session, command->args[i + 2])) return;
            i += 3;
        } else if (is_word(command->args[i], "SETNAME") && i + 1 < command->n) {
            set_name(client, command->args[i + 1]);
            i += 2;
        } else {
            resp_error(session->out, "ERR Syntax error in HELLO");
            return;
        }
    }
    if (!client->is_open && !client->has_key) {
        resp_error(session->out, "NOAUTH HELLO must be called with the client already "
                                 "authenticated, or with AUTH <user> <key>");
        return;
    }
    client->protocol = protocol;
    answer_hello(session);
}

/* --- keys ------------------------------------------------------------------------------------------ */

static bool is_same_queue(const struct resp_queue *last, const struct server_config *config,
                          struct slice name)
{
    return last->queue != NULL && last->config == config &&
           strlen(last->queue->name) == name.size &&
           memcmp(last->queue->name, name.data, name.size) == 0;
}

static const struct queue_config *look_up_queue(struct resp_session *session,
                                                struct server_config *config, struct slice name)
{
    char text[STORE_NAME_BYTES];
    if (name.size == 0 || name.size >= sizeof text) return NULL;
    memcpy(text, name.data, name.size);
    text[name.size] = '\0';
    const struct queue_config *queue = server_config_queue(config, text);
    if (queue == NULL || !access_may_queue(&session->client->caller, text)) return NULL;
    struct resp_queue *last = &session->client->last;
    last->config = config;
    last->queue = queue;
    results_scope_init(&last->scope, session->client->caller.tenant, text);
    return queue;
}

/* The queue of QUEUE:KEY; what is behind the colon is the key. NULL: there is none for this caller. */
static const struct queue_config *split_key(struct resp_session *session, struct slice *key)
{
    struct server_config *config = session->app->config;
    const char *colon = memchr(key->data, ':', key->size);
    if (colon == NULL) return NULL;
    struct slice name = {key->data, (size_t)(colon - key->data)};
    *key = (struct slice){colon + 1, key->size - name.size - 1};
    if (key->size == 0 || key->size > RESULT_KEY_BYTES_MAX) return NULL;
    if (is_same_queue(&session->client->last, config, name)) return session->client->last.queue;
    return look_up_queue(session, config, name);
}

/* With what the queue does about misses. The value is in session->result. */
static bool find(struct resp_session *session, struct slice key)
{
    const struct queue_config *queue = split_key(session, &key);
    struct result *result = &session->result;
    result->value.size = 0;
    if (queue == NULL) return false;
    struct digest digest = results_key(&session->client->last.scope, key);
    enum result_found found = results_find_key(
        session->app->results, queue, session->client->caller.tenant, key, digest, result, NULL);
    return found != RESULT_MISS && found != RESULT_ENQUEUED;
}

/* Only looking: nothing is counted or asked for. */
static bool peek(struct resp_session *session, struct slice key,
                 const struct queue_config **ret_queue)
{
    *ret_queue = split_key(session, &key);
    session->result.value.size = 0;
    if (*ret_queue == NULL) return false;
    return results_get_key(session->app->results, results_key(&session->client->last.scope, key),
                           &session->result);
}

static void answer_key(struct resp_session *session, struct slice key)
{
    if (find(session, key))
        resp_bulk(session->out, session->result.value.data, session->result.value.size);
    else
        resp_null(session->out, session->client->protocol);
}

static void run_get(struct resp_session *session, const struct resp_command *command)
{
    answer_key(session, command->args[1]);
}

static void run_mget(struct resp_session *session, const struct resp_command *command)
{
    size_t start = session->out->size;
    if (command->n - 1 > MGET_KEYS_MAX) {
        resp_error(session->out, "ERR MGET takes at most %d keys", MGET_KEYS_MAX);
        return;
    }
    resp_array(session->out, command->n - 1);
    for (size_t i = 1; i < command->n; i++) {
        answer_key(session, command->args[i]);
        if (session->out->size - start <= RESP_REPLY_BYTES_MAX) continue;
        session->out->size = start;
        resp_error(session->out, "ERR the reply is larger than 64 MiB; ask for fewer keys");
        return;
    }
}

static void run_exists(struct resp_session *session, const struct resp_command *command)
{
    const struct queue_config *queue;
    int64_t n = 0;
    for (size_t i = 1; i < command->n; i++) n += peek(session, command->args[i], &queue);
    resp_integer(session->out, n);
}

static void run_strlen(struct resp_session *session, const struct resp_command *command)
{
    const struct queue_config *queue;
    bool is_there = peek(session, command->args[1], &queue);
    resp_integer(session->out, is_there ? (int64_t)session->result.value.size : 0);
}

/* Milliseconds until it is stale; -1: never, -2: there is no such key. */
static int64_t ttl_ms(struct resp_session *session, struct slice key)
{
    const struct queue_config *queue;
    if (!peek(session, key, &queue)) return -2;
    if (queue->ttl_ms == 0) return -1;
    return MAX(session->result.made_at + queue->ttl_ms - store_now(), 0);
}

static void run_ttl(struct resp_session *session, const struct resp_command *command)
{
    int64_t left_ms = ttl_ms(session, command->args[1]);
    resp_integer(session->out, left_ms < 0 ? left_ms : (left_ms + 500) / 1000);
}

static void run_pttl(struct resp_session *session, const struct resp_command *command)
{
    resp_integer(session->out, ttl_ms(session, command->args[1]));
}

static void run_type(struct resp_session *session, const struct resp_command *command)
{
    const struct queue_config *queue;
    resp_simple(session->out, peek(session, command->args[1], &queue) ? "string" : "none");
}

/* --- the connection -------------------------------------------------------------------------------- */

static void run_ping(struct resp_session *session, const struct resp_command *command)
{
    if (command->n == 1)
        resp_simple(session->out, "PONG");
    else
        resp_bulk(session->out, command->args[1].data, command->args[1].size);
}

static void run_echo(struct resp_session *session, const struct resp_command *command)
{
    resp_bulk(session->out, command->args[1].data, command->args[1].size);
}

static void run_select(struct resp_session *session, const struct resp_command *command)
{
    if (is_word(command->args[1], "0"))
        resp_simple(session->out, "OK");
    else
        resp_error(session->out, "ERR DB index is out of range");
}

static void run_client(struct resp_session *session, const struct resp_command *command)
{
    struct slice word = command->args[1];
    struct resp_client *client = session->client;
    if (is_word(word, "SETINFO") && command->n == 4) {
        resp_simple(session->out, "OK");
    } else if (is_word(word, "SETNAME") && command->n == 3) {
        set_name(client, command->args[2]);
        resp_simple(session->out, "OK");
    } else if (is_word(word, "GETNAME") && command->n == 2) {
        resp_bulk(session->out, client->name, strlen(client->name));
    } else if (is_word(word, "ID") && command->n == 2) {
        resp_integer(session->out, (int64_t)client->id);
    } else {
        resp_error(session->out, "ERR unknown subcommand '%.*s'. Try SETINFO, SETNAME, GETNAME, ID",
                   (int)MIN(word.size, (size_t)32), word.data);
    }
}

static void run_command(struct resp_session *session, const struct resp_command *command)
{
    if (command->n > 1 && is_word(command->args[1], "COUNT"))
        resp_integer(session->out, 0);
    else if (command->n > 1 && is_word(command->args[1], "DOCS"))
        resp_map(session->out, session->client->protocol, 0);
    else
        resp_array(session->out, 0);
}

/* redis-benchmark asks for save and appendonly, and goes on without. */
static void run_config(struct resp_session *session, const struct resp_command *command)
{
    if (is_word(command->args[1], "GET"))
        resp_map(session->out, session->client->protocol, 0);
    else
        resp_error(session->out, "ERR settings are in tidemill.yaml");
}

static void run_info(struct resp_session *session, const struct resp_command *command)
{
    (void)command;
    struct buffer text = {0};
    buffer_printf(&text,
                  "# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\n"
                  "tidemill_version:%s\r\n",
                  TIDEMILL_VERSION);
    if (session->client->caller.is_admin) {
        struct results_stats stats;
        results_stats(session->app->results, &stats);
        buffer_printf(&text,
                      "# Stats\r\nkeyspace_hits:%llu\r\nkeyspace_misses:%llu\r\n"
                      "# Keyspace\r\ndb0:keys=%llu,expires=0,avg_ttl=0\r\n",
                      (unsigned long long)(stats.hits + stats.stale),
                      (unsigned long long)(stats.misses + stats.defaults + stats.enqueued),
                      (unsigned long long)stats.entries);
    }
    if (text.is_failed)
        resp_error(session->out, "ERR out of memory");
    else
        resp_bulk(session->out, text.data, text.size);
    buffer_free(&text);
}

/* How many answers there are of all tenants is not any tenant's to know. */
static void run_dbsize(struct resp_session *session, const struct resp_command *command)
{
    (void)command;
    struct results_stats stats;
    if (!session->client->caller.is_admin) {
        resp_error(session->out, "NOPERM this needs an administrator's key");
        return;
    }
    results_stats(session->app->results, &stats);
    resp_integer(session->out, (int64_t)stats.entries);
}

static void run_quit(struct resp_session *session, const struct resp_command *command)
{
    (void)command;
    session->client->is_closing = true;
    resp_simple(session->out, "OK");
}

static void run_reset(struct resp_session *session, const struct resp_command *command)
{
    (void)command;
    struct resp_client *client = session->client;
    client->protocol = 2;
    client->has_key = false;
    client->checked_s = 0;
    client->last.queue = NULL;
    client->name[0] = '\0';
    memset(client->key, 0, sizeof client->key);
    resp_check_caller(session->app, client);
    resp_simple(session->out, "RESET");
}

/* --- the table -------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    size_t n_min, n_max; /* words, the name included */
    bool is_for_strangers;
    void (*run)(struct resp_session *session, const struct resp_command *command);
};

static const struct row rows[] = {
    {"get", 2, 2, false, run_get},
    {"mget", 2, RESP_ARGS_MAX, false, run_mget},
    {"exists", 2, RESP_ARGS_MAX, false, run_exists},
    {"ttl", 2, 2, false, run_ttl},
    {"pttl", 2, 2, false, run_pttl},
    {"strlen", 2, 2, false, run_strlen},
    {"type", 2, 2, false, run_type},
    {"ping", 1, 2, false, run_ping},
    {"echo", 2, 2, false, run_echo},
    {"hello", 1, 8, true, run_hello},
    {"auth", 2, 3, true, run_auth},
    {"select", 2, 2, false, run_select},
    {"client", 2, 4, false, run_client},
    {"command", 1, RESP_ARGS_MAX, false, run_command},
    {"config", 2, RESP_ARGS_MAX, false, run_config},
    {"info", 1, RESP_ARGS_MAX, false, run_info},
    {"dbsize", 1, 1, false, run_dbsize},
    {"quit", 1, 1, true, run_quit},
    {"reset", 1, 1, true, run_reset},
};

static const struct row *row_of(struct slice name)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (is_word(name, rows[i].name)) return &rows[i];
    return NULL;
}

void resp_run(struct resp_session *session, const struct resp_command *command)
{
    struct slice name = command->args[0];
    const struct row *row = row_of(name);
    bool is_known = session->client->is_open || session->client->has_key;
    if (!is_known && (row == NULL || !row->is_for_strangers))
        resp_error(session->out, "NOAUTH Authentication required.");
    else if (row == NULL)
        resp_error(session->out, "ERR unknown command '%.*s'", (int)MIN(name.size, (size_t)64),
                   name.data);
    else if (command->n < row->n_min || command->n > row->n_max)
        arity_error(session, row->name);
    else
        row->run(session, command);
}
