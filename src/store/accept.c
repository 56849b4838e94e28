/* SPDX-License-Identifier: Apache-2.0 */
/* accept.c - accepts of a group: their windows, their keys. Only the writer's thread is here.
 *
 * A key is looked up before the group's transaction and noted in it. Two accepts with one key in the
 * same group would both find nothing: so an accept whose key may be that of an earlier one (a small
 * filter says so, sometimes without need) waits for the next group. */
#include "store/parts.h"

#include <stdlib.h>
#include <string.h>

#define FILTER_BITS 4096

static const char select_key[] = "SELECT queue, tenant, key, digest_low, digest_high, window, "
                                 "first, created_at, sum FROM accept_keys "
                                 "WHERE tenant = ?1 AND queue = ?2 AND key = ?3";
static const char insert_key[] = "INSERT INTO accept_keys (queue, tenant, key, digest_low, "
                                 "digest_high, window, first, created_at, sum) "
                                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
static const char delete_keys[] = "DELETE FROM accept_keys WHERE created_at < ?1";

/* --- checking ------------------------------------------------------------------------------------- */

static uint64_t count_lines(const char *data, size_t size)
{
    uint64_t n = 0;
    for (const char *end = data + size; data < end; data++, n++)
        if ((data = memchr(data, '\n', (size_t)(end - data))) == NULL) break;
    return n;
}

/* Record i is line i: what does not hold for that is refused before it is written. */
static tidemill_error *check(const struct store_accept *accept)
{
    if (!is_name(accept->queue) || !is_name(accept->tenant) || !is_name(accept->model))
        return error_new(ERROR_USAGE, "queue, tenant and model are 1 to 64 of A-Z a-z 0-9 . _ -");
    if (accept->n == 0 || accept->bytes == 0 || accept->lines[accept->bytes - 1] != '\n')
        return error_new(ERROR_USAGE, "records are lines, each with its newline");
    if (count_lines(accept->lines, accept->bytes) != accept->n)
        return error_new(ERROR_USAGE, "%llu records are not in as many lines",
                         (unsigned long long)accept->n);
    return NULL;
}

/* --- keys ------------------------------------------------------------------------------------------- */

static uint64_t filter_bit(const struct store_accept *accept)
{
    uint64_t hash = hash_checksum(accept->idempotency_key, strlen(accept->idempotency_key));
    hash += hash_checksum(accept->tenant, strlen(accept->tenant)) * 31;
    return hash % FILTER_BITS;
}

static tidemill_error *find_key(struct store *store, struct store_accept *accept)
{
    struct query query;
    struct digest digest = {0};
    char text[3][STORE_NAME_BYTES];
    query_start(&query, &store->db, select_key);
    query_text(&query, accept->tenant);
    query_text(&query, accept->queue);
    query_text(&query, accept->idempotency_key);
    bool is_found = query_step(&query);
    if (is_found) {
        column_text(&query, text[0], sizeof text[0]);
        column_text(&query, text[1], sizeof text[1]);
        char *name = column_string(&query);
        digest = column_digest(&query);
        column_text(&query, accept->window, sizeof accept->window);
        accept->first = (uint64_t)column_int(&query);
        (void)column_int(&query);
        column_sum(&query, "key of the window", accept->window);
        free(name);
    }
    TRY(query_end(&query));
    accept->is_repeat = is_found && digest_equal(digest, accept->digest);
    accept->is_conflict = is_found && !accept->is_repeat;
    return NULL;
}

static tidemill_error *note_key(struct store *store, const struct store_accept *accept, int64_t now)
{
    struct query query;
    query_start(&query, &store->db, insert_key);
    query_text(&query, accept->queue);
    query_text(&query, accept->tenant);
    query_text(&query, accept->idempotency_key);
    query_digest(&query, accept->digest);
    query_text(&query, accept->window);
    query_int(&query, (int64_t)accept->first);
    query_int(&query, now);
    query_sum(&query);
    return query_run(&query);
}

tidemill_error *accept_keys_forget(struct store *store, int64_t before)
{
    struct query query;
    query_start(&query, &store->db, delete_keys);
    query_int(&query, before);
    return query_run(&query);
}

/* --- a group ------------------------------------------------------------------------------------------ */

static bool is_settled(const struct store_accept *accept)
{
    return accept->own.error != NULL || accept->is_repeat || accept->is_conflict;
}

static tidemill_error *stage(struct store *store, struct store_accept *accept)
{
    struct window *window;
    TRY(check(accept));
    if (accept->idempotency_key != NULL) TRY(find_key(store, accept));
    if (is_settled(accept)) return NULL;
    TRY(window_find(store, accept, &window));
    accept->own.window = window;
    accept->first = window->staged.records;
    TRY(window_stage(store, window, accept->lines, accept->bytes, accept->n));
    memcpy(accept->window, window->id, sizeof accept->window);
    accept->window_records = window->staged.records;
    accept->window_bytes = window->staged.bytes;
    accept->window_opened_at = window->created_at;
    return NULL;
}

/* true: an earlier accept of the group may have the same key. */
static bool has_to_wait(const struct store_accept *accept, unsigned char filter[FILTER_BITS / 8])
{
    if (accept->idempotency_key == NULL) return false;
    uint64_t bit = filter_bit(accept);
    bool is_there = (filter[bit / 8] >> (bit % 8) & 1) != 0;
    filter[bit / 8] |= (unsigned char)(1u << (bit % 8));
    return is_there;
}

void accepts_stage(struct store *store, struct store_accept **accepts)
{
    unsigned char filter[FILTER_BITS / 8] = {0};
    struct store_accept **last_later = &store->later, **place = accepts, *accept;
    while ((accept = *place) != NULL) {
        if (accept->own.error == NULL && has_to_wait(accept, filter)) {
            *place = accept->own.next;
            accept->own.next = NULL;
            *last_later = accept;
            last_later = &accept->own.next;
            continue;
        }
        if (accept->own.error == NULL) accept->own.error = stage(store, accept);
        place = &accept->own.next;
    }
}

void accepts_check(struct store_accept *accepts)
{
    for (struct store_accept *accept = accepts; accept != NULL; accept = accept->own.next)
        if (accept->own.window != NULL && accept->own.error == NULL)
            accept->own.error = error_again(accept->own.window->error);
}

tidemill_error *accepts_apply(struct store *store, struct store_accept *accepts)
{
    int64_t now = store_now();
    TRY(windows_apply(store));
    for (struct store_accept *accept = accepts; accept != NULL; accept = accept->own.next)
        if (!is_settled(accept) && accept->idempotency_key != NULL)
            TRY(note_key(store, accept, now));
    return NULL;
}
