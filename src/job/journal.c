/* SPDX-License-Identifier: Apache-2.0 */
/* journal.c - append-only record of a job beside its output; survives kill -9 and power loss.
 *
 * Format: one frame a line, readable with cat:
 *
 *     <checksum> <JSON>\n      checksum: XXH3-64 of the JSON text, 16 hexadecimal digits
 *
 *     {"type":"job","version":1,"tidemill":"0.1.0","identity":[["name","value"],...]}  first line
 *     {"type":"start"}                                      a run begins
 *     {"type":"plan","batch":256,"tokens":[0,..],"call_tokens":0,"padded":false,"measured":true,
 *      "dedup":false,"first_chunk":"<digest>","decoder":"x=x\nid=id"}
 *     {"type":"attempt","record":17}                        not synced; only in careful mode
 *     {"type":"paid","tokens":[in,cached,out]}              not synced; what a commit would say now
 *     {"type":"commit","ok":..,"failed":..,"duplicates":..,"reused":..,"cached":..,
 *      "tokens":[in,cached,out],                             absent in older journals: none
 *      "lost":[in,cached,out],                               of these; absent where none was
 *      "chunk":[file,offset,line,index],"done_in_chunk":..,
 *      "output":[file_bytes,plain_bytes,"tail in base64"],"errors":[..],"wall_s":..,"cpu_s":..}
 *     {"type":"final","output_bytes":..,"errors_bytes":..}  everything is complete and synced
 *     {"type":"published","output_bytes":..,"errors_bytes":..}  and bears its name
 *
 * A journal that has grown by JOURNAL_GROWTH_BYTES is written anew, with the first line, the last plan and
 * the last commit alone, and renamed over the old one; so it stays small however long a job runs.
 *
 * One writer (the lock file sees to that). A frame is written with one write and synced before
 * anything relies on it. Reading stops at the first bad line: when it is the last one, or only frames that
 * are not synced follow, it is a torn write and is cut off; when a synced frame follows, the file was
 * damaged and the job stops. Data is synced before the commit that speaks of it.
 *
 * Answers that no commit holds are asked for again after a kill, and were paid for all the same: their
 * tokens are noted as they come. That survives a kill of the process without a sync, and costs none; power
 * loss may take it. */
#include "job/journal.h"

#include "format/encode.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <yyjson.h>

#define JOURNAL_VERSION 1
#define JOURNAL_BYTES_MAX ((size_t)1 << 30)
#define JOURNAL_GROWTH_BYTES ((uint64_t)8 << 20)
#define CHECKSUM_DIGITS 16

/* --- identity ------------------------------------------------------------------------------------- */

/* JSON holds no other bytes: a name that is not UTF-8 would be read back as another one. */
static void make_utf8(char *text)
{
    if (format_is_utf8(text, strlen(text))) return;
    for (; *text != '\0'; text++)
        if ((unsigned char)*text >= 0x80) *text = '?';
}

tidemill_error *identity_add(struct identity *identity, const char *value, const char *name_format,
                             ...)
{
    struct identity_part *parts =
        realloc(identity->parts, (identity->n + 1) * sizeof *identity->parts);
    if (parts == NULL) return error_memory();
    identity->parts = parts;
    struct identity_part *part = &parts[identity->n];
    va_list arguments;
    va_start(arguments, name_format);
    int length = vasprintf(&part->name, name_format, arguments);
    va_end(arguments);
    if (length < 0) return error_memory();
    part->value = strdup(value);
    if (part->value == NULL) {
        free(part->name);
        return error_memory();
    }
    make_utf8(part->name);
    make_utf8(part->value);
    identity->n++;
    return NULL;
}

void identity_free(struct identity *identity)
{
    for (size_t i = 0; i < identity->n; i++) {
        free(identity->parts[i].name);
        free(identity->parts[i].value);
    }
    free(identity->parts);
    *identity = (struct identity){0};
}

static const char *identity_value(const struct identity *identity, const char *name)
{
    for (size_t i = 0; i < identity->n; i++)
        if (strcmp(identity->parts[i].name, name) == 0) return identity->parts[i].value;
    return NULL;
}

static tidemill_error *changed(const char *name, const char *then, const char *now)
{
    return error_new(ERROR_CHANGED,
                     "%s is not what this job was begun with (then %s, now %s); use --force to "
                     "start anew, or give back what it was to go on",
                     name, then == NULL ? "absent" : then, now == NULL ? "absent" : now);
}

tidemill_error *identity_compare(const struct identity *begun, const struct identity *now)
{
    for (size_t i = 0; i < now->n; i++) {
        const struct identity_part *part = &now->parts[i];
        const char *then = identity_value(begun, part->name);
        if (then == NULL || strcmp(then, part->value) != 0)
            return changed(part->name, then, part->value);
    }
    for (size_t i = 0; i < begun->n; i++)
        if (identity_value(now, begun->parts[i].name) == NULL)
            return changed(begun->parts[i].name, begun->parts[i].value, NULL);
    return NULL;
}

/* --- reading -------------------------------------------------------------------------------------- */

static uint64_t number(yyjson_val *object, const char *key)
{
    return yyjson_get_uint(yyjson_obj_get(object, key));
}

static uint64_t element(yyjson_val *array, size_t place)
{
    return yyjson_get_uint(yyjson_arr_get(array, place));
}

static bool read_identity(yyjson_val *frame, struct identity *identity)
{
    yyjson_val *pairs = yyjson_obj_get(frame, "identity"), *pair;
    size_t i, n;
    yyjson_arr_foreach(pairs, i, n, pair)
    {
        const char *name = yyjson_get_str(yyjson_arr_get(pair, 0));
        const char *value = yyjson_get_str(yyjson_arr_get(pair, 1));
        if (name == NULL || value == NULL) return false;
        tidemill_error *error = identity_add(identity, value, "%s", name);
        if (error != NULL) {
            error_free(error);
            return false;
        }
    }
    return yyjson_is_arr(pairs);
}

static bool read_digest(const char *text, struct digest *ret)
{
    return text != NULL && sscanf(text, "%16" SCNx64 "%16" SCNx64, &ret->high, &ret->low) == 2;
}

static bool read_spool(yyjson_val *array, struct spool_position *ret)
{
    const char *tail = yyjson_get_str(yyjson_arr_get(array, 2));
    size_t tail_size = yyjson_get_len(yyjson_arr_get(array, 2));
    if (tail == NULL) return false;
    char *plain = malloc(tail_size / 4 * 3 + 3);
    size_t size;
    if (plain == NULL) return false;
    if (!parse_base64(tail, tail_size, (unsigned char *)plain, &size)) {
        free(plain);
        return false;
    }
    free((char *)ret->tail.data);
    *ret = (struct spool_position){
        .file_bytes = element(array, 0),
        .plain_bytes = element(array, 1),
        .tail = {plain, size},
    };
    return true;
}

static void forget_attempts_before(struct journal_state *state, uint64_t index)
{
    size_t kept = 0;
    for (size_t i = 0; i < state->n_deadly; i++)
        if (state->deadly[i] >= index) state->deadly[kept++] = state->deadly[i];
    state->n_deadly = kept;
    if (state->attempt < index) state->has_attempt = false;
}

static struct token_usage read_tokens(yyjson_val *frame, const char *key)
{
    yyjson_val *tokens = yyjson_obj_get(frame, key);
    return (struct token_usage){
        .in = element(tokens, 0), .cached = element(tokens, 1), .out = element(tokens, 2)};
}

static bool read_commit(yyjson_val *frame, struct journal_state *state)
{
    struct journal_commit *commit = &state->commit;
    yyjson_val *chunk = yyjson_obj_get(frame, "chunk");
    commit->counts.ok = number(frame, "ok");
    commit->counts.failed = number(frame, "failed");
    commit->counts.duplicates = number(frame, "duplicates");
    commit->counts.reused = number(frame, "reused");
    commit->counts.cached = number(frame, "cached");
    commit->counts.tokens = state->paid = read_tokens(frame, "tokens");
    commit->counts.lost = read_tokens(frame, "lost");
    commit->counts.records = commit->counts.ok + commit->counts.failed;
    commit->chunk = (struct source_position){
        .file = (uint32_t)element(chunk, 0),
        .offset = element(chunk, 1),
        .line = element(chunk, 2),
        .index = element(chunk, 3),
    };
    commit->done_in_chunk = number(frame, "done_in_chunk");
    commit->wall_s = yyjson_get_num(yyjson_obj_get(frame, "wall_s"));
    commit->cpu_s = yyjson_get_num(yyjson_obj_get(frame, "cpu_s"));
    state->has_commit = true;
    state->starts_without_commit = 0;
    forget_attempts_before(state, commit->counts.records);
    return commit->chunk.index + commit->done_in_chunk == commit->counts.records &&
           read_spool(yyjson_obj_get(frame, "output"), &commit->output) &&
           read_spool(yyjson_obj_get(frame, "errors"), &commit->errors);
}

/* What was paid for after the last commit is on the bill of the runs to come. */
static void take_lost(uint64_t *total, uint64_t *lost, uint64_t paid)
{
    if (paid <= *total) return;
    *lost += paid - *total;
    *total = paid;
}

static void bill_lost(struct journal_state *state)
{
    struct job_counts *counts = &state->commit.counts;
    take_lost(&counts->tokens.in, &counts->lost.in, state->paid.in);
    take_lost(&counts->tokens.cached, &counts->lost.cached, state->paid.cached);
    take_lost(&counts->tokens.out, &counts->lost.out, state->paid.out);
}

/* The run that this ends died in its last attempt; the ones before it had ended well. */
static bool end_of_run(struct journal_state *state)
{
    bill_lost(state);
    if (!state->has_attempt) return true;
    uint64_t *deadly = realloc(state->deadly, (state->n_deadly + 1) * sizeof *deadly);
    if (deadly == NULL) return false;
    state->deadly = deadly;
    deadly[state->n_deadly++] = state->attempt;
    state->has_attempt = false;
    return true;
}

static bool read_attempt(yyjson_val *frame, struct journal_state *state)
{
    state->attempt = number(frame, "record");
    state->has_attempt = true;
    return true;
}

static bool read_limits(yyjson_val *frame, struct plan_limits *ret)
{
    yyjson_val *tokens = yyjson_obj_get(frame, "tokens");
    *ret = (struct plan_limits){
        .rows_max = (uint32_t)number(frame, "batch"),
        .call_tokens = (uint32_t)number(frame, "call_tokens"),
        .is_padded = yyjson_get_bool(yyjson_obj_get(frame, "padded")),
    };
    for (size_t i = 0; i < PLAN_CLASSES; i++)
        ret->tokens_max[i] = (uint32_t)yyjson_get_uint(yyjson_arr_get(tokens, i));
    return ret->rows_max >= 1 && yyjson_arr_size(tokens) == PLAN_CLASSES;
}

static const char *const tuned_from_names[] = {
    [TUNED_USUAL] = "default",
    [TUNED_GIVEN] = "given",
    [TUNED_MEASURED] = "measured",
    [TUNED_REMEMBERED] = "remembered",
};

const char *tuned_from_name(enum tuned_from from)
{
    return tuned_from_names[from];
}

static enum tuned_from read_tuned_from(yyjson_val *frame, const char *key)
{
    const char *name = yyjson_get_str(yyjson_obj_get(frame, key));
    for (size_t i = 0; name != NULL && i < COUNT_OF(tuned_from_names); i++)
        if (strcmp(name, tuned_from_names[i]) == 0) return (enum tuned_from)i;
    return TUNED_USUAL;
}

/* 0 where there is none. */
static int read_small(yyjson_val *frame, const char *key)
{
    uint64_t number = yyjson_get_uint(yyjson_obj_get(frame, key));
    return number <= INT16_MAX ? (int)number : 0;
}

static bool read_plan(yyjson_val *frame, struct journal_plan *plan)
{
    plan->is_set = true;
    plan->batch_from = read_tuned_from(frame, "batch_from");
    plan->parallel_from = read_tuned_from(frame, "parallel_from");
    plan->instances = read_small(frame, "instances");
    plan->threads = read_small(frame, "threads");
    plan->is_deduped = yyjson_get_bool(yyjson_obj_get(frame, "dedup"));
    const char *decoder = yyjson_get_str(yyjson_obj_get(frame, "decoder"));
    free((char *)(uintptr_t)plan->decoder);
    plan->decoder = strdup(decoder == NULL ? "" : decoder);
    return plan->decoder != NULL && read_limits(frame, &plan->limits) &&
           read_digest(yyjson_get_str(yyjson_obj_get(frame, "first_chunk")), &plan->first_chunk);
}

/* A commit behind a `final` is that of a merge; until the merge has its own `final`, it may be made
 * again, from this bill. */
static bool read_final(yyjson_val *frame, bool is_published, struct journal_state *state)
{
    const struct journal_commit *commit = &state->commit;
    state->final.is_set = true;
    state->final.is_published = is_published;
    state->final.output_bytes = number(frame, "output_bytes");
    state->final.errors_bytes = number(frame, "errors_bytes");
    state->final_bill = (struct journal_bill){.tokens = commit->counts.tokens,
                                              .lost = commit->counts.lost,
                                              .wall_s = commit->wall_s,
                                              .cpu_s = commit->cpu_s};
    return true;
}

/* One frame into the state. False: it does not say what a frame of its type says. */
static bool apply_frame(yyjson_val *frame, struct journal_state *state)
{
    const char *type = yyjson_get_str(yyjson_obj_get(frame, "type"));
    if (type == NULL) return false;
    if (strcmp(type, "job") == 0) return read_identity(frame, &state->identity);
    if (strcmp(type, "start") == 0) {
        state->starts_without_commit++;
        return end_of_run(state);
    }
    if (strcmp(type, "plan") == 0) return read_plan(frame, &state->plan);
    if (strcmp(type, "attempt") == 0) return read_attempt(frame, state);
    if (strcmp(type, "paid") == 0) {
        state->paid = read_tokens(frame, "tokens");
        return true;
    }
    if (strcmp(type, "commit") == 0) return read_commit(frame, state);
    if (strcmp(type, "final") == 0) return read_final(frame, false, state);
    return strcmp(type, "published") == 0 && read_final(frame, true, state);
}

/* The JSON of a line whose checksum holds; NULL otherwise. */
static yyjson_doc *check_line(const char *line, size_t size)
{
    char digits[CHECKSUM_DIGITS + 1];
    if (size < CHECKSUM_DIGITS + 2 || line[CHECKSUM_DIGITS] != ' ') return NULL;
    const char *json = line + CHECKSUM_DIGITS + 1;
    size_t json_size = size - CHECKSUM_DIGITS - 1;
    snprintf(digits, sizeof digits, "%016" PRIx64, hash_checksum(json, json_size));
    if (memcmp(digits, line, CHECKSUM_DIGITS) != 0) return NULL;
    return yyjson_read(json, json_size, 0);
}

static tidemill_error *damaged(const char *path, size_t line)
{
    return error_new(ERROR_CORRUPT,
                     "%s:%zu: the journal is damaged; --force starts the job anew, or restore the "
                     "file",
                     path, line);
}

static tidemill_error *check_version(yyjson_doc *doc, const char *path)
{
    yyjson_val *root = yyjson_doc_get_root(doc);
    uint64_t version = number(root, "version");
    if (!yyjson_equals_str(yyjson_obj_get(root, "type"), "job")) return damaged(path, 1);
    if (version == JOURNAL_VERSION) return NULL;
    return error_new(ERROR_CHANGED,
                     "%s is of journal version %llu and this tidemill writes %d; finish the job "
                     "with the tidemill that began it, or use --force to start anew",
                     path, (unsigned long long)version, JOURNAL_VERSION);
}

/* Whether a frame that was synced ends the line: then it is no torn one. It need not begin it, since
 * the line end before it may be what is damaged. What is not synced proves nothing. */
static bool has_synced_frame(const char *line, size_t size)
{
    const char *end = line + size;
    for (const char *p = line; (p = memchr(p, '{', (size_t)(end - p))) != NULL; p++) {
        size_t before = (size_t)(p - line);
        if (before <= CHECKSUM_DIGITS) continue;
        const char *frame = p - CHECKSUM_DIGITS - 1;
        yyjson_doc *doc = check_line(frame, (size_t)(end - frame));
        if (doc == NULL) continue;
        yyjson_val *type = yyjson_obj_get(yyjson_doc_get_root(doc), "type");
        bool is_synced = !yyjson_equals_str(type, "attempt") && !yyjson_equals_str(type, "paid");
        yyjson_doc_free(doc);
        return is_synced;
    }
    return false;
}

/* Whether text[from, size) has a whole frame that was synced: then a bad line at `from` is no torn
 * tail, since what stands before a synced frame was on disk before it was written. */
static bool is_damage(const char *text, size_t from, size_t size)
{
    while (from < size) {
        const char *end = memchr(text + from, '\n', size - from);
        if (end == NULL) return false;
        size_t length = (size_t)(end - text) - from;
        if (has_synced_frame(text + from, length)) return true;
        from += length + 1;
    }
    return false;
}

/* A journal that is gone on with may have to be written anew. */
static bool remember_line(yyjson_val *frame, const char *line, size_t size,
                          struct journal_state *state)
{
    const char *type = yyjson_get_str(yyjson_obj_get(frame, "type"));
    struct buffer *place = strcmp(type, "job") == 0      ? &state->first_line
                           : strcmp(type, "plan") == 0   ? &state->plan_line
                           : strcmp(type, "commit") == 0 ? &state->commit_line
                                                         : NULL;
    if (place == NULL) return true;
    buffer_reset(place, SIZE_MAX);
    buffer_append(place, line, size);
    return !place->is_failed;
}

static tidemill_error *read_frames(const char *path, const char *text, size_t size,
                                   struct journal_state *state)
{
    size_t line = 0;
    while (state->valid_bytes < size) {
        const char *start = text + state->valid_bytes;
        const char *end = memchr(start, '\n', size - state->valid_bytes);
        size_t length = end == NULL ? size - state->valid_bytes : (size_t)(end - start);
        yyjson_doc *doc = end == NULL ? NULL : check_line(start, length);
        line++;
        if (doc == NULL)
            return is_damage(text, state->valid_bytes, size) ? damaged(path, line) : NULL;
        tidemill_error *error = line == 1 ? check_version(doc, path) : NULL;
        bool is_applied = error == NULL && apply_frame(yyjson_doc_get_root(doc), state) &&
                          remember_line(yyjson_doc_get_root(doc), start, length + 1, state);
        yyjson_doc_free(doc);
        if (error != NULL) return error;
        if (!is_applied) return damaged(path, line);
        state->valid_bytes += length + 1;
        state->exists = true;
    }
    return NULL;
}

tidemill_error *journal_read(const struct io *io, const char *path, struct journal_state *ret)
{
    char *text;
    size_t size;
    *ret = (struct journal_state){0};
    if (!io_exists(io, path)) return NULL;
    TRY(io_read_file(io, path, JOURNAL_BYTES_MAX, &text, &size));
    tidemill_error *error = read_frames(path, text, size, ret);
    if (error == NULL && !end_of_run(ret)) error = error_memory();
    free(text);
    if (error != NULL) journal_state_free(ret);
    return error;
}

void journal_state_free(struct journal_state *state)
{
    identity_free(&state->identity);
    free((char *)state->commit.output.tail.data);
    free((char *)state->commit.errors.tail.data);
    free(state->deadly);
    free((char *)(uintptr_t)state->plan.decoder);
    buffer_free(&state->first_line);
    buffer_free(&state->plan_line);
    buffer_free(&state->commit_line);
    *state = (struct journal_state){0};
}

/* --- writing -------------------------------------------------------------------------------------- */

struct journal {
    const struct io *io;
    char *path;
    int fd;
    bool has_unsynced;    /* attempts, or what was paid, were written since the last sync */
    uint64_t grown_bytes; /* since it was begun, opened or written anew */
    struct buffer json, line;
    struct buffer first, plan, commit; /* the lines that a journal written anew consists of */
};

static tidemill_error *sync_frames(struct journal *journal)
{
    if (journal->io->fdatasync(journal->io->context, journal->fd) != 0)
        return error_errno(ERROR_IO, errno,
                           "cannot sync %s; what is not synced is not counted as done",
                           journal->path);
    journal->has_unsynced = false;
    return NULL;
}

/* A frame that is synced is written only when all before it are on disk: so a bad line before it is
 * damage and not a torn write. */
static tidemill_error *append_frame(struct journal *journal, bool sync)
{
    struct buffer *line = &journal->line;
    buffer_reset(line, (size_t)1 << 20);
    buffer_printf(line, "%016" PRIx64 " ", hash_checksum(journal->json.data, journal->json.size));
    buffer_append(line, journal->json.data, journal->json.size);
    buffer_byte(line, '\n');
    if (journal->json.is_failed || line->is_failed) return error_memory();
    if (sync && journal->has_unsynced) TRY(sync_frames(journal));
    TRY(io_write_all(journal->io, journal->fd, journal->path, line->data, line->size));
    journal->grown_bytes += line->size;
    journal->has_unsynced = true;
    return sync ? sync_frames(journal) : NULL;
}

static struct buffer *begin_frame(struct journal *journal)
{
    buffer_reset(&journal->json, (size_t)1 << 20);
    return &journal->json;
}

static void keep_line(struct journal *journal, struct buffer *place)
{
    buffer_reset(place, SIZE_MAX);
    buffer_append(place, journal->line.data, journal->line.size);
}

static tidemill_error *write_anew(struct journal *journal, const char *path, int *ret_fd)
{
    const struct buffer *const lines[] = {&journal->first, &journal->plan, &journal->commit};
    const struct io *io = journal->io;
    TRY(io_open(io, path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666, ret_fd));
    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        if (lines[i]->is_failed) return error_memory();
        TRY(io_write_all(io, *ret_fd, path, lines[i]->data, lines[i]->size));
    }
    if (io->fsync(io->context, *ret_fd) != 0)
        return error_errno(ERROR_IO, errno, "cannot sync %s", path);
    return io_publish(io, path, journal->path);
}

/* Only after a commit, so that nothing but old commits is dropped. */
static tidemill_error *compact(struct journal *journal)
{
    int fd = -1;
    char *path;
    if (journal->grown_bytes < JOURNAL_GROWTH_BYTES) return NULL;
    if (asprintf(&path, "%s.new", journal->path) < 0) return error_memory();
    tidemill_error *error = write_anew(journal, path, &fd);
    free(path);
    if (error != NULL) {
        io_close(journal->io, fd);
        return error;
    }
    io_close(journal->io, journal->fd);
    journal->fd = fd;
    journal->grown_bytes = 0;
    return NULL;
}

static tidemill_error *append_identity(struct journal *journal, const struct identity *identity)
{
    struct buffer *json = begin_frame(journal);
    buffer_printf(json, "{\"type\":\"job\",\"version\":%d,\"tidemill\":\"%s\",\"identity\":[",
                  JOURNAL_VERSION, TIDEMILL_VERSION);
    for (size_t i = 0; i < identity->n; i++) {
        buffer_text(json, i == 0 ? "[" : ",[");
        format_json_string(json, identity->parts[i].name, strlen(identity->parts[i].name));
        buffer_byte(json, ',');
        format_json_string(json, identity->parts[i].value, strlen(identity->parts[i].value));
        buffer_byte(json, ']');
    }
    buffer_text(json, "]}");
    TRY(append_frame(journal, true));
    keep_line(journal, &journal->first);
    return NULL;
}

static tidemill_error *prepare(struct journal *journal, const struct journal_state *state,
                               const struct identity *identity)
{
    const struct io *io = journal->io;
    bool is_new = state == NULL || !state->exists;
    TRY(io_open(io, journal->path, O_WRONLY | O_CREAT | O_APPEND, 0666, &journal->fd));
    off_t valid_bytes = is_new ? 0 : (off_t)state->valid_bytes;
    if (io->ftruncate(io->context, journal->fd, valid_bytes) != 0)
        return error_errno(ERROR_IO, errno, "cannot cut %s to its valid part", journal->path);
    if (!is_new) {
        buffer_append(&journal->first, state->first_line.data, state->first_line.size);
        buffer_append(&journal->plan, state->plan_line.data, state->plan_line.size);
        buffer_append(&journal->commit, state->commit_line.data, state->commit_line.size);
        return NULL;
    }
    TRY(append_identity(journal, identity));
    return io_sync_directory(io, journal->path);
}

tidemill_error *journal_open(const struct io *io, const char *path,
                             const struct journal_state *state, const struct identity *identity,
                             struct journal **ret)
{
    struct journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL) return error_memory();
    *journal = (struct journal){.io = io, .fd = -1, .path = strdup(path)};
    tidemill_error *error =
        journal->path == NULL ? error_memory() : prepare(journal, state, identity);
    if (error != NULL) {
        journal_close(journal);
        return error;
    }
    *ret = journal;
    return NULL;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL) return;
    io_close(journal->io, journal->fd);
    buffer_free(&journal->json);
    buffer_free(&journal->line);
    buffer_free(&journal->first);
    buffer_free(&journal->plan);
    buffer_free(&journal->commit);
    free(journal->path);
    free(journal);
}

tidemill_error *journal_append_start(struct journal *journal)
{
    buffer_text(begin_frame(journal), "{\"type\":\"start\"}");
    return append_frame(journal, true);
}

tidemill_error *journal_append_plan(struct journal *journal, const struct journal_plan *plan)
{
    char digest[DIGEST_TEXT_BYTES];
    digest_text(plan->first_chunk, digest);
    buffer_printf(begin_frame(journal), "{\"type\":\"plan\",\"batch\":%u,\"tokens\":[",
                  plan->limits.rows_max);
    for (size_t i = 0; i < PLAN_CLASSES; i++)
        buffer_printf(&journal->json, i == 0 ? "%u" : ",%u", plan->limits.tokens_max[i]);
    buffer_printf(
        &journal->json,
        "],\"call_tokens\":%u,\"padded\":%s,\"batch_from\":\"%s\",\"instances\":%d,\"threads\":%d,"
        "\"parallel_from\":\"%s\",\"dedup\":%s,\"first_chunk\":\"%s\","
        "\"decoder\":",
        plan->limits.call_tokens, plan->limits.is_padded ? "true" : "false",
        tuned_from_name(plan->batch_from), plan->instances, plan->threads,
        tuned_from_name(plan->parallel_from), plan->is_deduped ? "true" : "false", digest);
    const char *decoder = plan->decoder == NULL ? "" : plan->decoder;
    format_json_string(&journal->json, decoder, strlen(decoder));
    buffer_byte(&journal->json, '}');
    TRY(append_frame(journal, true));
    keep_line(journal, &journal->plan);
    return NULL;
}

tidemill_error *journal_append_attempt(struct journal *journal, uint64_t record_index)
{
    buffer_printf(begin_frame(journal), "{\"type\":\"attempt\",\"record\":%" PRIu64 "}",
                  record_index);
    return append_frame(journal, false);
}

static void append_tokens(struct buffer *json, const char *name, const struct token_usage *tokens)
{
    buffer_printf(json, ",\"%s\":[%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", name, tokens->in,
                  tokens->cached, tokens->out);
}

tidemill_error *journal_append_paid(struct journal *journal, const struct token_usage *tokens)
{
    struct buffer *json = begin_frame(journal);
    buffer_text(json, "{\"type\":\"paid\"");
    append_tokens(json, "tokens", tokens);
    buffer_byte(json, '}');
    return append_frame(journal, false);
}

static void append_spool(struct buffer *json, const char *name,
                         const struct spool_position *position)
{
    buffer_printf(json, ",\"%s\":[%" PRIu64 ",%" PRIu64 ",\"", name, position->file_bytes,
                  position->plain_bytes);
    format_base64(json, position->tail.data, position->tail.size);
    buffer_text(json, "\"]");
}

tidemill_error *journal_append_commit(struct journal *journal, const struct journal_commit *commit)
{
    struct buffer *json = begin_frame(journal);
    const struct token_usage *lost = &commit->counts.lost;
    buffer_printf(json,
                  "{\"type\":\"commit\",\"ok\":%" PRIu64 ",\"failed\":%" PRIu64
                  ",\"duplicates\":%" PRIu64 ",\"reused\":%" PRIu64 ",\"cached\":%" PRIu64,
                  commit->counts.ok, commit->counts.failed, commit->counts.duplicates,
                  commit->counts.reused, commit->counts.cached);
    append_tokens(json, "tokens", &commit->counts.tokens);
    if (lost->in > 0 || lost->out > 0) append_tokens(json, "lost", lost);
    buffer_printf(json,
                  ",\"chunk\":[%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 "],\"done_in_chunk\":%" PRIu64,
                  commit->chunk.file, commit->chunk.offset, commit->chunk.line, commit->chunk.index,
                  commit->done_in_chunk);
    append_spool(json, "output", &commit->output);
    append_spool(json, "errors", &commit->errors);
    buffer_printf(json, ",\"wall_s\":%.3f,\"cpu_s\":%.3f}", commit->wall_s, commit->cpu_s);
    TRY(append_frame(journal, true));
    keep_line(journal, &journal->commit);
    return compact(journal);
}

tidemill_error *journal_append_final(struct journal *journal, const struct journal_final *final)
{
    buffer_printf(begin_frame(journal),
                  "{\"type\":\"%s\",\"output_bytes\":%" PRIu64 ",\"errors_bytes\":%" PRIu64 "}",
                  final->is_published ? "published" : "final", final->output_bytes,
                  final->errors_bytes);
    return append_frame(journal, true);
}
