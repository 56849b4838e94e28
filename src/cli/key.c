/* SPDX-License-Identifier: Apache-2.0 */
/* key.c - tidemill key: API keys of a server's data folder, while the server runs or not. */
#include "cli/cli.h"
#include "server/server.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum action { ACTION_CREATE, ACTION_LIST, ACTION_REVOKE };

static const char *const action_names[] = {"create", "list", "revoke"};

struct request {
    enum action action;
    const char *data;
    const char *id; /* revoke */
    const char *name, *tenant, *queues;
    int64_t requests_minute;
    double budget_usd;
    bool is_admin, is_json, wants_help;
};

static void print_help(void)
{
    puts("Usage: tidemill key create --data=DIR [--name=TEXT] [--tenant=NAME] [--admin] "
         "[OPTION]...\n"
         "       tidemill key list --data=DIR [--json]\n"
         "       tidemill key revoke ID --data=DIR\n"
         "API keys of a server. A key's text is shown once: only its SHA-256 is kept. A server "
         "that\n"
         "runs knows of a change within a second.\n\n"
         "      --data=DIR     the server's data folder [default: tidemill-data]\n"
         "      --name=TEXT    what the key is for\n"
         "      --tenant=NAME  whose it is; tenants see nothing of each other [default: default]\n"
         "      --queues=LIST  queues that it may use, with commas; all by default\n"
         "      --rpm=N        requests a minute, at most\n"
         "      --budget=USD   what its tenant's jobs of a calendar month may cost\n"
         "      --admin        may read metrics and make backups\n"
         "      --json         list: a line of JSON each\n"
         "  -h, --help         show this help");
}

/* --- what was asked for ------------------------------------------------------------------------- */

static tidemill_error *read_number(const char *option, const char *text, double *ret)
{
    char *end;
    *ret = strtod(text, &end);
    if (end != text && (*end == '\0' || strcmp(end, "USD") == 0) && *ret > 0 && *ret < 1e12)
        return NULL;
    return error_new(ERROR_USAGE, "%s: '%s' is not a number above 0", option, text);
}

static tidemill_error *set_value(struct request *request, const char *option, const char *value)
{
    double number;
    if (strcmp(option, "--data") == 0) {
        request->data = value;
    } else if (strcmp(option, "--name") == 0) {
        request->name = value;
    } else if (strcmp(option, "--tenant") == 0) {
        request->tenant = value;
    } else if (strcmp(option, "--queues") == 0) {
        request->queues = value;
    } else if (strcmp(option, "--rpm") == 0) {
        TRY(read_number(option, value, &number));
        request->requests_minute = (int64_t)number;
    } else if (strcmp(option, "--budget") == 0) {
        TRY(read_number(option, value, &request->budget_usd));
    } else {
        return error_new(ERROR_USAGE, "unknown option '%s'; 'tidemill key --help' lists them",
                         option);
    }
    return NULL;
}

/* "--name=VALUE" or "--name VALUE". */
static tidemill_error *read_option(struct request *request, int argc, char **argv, int *i)
{
    char name[32];
    const char *word = argv[*i];
    size_t size = strcspn(word, "=");
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        request->wants_help = true;
        return NULL;
    }
    if (strcmp(word, "--admin") == 0 || strcmp(word, "--json") == 0) {
        *(word[2] == 'a' ? &request->is_admin : &request->is_json) = true;
        return NULL;
    }
    snprintf(name, sizeof name, "%.*s", (int)MIN(size, sizeof name - 1), word);
    if (word[size] == '=') return set_value(request, name, word + size + 1);
    if (*i + 1 >= argc)
        return error_new(ERROR_USAGE,
                         "unknown option '%s', or its value is missing; 'tidemill key "
                         "--help' lists them",
                         word);
    return set_value(request, name, argv[++*i]);
}

static tidemill_error *read_action(struct request *request, const char *word)
{
    for (size_t i = 0; i < COUNT_OF(action_names); i++) {
        if (strcmp(word, action_names[i]) != 0) continue;
        request->action = (enum action)i;
        return NULL;
    }
    return error_new(ERROR_USAGE, "'%s' is none of create, list, revoke; 'tidemill key --help'",
                     word);
}

static tidemill_error *parse(int argc, char **argv, struct request *ret)
{
    int n_words = 0;
    *ret = (struct request){.data = "tidemill-data", .name = "", .tenant = "default"};
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            TRY(read_option(ret, argc, argv, &i));
        else if (n_words++ == 0)
            TRY(read_action(ret, argv[i]));
        else if (ret->action == ACTION_REVOKE && ret->id == NULL)
            ret->id = argv[i];
        else
            return error_new(ERROR_USAGE, "what is '%s' for? 'tidemill key --help' tells", argv[i]);
    }
    if (ret->wants_help) return NULL;
    if (n_words == 0)
        return error_new(ERROR_USAGE, "create, list or revoke? 'tidemill key --help'");
    if (ret->action == ACTION_REVOKE && ret->id == NULL)
        return error_new(ERROR_USAGE, "the key's id is missing: tidemill key revoke ID");
    return NULL;
}

/* --- doing it ----------------------------------------------------------------------------------- */

static tidemill_error *check_name(const char *what, const char *text)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t size = strlen(text);
    if (size > 0 && size < STORE_NAME_BYTES && strspn(text, allowed) == size) return NULL;
    return error_new(ERROR_USAGE,
                     "the %s '%.80s' must be 1 to 64 letters, digits, dots, dashes or underscores",
                     what, text);
}

static tidemill_error *create(struct store *store, const struct request *request)
{
    char *text = NULL;
    struct store_key key = {.is_admin = request->is_admin,
                            .created_at = store_now(),
                            .requests_minute = request->requests_minute,
                            .budget_usd = request->budget_usd,
                            .queues = (char *)(uintptr_t)request->queues};
    TRY(check_name("tenant", request->tenant));
    if (request->name[0] != '\0') TRY(check_name("name", request->name));
    if (request->queues != NULL && strlen(request->queues) >= 512)
        return error_new(ERROR_USAGE, "--queues is too long: 511 bytes are allowed");
    memcpy(key.tenant, request->tenant, strlen(request->tenant) + 1);
    memcpy(key.name, request->name, strlen(request->name) + 1);
    TRY(server_make_key(&key, &text));
    tidemill_error *error = store_key_add(store, &key);
    if (error == NULL) {
        log_event(LOG_INFO, "key %s of tenant %s; its text is shown this once:", key.id,
                  key.tenant);
        puts(text);
    }
    free(text);
    return error;
}

static void print_time(int64_t time_ms)
{
    char text[32] = "-";
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm utc;
    if (time_ms != 0 && gmtime_r(&seconds, &utc) != NULL)
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    printf("%-20s  ", text);
}

static void print_key(const struct store_key *key, bool is_json)
{
    if (is_json) {
        printf("{\"id\":\"%s\",\"hint\":\"%s\",\"name\":\"%s\",\"tenant\":\"%s\",\"admin\":%s,"
               "\"created_at\":%lld,\"revoked_at\":%lld,\"rpm\":%lld,\"budget_usd\":%.2f}\n",
               key->id, key->hint, key->name, key->tenant, key->is_admin ? "true" : "false",
               (long long)(key->created_at / 1000), (long long)(key->revoked_at / 1000),
               (long long)key->requests_minute, key->budget_usd);
        return;
    }
    printf("%-29s%-13s%-16s", key->id, key->hint, key->tenant);
    print_time(key->created_at);
    print_time(key->revoked_at);
    printf("%s%s\n", key->is_admin ? "admin " : "", key->name);
}

static tidemill_error *list(struct store *store, const struct request *request)
{
    struct store_keys keys = {0};
    TRY(store_key_list(store, &keys));
    if (!request->is_json)
        printf("%-29s%-13s%-16s%-22s%-22s%s\n", "ID", "BEGINS", "TENANT", "CREATED", "REVOKED",
               "NAME");
    for (size_t i = 0; i < keys.n; i++) print_key(&keys.items[i], request->is_json);
    store_keys_free(&keys);
    return NULL;
}

static tidemill_error *revoke(struct store *store, const struct request *request)
{
    bool is_found = false;
    TRY(store_key_revoke(store, request->id, &is_found));
    if (!is_found)
        return error_new(ERROR_USAGE, "there is no key '%s'; 'tidemill key list' shows them",
                         request->id);
    log_event(LOG_INFO, "revoked %s", request->id);
    return NULL;
}

int cli_key(int argc, char **argv)
{
    struct request request;
    struct store *store = NULL;
    tidemill_error *error = parse(argc, argv, &request);
    if (error == NULL && request.wants_help) {
        print_help();
        return 0;
    }
    if (error == NULL) error = store_open_beside(&io_local, request.data, &store);
    if (error == NULL)
        error = request.action == ACTION_CREATE ? create(store, &request)
                : request.action == ACTION_LIST ? list(store, &request)
                                                : revoke(store, &request);
    store_close(store);
    return error != NULL ? cli_fail(error) : 0;
}
