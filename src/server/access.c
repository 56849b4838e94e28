/* SPDX-License-Identifier: Apache-2.0 */
/* access.c - API keys in memory, as the store has them: a thread looks twice a second whether they
 * were changed, by this process or by `tidemill key`, so that a revoked key is refused within a
 * second. A request reads one snapshot and waits for nobody. */
#include "server/access.h"

#include "net/net.h"
#include "server/server.h"

#include <stdlib.h>
#include <time.h>

#include <sodium.h>

#define LOOK_NS (500 * 1000 * 1000L)
#define SPENT_LOOKS 4 /* what was spent is asked for at each fourth look */
#define KEY_PREFIX "tdm_"
#define KEY_RANDOM_BYTES 32
#define KEY_TEXT_MAX 128

struct held_key {
    struct store_key key;
    double tokens; /* of the rate's bucket */
    int64_t filled_ns;
    double spent_usd;
};

struct access {
    struct app *app;
    pthread_mutex_t mutex; /* of all below */
    pthread_cond_t stop;
    bool is_stopping;
    struct held_key *keys; /* by hash; revoked ones left out */
    size_t n_keys;
    bool has_any; /* also revoked ones: who revokes the last key does not open the door */
    int64_t version;
    pthread_t thread;
    bool has_thread;
};

static int compare_hashes(const void *a, const void *b)
{
    const struct held_key *x = a, *y = b;
    return memcmp(x->key.hash, y->key.hash, sizeof x->key.hash);
}

static void free_keys(struct held_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) free(keys[i].key.queues);
    free(keys);
}

static struct held_key *find_hash(struct access *access, const unsigned char hash[32])
{
    size_t low = 0, high = access->n_keys;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = memcmp(access->keys[middle].key.hash, hash, 32);
        if (order == 0)
            return sodium_memcmp(access->keys[middle].key.hash, hash, 32) == 0
                       ? &access->keys[middle]
                       : NULL;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* What is known of a key's rate and spending outlives a change of other keys. */
static void keep_state(struct access *access, struct held_key *key)
{
    const struct held_key *old = find_hash(access, key->key.hash);
    key->tokens = (double)key->key.requests_minute;
    key->filled_ns = clock_now_ns();
    if (old == NULL) return;
    key->tokens = MIN(old->tokens, key->tokens);
    key->filled_ns = old->filled_ns;
    key->spent_usd = old->spent_usd;
}

static tidemill_error *load_keys(struct access *access)
{
    struct store_keys stored = {0};
    TRY(store_key_list(access->app->store, &stored));
    struct held_key *keys = calloc(stored.n + 1, sizeof *keys);
    if (keys == NULL) {
        store_keys_free(&stored);
        return error_memory();
    }
    size_t n = 0, n_stored = stored.n;
    for (size_t i = 0; i < stored.n; i++) {
        if (stored.items[i].revoked_at != 0) continue;
        keys[n++].key = stored.items[i];
        stored.items[i].queues = NULL; /* taken */
    }
    store_keys_free(&stored);
    qsort(keys, n, sizeof *keys, compare_hashes);
    pthread_mutex_lock(&access->mutex);
    for (size_t i = 0; i < n; i++) keep_state(access, &keys[i]);
    struct held_key *old = access->keys;
    size_t n_old = access->n_keys;
    access->keys = keys;
    access->n_keys = n;
    access->has_any = n_stored > 0;
    pthread_mutex_unlock(&access->mutex);
    free_keys(old, n_old);
    return NULL;
}

static tidemill_error *look_for_changes(struct access *access)
{
    int64_t version;
    TRY(store_key_version(access->app->store, &version));
    if (version == access->version) return NULL;
    TRY(load_keys(access));
    access->version = version;
    return NULL;
}

static int64_t month_begin(void)
{
    time_t now = (time_t)(store_now() / 1000);
    struct tm utc;
    gmtime_r(&now, &utc);
    utc.tm_mday = 1;
    utc.tm_hour = utc.tm_min = utc.tm_sec = 0;
    return (int64_t)timegm(&utc) * 1000;
}

/* Only this thread changes the list, so it may read it without the mutex. */
static tidemill_error *look_for_spending(struct access *access)
{
    for (size_t i = 0; i < access->n_keys; i++) {
        double usd = 0;
        if (access->keys[i].key.budget_usd <= 0) continue;
        TRY(store_spent(access->app->store, access->keys[i].key.tenant, month_begin(), &usd));
        pthread_mutex_lock(&access->mutex);
        access->keys[i].spent_usd = usd;
        pthread_mutex_unlock(&access->mutex);
    }
    return NULL;
}

static void complain(tidemill_error *error)
{
    if (error == NULL) return;
    log_event(LOG_WARNING, "keys cannot be read, the last known ones hold: %s",
              error_message(error));
    error_free(error);
}

static void *watch(void *argument)
{
    struct access *access = argument;
    for (unsigned looks = 0;; looks++) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += LOOK_NS;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        pthread_mutex_lock(&access->mutex);
        if (!access->is_stopping) pthread_cond_timedwait(&access->stop, &access->mutex, &until);
        bool is_stopping = access->is_stopping;
        pthread_mutex_unlock(&access->mutex);
        if (is_stopping) return NULL;
        complain(look_for_changes(access));
        if (looks % SPENT_LOOKS == 0) complain(look_for_spending(access));
    }
}

tidemill_error *access_open(struct app *app, struct access **ret)
{
    struct access *access = calloc(1, sizeof *access);
    if (access == NULL) return error_memory();
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&access->stop, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&access->mutex, NULL);
    access->app = app;
    access->version = -1;
    tidemill_error *error = sodium_init() < 0
                                ? error_new(ERROR_INTERNAL, "libsodium does not start")
                                : look_for_changes(access);
    if (error == NULL) error = look_for_spending(access);
    if (error == NULL && pthread_create(&access->thread, NULL, watch, access) != 0)
        error = error_new(ERROR_MEMORY, "a thread cannot be started");
    access->has_thread = error == NULL;
    if (error != NULL)
        access_close(access);
    else
        *ret = access;
    return error;
}

void access_close(struct access *access)
{
    if (access == NULL) return;
    pthread_mutex_lock(&access->mutex);
    access->is_stopping = true;
    pthread_cond_signal(&access->stop);
    pthread_mutex_unlock(&access->mutex);
    if (access->has_thread) pthread_join(access->thread, NULL);
    free_keys(access->keys, access->n_keys);
    pthread_cond_destroy(&access->stop);
    pthread_mutex_destroy(&access->mutex);
    free(access);
}

bool access_has_keys(struct access *access)
{
    pthread_mutex_lock(&access->mutex);
    bool has_keys = access->has_any;
    pthread_mutex_unlock(&access->mutex);
    return has_keys;
}

/* --- one request -------------------------------------------------------------------------------- */

enum admission { ADMIT_OK, ADMIT_UNKNOWN, ADMIT_RATE, ADMIT_BUDGET };

/* A bucket that holds a minute's requests and fills evenly. */
static bool take_token(struct held_key *key)
{
    int64_t now = clock_now_ns();
    double a_minute = (double)key->key.requests_minute;
    key->tokens += (double)(now - key->filled_ns) / 60e9 * a_minute;
    key->tokens = MIN(key->tokens, a_minute);
    key->filled_ns = now;
    if (key->tokens < 1) return false;
    key->tokens -= 1;
    return true;
}

static enum admission admit_key(struct access *access, struct slice text, bool is_request,
                                struct caller *ret)
{
    unsigned char hash[32];
    if (text.size == 0 || text.size > KEY_TEXT_MAX) return ADMIT_UNKNOWN;
    crypto_hash_sha256(hash, (const unsigned char *)text.data, text.size);
    enum admission result = ADMIT_OK;
    pthread_mutex_lock(&access->mutex);
    struct held_key *key = find_hash(access, hash);
    if (key == NULL) {
        result = ADMIT_UNKNOWN;
    } else {
        const char *queues = key->key.queues != NULL ? key->key.queues : "";
        *ret =
            (struct caller){.is_admin = key->key.is_admin, .has_queues = key->key.queues != NULL};
        memcpy(ret->tenant, key->key.tenant, sizeof ret->tenant);
        memcpy(ret->key_id, key->key.id, sizeof ret->key_id);
        memcpy(ret->queues, queues, MIN(strlen(queues), sizeof ret->queues - 1));
        if (is_request && key->key.requests_minute > 0 && !take_token(key))
            result = ADMIT_RATE;
        else if (key->key.budget_usd > 0 && key->spent_usd >= key->key.budget_usd)
            result = ADMIT_BUDGET;
    }
    pthread_mutex_unlock(&access->mutex);
    return result;
}

bool access_find(struct access *access, struct slice key, struct caller *ret)
{
    return admit_key(access, key, false, ret) != ADMIT_UNKNOWN;
}

/* "Authorization: Bearer KEY" or "x-api-key: KEY"; empty: none. */
static struct slice key_of(const struct exchange *exchange)
{
    const char *text = exchange_header(exchange, "authorization");
    if (text != NULL && strncasecmp(text, "Bearer ", 7) == 0) {
        text += 7;
        while (*text == ' ') text++;
    } else {
        text = exchange_header(exchange, "x-api-key");
    }
    return (struct slice){.data = text, .size = text != NULL ? strlen(text) : 0};
}

/* Reading is free of budgets: who is over one may still fetch what was paid for. */
static bool spends(const struct net_route *route)
{
    return route->method == NET_POST || route->method == NET_PUT;
}

static bool refuse_admission(struct exchange *exchange, enum admission result,
                             const struct net_route *route)
{
    switch (result) {
    case ADMIT_OK: return false;
    case ADMIT_UNKNOWN:
        exchange_set_header(exchange, "WWW-Authenticate", "Bearer");
        app_refuse(
            exchange, 401, "invalid_api_key", NULL,
            "an API key is needed: 'Authorization: Bearer tdm_...'; it is missing, unknown or "
            "revoked ('tidemill key create' makes one)");
        return true;
    case ADMIT_RATE:
        exchange_set_header(exchange, "Retry-After", "1");
        app_refuse(exchange, 429, "rate_limit_exceeded", NULL,
                   "this key's requests a minute are used up");
        return true;
    case ADMIT_BUDGET:
        if (!spends(route)) return false;
        app_refuse(exchange, 429, "insufficient_quota", NULL,
                   "this key's budget of the month is spent");
        return true;
    }
    return false;
}

bool access_admit(struct exchange *exchange, const struct net_route *route, void *context)
{
    struct app *app = context;
    const struct route_info *info = route->data;
    struct caller caller = {.tenant = "default", .is_admin = true};
    if (info->access == ROUTE_OPEN) return true;
    if (access_has_keys(app->access) || app->config->needs_key) {
        enum admission result = admit_key(app->access, key_of(exchange), true, &caller);
        if (refuse_admission(exchange, result, route)) return false;
    }
    if (info->access == ROUTE_ADMIN && !caller.is_admin) {
        app_refuse(exchange, 403, "forbidden", NULL, "this needs an administrator's key");
        return false;
    }
    struct caller *kept = malloc(sizeof *kept);
    if (kept == NULL) {
        app_refuse_error(exchange, error_memory());
        return false;
    }
    *kept = caller;
    exchange_set_user(exchange, kept);
    return true;
}

bool access_may_queue(const struct caller *caller, const char *queue)
{
    size_t size = strlen(queue);
    if (!caller->has_queues) return true;
    for (const char *p = caller->queues; *p != '\0';) {
        size_t length = strcspn(p, ",");
        if (length == size && memcmp(p, queue, size) == 0) return true;
        p += length + (p[length] == ',');
    }
    return false;
}

/* --- making keys -------------------------------------------------------------------------------- */

tidemill_error *server_make_key(struct store_key *key, char **ret_text)
{
    unsigned char random[KEY_RANDOM_BYTES];
    char text[KEY_TEXT_MAX] = KEY_PREFIX;
    if (sodium_init() < 0) return error_new(ERROR_INTERNAL, "libsodium does not start");
    randombytes_buf(random, sizeof random);
    sodium_bin2base64(text + strlen(KEY_PREFIX), sizeof text - strlen(KEY_PREFIX), random,
                      sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    crypto_hash_sha256(key->hash, (const unsigned char *)text, strlen(text));
    memcpy(key->hint, text, sizeof key->hint - 1);
    key->hint[sizeof key->hint - 1] = '\0';
    store_new_id("key_", key->id);
    *ret_text = strdup(text);
    sodium_memzero(random, sizeof random);
    sodium_memzero(text, sizeof text);
    return *ret_text == NULL ? error_memory() : NULL;
}
