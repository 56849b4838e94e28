/* SPDX-License-Identifier: Apache-2.0 */
/* sink_redis.c - SET key value of each answer in a Redis or Valkey server, pipelined:
 * redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]. A key is QUEUE:KEY, as in the Redis protocol of this server itself.
 * Setting it again changes nothing, so at least once is enough. A window that is delivered late may set
 * an older answer over a newer one; the sinks' one thread keeps them in order as long as none fails. */
#include "server/delivery_parts.h"
#include "server/result_lines.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include <curl/curl.h>
#include <hiredis/hiredis.h>

#define PIPELINE_COMMANDS 512
#define PIPELINE_BYTES ((size_t)1 << 20)
#define CONNECT_S 5
#define ANSWER_S 15
#define PORT_DEFAULT 6379

struct setting {
    redisContext *redis;
    const char *queue;
    struct buffer key;
    size_t n, bytes; /* that no answer was read of */
};

static tidemill_error *redis_error(const redisContext *redis, const char *what)
{
    return error_new(ERROR_UPSTREAM, "redis: %s: %s", what,
                     redis == NULL     ? "out of memory"
                     : redis->err != 0 ? redis->errstr
                                       : "no answer");
}

static tidemill_error *check_reply(const redisContext *redis, const redisReply *reply,
                                   const char *what)
{
    if (reply == NULL) return redis_error(redis, what);
    if (reply->type != REDIS_REPLY_ERROR) return NULL;
    return error_new(ERROR_UPSTREAM, "redis: %s: %.*s", what, (int)MIN(reply->len, 200),
                     reply->str);
}

static tidemill_error *read_replies(struct setting *setting)
{
    while (setting->n > 0) {
        void *reply = NULL;
        redisGetReply(setting->redis, &reply);
        tidemill_error *error = check_reply(setting->redis, reply, "SET");
        freeReplyObject(reply);
        TRY(error);
        setting->n--;
    }
    setting->bytes = 0;
    return NULL;
}

static tidemill_error *take(void *context, struct slice key, struct slice line)
{
    struct setting *setting = context;
    if (key.size == 0) return NULL; /* it has no name to be found under */
    setting->key.size = 0;
    buffer_printf(&setting->key, "%s:", setting->queue);
    buffer_append(&setting->key, key.data, key.size);
    if (setting->key.is_failed) return error_memory();
    const char *words[] = {"SET", setting->key.data, line.data};
    const size_t sizes[] = {3, setting->key.size, line.size};
    if (redisAppendCommandArgv(setting->redis, 3, words, sizes) != REDIS_OK)
        return redis_error(setting->redis, "SET");
    setting->bytes += setting->key.size + line.size;
    if (++setting->n < PIPELINE_COMMANDS && setting->bytes < PIPELINE_BYTES) return NULL;
    return read_replies(setting);
}

/* --- the connection --------------------------------------------------------------------------------- */

struct address {
    char *host, *user, *password, *path; /* curl's; NULL where there is none */
    int port;
};

static char *part_of(CURLU *url, CURLUPart part)
{
    char *text = NULL;
    return curl_url_get(url, part, &text, CURLU_URLDECODE) == CURLUE_OK ? text : NULL;
}

static tidemill_error *parse(const char *to, struct address *ret)
{
    CURLU *url = curl_url();
    if (url == NULL) return error_memory();
    bool is_fine = strncmp(to, "redis://", 8) == 0 &&
                   curl_url_set(url, CURLUPART_URL, to, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK;
    if (is_fine) {
        char *port = part_of(url, CURLUPART_PORT);
        *ret = (struct address){.host = part_of(url, CURLUPART_HOST),
                                .user = part_of(url, CURLUPART_USER),
                                .password = part_of(url, CURLUPART_PASSWORD),
                                .path = part_of(url, CURLUPART_PATH),
                                .port = port == NULL ? PORT_DEFAULT : atoi(port)};
        curl_free(port);
    }
    curl_url_cleanup(url);
    if (is_fine && ret->host != NULL) return NULL;
    return error_new(ERROR_USAGE, "a Redis sink is redis://HOST:PORT/DB, without TLS");
}

static void free_address(struct address *address)
{
    curl_free(address->host);
    curl_free(address->user);
    curl_free(address->password);
    curl_free(address->path);
}

static tidemill_error *command(redisContext *redis, int n, const char **words)
{
    redisReply *reply = redisCommandArgv(redis, n, words, NULL);
    tidemill_error *error = check_reply(redis, reply, words[0]);
    freeReplyObject(reply);
    return error;
}

static tidemill_error *log_in(redisContext *redis, const struct address *address)
{
    bool has_user = address->user != NULL && address->user[0] != '\0';
    const char *both[] = {"AUTH", address->user, address->password};
    const char *one[] = {"AUTH", address->password};
    if (address->password != NULL) TRY(command(redis, has_user ? 3 : 2, has_user ? both : one));
    const char *database = address->path == NULL ? "" : address->path + 1;
    const char *select[] = {"SELECT", database};
    return address->path == NULL || database[0] == '\0' ? NULL : command(redis, 2, select);
}

static tidemill_error *open_redis(const char *to, redisContext **ret)
{
    struct address address = {0};
    tidemill_error *error = parse(to, &address);
    if (error == NULL) {
        *ret = redisConnectWithTimeout(address.host, address.port,
                                       (struct timeval){.tv_sec = CONNECT_S});
        if (*ret == NULL || (*ret)->err != 0)
            error = redis_error(*ret, "connecting");
        else if (redisSetTimeout(*ret, (struct timeval){.tv_sec = ANSWER_S}) != REDIS_OK)
            error = redis_error(*ret, "setting a timeout");
        if (error == NULL) error = log_in(*ret, &address);
    }
    free_address(&address);
    return error;
}

tidemill_error *sink_redis(const struct sink_source *source, const char *to)
{
    struct setting setting = {.queue = source->job->queue};
    struct result_lines lines = {.take = take, .context = &setting, .key_field = source->key_field};
    tidemill_error *error = open_redis(to, &setting.redis);
    if (error == NULL) error = result_lines_read(source->app, source->job, &lines);
    if (error == NULL) error = read_replies(&setting);
    if (setting.redis != NULL) redisFree(setting.redis);
    buffer_free(&setting.key);
    return error;
}
