/* SPDX-License-Identifier: Apache-2.0 */
/* serving_model.c - a model's thread: loads its runtime when somebody asks, keeps microbatches under way,
 * and ends the runtime when nobody asked for a while. The thread is the only one that touches the
 * runtime, and lives as long: a host dies with the thread that started it.
 *
 * A microbatch that fails is halved until the call that did it is alone: the others are answered. */
#include "plan/plan.h"
#include "runtime/runtime.h"
#include "server/serving_parts.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#define DONE_MAX 16
#define POLL_MS 1000
#define BYTES_KEPT ((size_t)16 << 20) /* of a slot's pages, between microbatches */
#define LLAMA_SLOTS 64                /* where --parallel is not given */
#define ECHO_SLOTS 16
#define RETRY_S_MIN 0.25
#define RETRY_S_BASE 1.0
#define RETRY_S_MAX 60.0
#define NS_A_S 1e9

/* Address space of a slot: for inputs, for answers. Where it is limited (ulimit -v), less must do. */
static const struct {
    size_t input_bytes, output_bytes;
} generosity[] = {
    {(size_t)256 << 20, (size_t)256 << 20},
    {(size_t)64 << 20, (size_t)64 << 20},
    {(size_t)16 << 20, (size_t)16 << 20},
};

/* --- tickets' ends --------------------------------------------------------------------------------------- */

static void note_started(struct served *m, uint64_t n)
{
    pthread_mutex_lock(&m->mutex);
    m->n_waiting -= n;
    m->stats.waiting = m->n_waiting;
    pthread_mutex_unlock(&m->mutex);
}

static void finish(struct ticket *ticket)
{
    struct serving_call *call = ticket->call;
    ticket_finish(ticket);
    call->done(call);
}

static tidemill_error *copy_error(const tidemill_error *error)
{
    return error_new(error_code_of(error), "%s", error_message(error));
}

/* `n_rows` of the ticket will not be answered. Takes the error. */
static void fail_rows(struct ticket *ticket, uint32_t n_rows, tidemill_error *error)
{
    if (ticket->error == NULL)
        ticket->error = error;
    else
        error_free(error);
    ticket->n_done += n_rows;
    if (ticket->n_done == ticket->n_rows) finish(ticket);
}

static void fail_stack(struct stack *stack, const tidemill_error *error)
{
    for (size_t p = 0; p < stack->n_pieces; p++)
        fail_rows(stack->pieces[p].ticket, stack->pieces[p].n_rows, copy_error(error));
    free(stack);
}

static void fail_stacks(struct stack **list, const tidemill_error *error)
{
    for (struct stack *stack; (stack = *list) != NULL;) {
        *list = stack->next;
        fail_stack(stack, error);
    }
}

static struct ticket *pop(struct served *m)
{
    struct ticket *ticket = m->waiting;
    m->waiting = ticket->next;
    if (m->waiting == NULL) m->waiting_last = &m->waiting;
    return ticket;
}

/* Everybody who waits, and who is under way. */
static void fail_all(struct served *m, const tidemill_error *error)
{
    fail_stacks(&m->running, error);
    fail_stacks(&m->again, error);
    uint64_t n = 0;
    for (; m->waiting != NULL; n++) {
        struct ticket *ticket = pop(m);
        if (ticket->n_rows == 0) ticket->n_rows = 1; /* not even checked */
        fail_rows(ticket, ticket->n_rows - ticket->n_taken, copy_error(error));
    }
    m->n_calls = m->n_batches = m->n_running = 0;
    m->n_rows = 0;
    note_started(m, n);
}

/* --- who asked -------------------------------------------------------------------------------------------- */

/* Takes over what other threads left. False: the end. */
static bool take_asked(struct served *m)
{
    eventfd_t n;
    eventfd_read(m->event_fd, &n);
    pthread_mutex_lock(&m->mutex);
    bool is_stopping = m->is_stopping;
    if (m->asked != NULL) {
        *m->waiting_last = m->asked;
        m->waiting_last = m->asked_last;
        m->asked = NULL;
        m->asked_last = &m->asked;
    }
    pthread_mutex_unlock(&m->mutex);
    return !is_stopping;
}

static struct serving_waiter *take_waiters(struct served *m)
{
    pthread_mutex_lock(&m->mutex);
    struct serving_waiter *waiters = m->waiters;
    for (struct serving_waiter *w = waiters; w != NULL; w = w->next) m->n_waiting--;
    m->stats.waiting = m->n_waiting;
    m->waiters = NULL;
    m->waiters_last = &m->waiters;
    pthread_mutex_unlock(&m->mutex);
    return waiters;
}

/* `error` NULL: it is known now. */
static void answer_waiters(struct served *m, const tidemill_error *error)
{
    struct serving_waiter *waiters = take_waiters(m);
    for (struct serving_waiter *w = waiters, *next; w != NULL; w = next) {
        next = w->next;
        w->error = error == NULL ? NULL : copy_error(error);
        w->signature = error == NULL ? &m->signature->signature : NULL;
        w->description = error == NULL ? m->signature->description : NULL;
        w->ready(w);
    }
}

static bool has_waiters(struct served *m)
{
    pthread_mutex_lock(&m->mutex);
    bool has = m->waiters != NULL;
    pthread_mutex_unlock(&m->mutex);
    return has;
}

/* Checks the tickets that came since. The list keeps those that are right; the checked ones have rows. */
static void admit(struct served *m)
{
    uint64_t n_wrong = 0;
    for (struct ticket **place = &m->waiting, *ticket; (ticket = *place) != NULL;) {
        if (ticket->n_rows == 0) {
            tidemill_error *error = ticket_check(ticket, &m->signature->signature);
            if (error != NULL) {
                *place = ticket->next;
                if (*place == NULL) m->waiting_last = place;
                n_wrong++;
                ticket->n_rows = 1;
                ticket->n_taken = ticket->n_done = 0;
                fail_rows(ticket, 1, error);
                continue;
            }
            m->n_calls++;
            m->n_rows += ticket->n_rows;
        }
        place = &ticket->next;
    }
    if (n_wrong > 0) note_started(m, n_wrong);
}

/* --- loading ------------------------------------------------------------------------------------------------ */

static size_t count_slots(const struct job_spec *spec, int instances)
{
    switch (model_kind(spec->model)) {
    case MODEL_HTTP: return (size_t)spec->inflight_max;
    case MODEL_LLAMA: return spec->parallel > 0 ? 2 * (size_t)spec->parallel : LLAMA_SLOTS;
    case MODEL_ECHO: return MAX(2 * (size_t)instances, (size_t)ECHO_SLOTS);
    default: return 2 * (size_t)instances;
    }
}

static void link_slots(struct served *m)
{
    size_t offset = 0;
    m->free_slots = NULL;
    for (size_t i = 0; i < m->n_slots; i++, offset += m->input_bytes + m->output_bytes) {
        m->slots[i] = (struct serving_slot){.input_offset = offset,
                                            .output_offset = offset + m->input_bytes,
                                            .next = m->free_slots};
        m->free_slots = &m->slots[i];
    }
}

/* Texts of requests to one that takes many at a time are small; servers answer elsewhere. */
static void choose_bytes(struct served *m, size_t level)
{
    enum model_kind kind = model_kind(m->config->spec.model);
    size_t many = generosity[COUNT_OF(generosity) - 1].input_bytes;
    bool takes_many = kind == MODEL_HTTP || kind == MODEL_LLAMA || kind == MODEL_ECHO;
    m->input_bytes = takes_many ? many : generosity[level].input_bytes;
    m->output_bytes = takes_many ? many : generosity[level].output_bytes;
    if (kind == MODEL_HTTP) m->output_bytes = 0;
}

static tidemill_error *reserve(struct served *m, int instances)
{
    m->n_slots = count_slots(&m->config->spec, instances);
    m->slots = calloc(m->n_slots, sizeof *m->slots);
    if (m->slots == NULL) return error_memory();
    tidemill_error *error = NULL;
    for (size_t level = 0; level < COUNT_OF(generosity); level++) {
        error_free(error);
        choose_bytes(m, level);
        error = shared_region_new(m->n_slots * (m->input_bytes + m->output_bytes), &m->region);
        if (error == NULL) break;
    }
    if (error == NULL) link_slots(m);
    return error;
}

static tidemill_error *open_runtime(struct served *m)
{
    const struct job_spec *spec = &m->config->spec;
    bool is_on_cpu = spec->provider == NULL || strncmp(spec->provider, "cpu", 3) == 0;
    struct runtime_options options = job_spec_runtime(spec);
    options.instances_max = (int)MAX(spec->instances, INT64_C(1));
    options.threads = (int)spec->threads;
    if (options.threads == 0)
        options.threads = is_on_cpu ? MAX(machine_cores(m->io) / options.instances_max, 1) : 1;
    options.is_growing = false;
    options.wake_fd = m->stop_fd;
    options.http.is_batch = false;
    options.http.state_beside = NULL;
    TRY(reserve(m, options.instances_max));
    return runtime_open(&options, &m->region, &m->runtime);
}

static void unload(struct served *m)
{
    runtime_close(m->runtime);
    m->runtime = NULL;
    shared_region_free(&m->region);
    m->region = (struct shared_region){.fd = -1};
    free(m->slots);
    m->slots = m->free_slots = NULL;
    pthread_mutex_lock(&m->mutex);
    m->is_loaded = m->stats.is_loaded = false;
    pthread_mutex_unlock(&m->mutex);
}

static bool copy_dim_names(const struct value_spec *from, struct value_spec *to)
{
    for (size_t d = 0; d < TENSOR_RANK_MAX; d++) {
        to->dim_names[d] = from->dim_names[d] == NULL ? NULL : strdup(from->dim_names[d]);
        if (from->dim_names[d] != NULL && to->dim_names[d] == NULL) return false;
    }
    return true;
}

static tidemill_error *copy_specs(const struct value_spec *from, size_t n, struct value_spec **ret,
                                  size_t *ret_n)
{
    *ret = calloc(n + 1, sizeof **ret);
    *ret_n = *ret == NULL ? 0 : n;
    if (*ret == NULL) return error_memory();
    bool is_fine = true;
    for (size_t i = 0; i < n; i++) {
        struct value_spec *to = &(*ret)[i];
        *to = from[i];
        to->name = strdup(from[i].name);
        is_fine &= copy_dim_names(&from[i], to) && to->name != NULL;
    }
    return is_fine ? NULL : error_memory();
}

static tidemill_error *copy_signature(const struct model_signature *from,
                                      struct model_signature *ret)
{
    *ret =
        (struct model_signature){.is_batched = from->is_batched, .batch_fixed = from->batch_fixed};
    TRY(copy_specs(from->inputs, from->n_inputs, &ret->inputs, &ret->n_inputs));
    return copy_specs(from->outputs, from->n_outputs, &ret->outputs, &ret->n_outputs);
}

/* Others may hold an earlier load's signature: each stays until the end. */
static tidemill_error *make_known(struct served *m)
{
    struct known *known = calloc(1, sizeof *known);
    if (known == NULL) return error_memory();
    tidemill_error *error = copy_signature(runtime_signature(m->runtime), &known->signature);
    known->description = strdup(runtime_description(m->runtime));
    if (error == NULL && known->description == NULL) error = error_memory();
    if (error == NULL && known->signature.n_outputs > MODEL_VALUES_MAX)
        error =
            error_new(ERROR_UNSUPPORTED, "the model has more than %d outputs", MODEL_VALUES_MAX);
    if (error != NULL) {
        model_signature_free(&known->signature);
        free(known->description);
        free(known);
        return error;
    }
    pthread_mutex_lock(&m->mutex);
    known->next = m->known;
    m->known = known;
    m->is_loaded = m->stats.is_loaded = true;
    m->is_backing_off = false;
    pthread_mutex_unlock(&m->mutex);
    m->signature = known;
    return NULL;
}

static void set_gather(struct served *m)
{
    const struct model_config *config = m->config;
    const struct model_signature *signature = &m->signature->signature;
    enum model_kind kind = model_kind(config->spec.model);
    uint32_t rows_max = (uint32_t)MIN(MAX(config->max_batch, INT64_C(1)), (int64_t)INT32_MAX);
    if (signature->batch_fixed > 0) rows_max = (uint32_t)signature->batch_fixed;
    m->gather = (struct gather){
        .is_stacking = signature->is_batched && kind != MODEL_HTTP && kind != MODEL_LLAMA,
        .rows_max = rows_max,
        .delay_ns = config->max_delay_us * 1000,
        .hosts = (uint32_t)MAX(config->spec.instances, INT64_C(1)),
        .peak_calls = 1,
    };
}

/* Takes the error: it is what calls get until the next try. */
static void back_off(struct served *m, tidemill_error *error)
{
    double pause_s =
        RETRY_S_MIN + backoff_s(RETRY_S_BASE, RETRY_S_MAX, m->n_failures++, &m->random_state);
    error_free(m->failure);
    m->failure = error_context(error, "model '%s'", m->config->name);
    log_event(LOG_ERROR, "%s; not tried again for %.1f s", error_message(m->failure), pause_s);
    pthread_mutex_lock(&m->mutex);
    m->is_backing_off = true;
    m->retry_ns = clock_now_ns() + (int64_t)(pause_s * NS_A_S);
    pthread_mutex_unlock(&m->mutex);
    unload(m);
    take_asked(m); /* who came meanwhile waited for this one, too */
    fail_all(m, m->failure);
    answer_waiters(m, m->failure);
}

static void load(struct served *m)
{
    int64_t now_ns = clock_now_ns();
    if (m->failure != NULL && now_ns < m->retry_ns) {
        fail_all(m, m->failure);
        answer_waiters(m, m->failure);
        return;
    }
    tidemill_error *error = open_runtime(m);
    if (error == NULL) error = make_known(m);
    if (error_code_of(error) == ERROR_INTERRUPTED) { /* the end is near */
        error_free(error);
        unload(m);
        return;
    }
    if (error != NULL) {
        back_off(m, error);
        return;
    }
    log_event(LOG_INFO, "model '%s' is loaded in %.1f s: %s", m->config->name,
              (double)(clock_now_ns() - now_ns) / NS_A_S, m->signature->description);
    error_free(m->failure);
    m->failure = NULL;
    set_gather(m);
    m->used_ns = clock_now_ns();
}

/* --- microbatches -------------------------------------------------------------------------------------------- */

static void count_batch(struct served *m, const struct stack *stack, uint64_t n_started)
{
    pthread_mutex_lock(&m->mutex);
    m->n_waiting -= n_started;
    m->stats.waiting = m->n_waiting;
    m->stats.batches++;
    m->stats.rows += stack->n_rows;
    pthread_mutex_unlock(&m->mutex);
}

/* The next microbatch that is due. NULL: none, and *ret_due_ns says when one will be. */
static tidemill_error *next_stack(struct served *m, int64_t *ret_due_ns, struct stack **ret)
{
    *ret = m->again;
    *ret_due_ns = INT64_MAX;
    if (m->again != NULL) {
        m->again = m->again->next;
        count_batch(m, *ret, 0);
        return NULL;
    }
    if (m->waiting == NULL) return NULL;
    int64_t due_ns = gather_due_ns(&m->gather, m->n_calls, m->n_rows, m->waiting->came_ns,
                                   m->n_batches, m->n_running);
    *ret_due_ns = due_ns;
    if (due_ns > clock_now_ns()) return NULL;
    gather_note(&m->gather, m->n_calls + m->n_running);
    *ret = gather_take(&m->gather, &m->waiting);
    if (*ret == NULL) return error_memory();
    m->waiting_last = &m->waiting;
    while (*m->waiting_last != NULL) m->waiting_last = &(*m->waiting_last)->next;
    uint32_t n_started = 0;
    for (size_t p = 0; p < (*ret)->n_pieces; p++) {
        const struct ticket *ticket = (*ret)->pieces[p].ticket;
        n_started += ticket->n_taken == ticket->n_rows;
    }
    m->n_calls -= n_started;
    m->n_rows -= (*ret)->n_rows;
    count_batch(m, *ret, n_started);
    return NULL;
}

static void free_slot(struct served *m, struct stack *stack)
{
    if (stack->slot == NULL) return;
    stack->slot->next = m->free_slots;
    m->free_slots = stack->slot;
    stack->slot = NULL;
}

/* Takes the error. */
static void blame(struct served *m, struct stack *stack, tidemill_error *error)
{
    struct stack *left, *right;
    if (stack->n_pieces > 1 && gather_halve(stack, &left, &right)) {
        right->next = m->again;
        left->next = right;
        m->again = left;
        free(stack);
    } else {
        fail_stack(stack, error);
    }
    error_free(error);
}

static tidemill_error *submit(struct served *m, struct stack *stack)
{
    const struct model_signature *signature = &m->signature->signature;
    struct work_input inputs[MODEL_VALUES_MAX];
    stack->slot = m->free_slots;
    m->free_slots = stack->slot->next;
    tidemill_error *error = stack_fill(stack, signature, m->region.base, stack->slot->input_offset,
                                       m->input_bytes, inputs);
    if (error != NULL) { /* together they are too large; or one is */
        free_slot(m, stack);
        blame(m, stack, error);
        return NULL;
    }
    struct runtime_work work = {
        .id = (uint64_t)(uintptr_t)stack,
        .index = m->stats.batches,
        .n_rows = stack->n_rows,
        .inputs = inputs,
        .output_offset = stack->slot->output_offset,
        .output_capacity = m->output_bytes,
    };
    if (signature->batch_fixed > 0) work.n_rows = (uint32_t)signature->batch_fixed;
    stack->next = m->running;
    m->running = stack;
    m->n_batches++;
    m->n_running += (uint32_t)stack->n_pieces;
    return runtime_submit(m->runtime, &work);
}

/* *ret_due_ns: when to look again. */
static tidemill_error *submit_due(struct served *m, int64_t *ret_due_ns)
{
    *ret_due_ns = INT64_MAX;
    while (m->free_slots != NULL && runtime_capacity(m->runtime) > 0) {
        struct stack *stack;
        TRY(next_stack(m, ret_due_ns, &stack));
        if (stack == NULL) return NULL;
        TRY(submit(m, stack));
    }
    *ret_due_ns = INT64_MAX; /* when there is room */
    return NULL;
}

static struct stack *retire(struct served *m, const struct runtime_done *done)
{
    struct stack *stack = (struct stack *)(uintptr_t)done->id, **place = &m->running;
    while (*place != stack) place = &(*place)->next;
    *place = stack->next;
    stack->next = NULL;
    m->n_batches--;
    m->n_running -= (uint32_t)stack->n_pieces;
    return stack;
}

static void trim(struct served *m, const struct stack *stack, const struct runtime_done *done)
{
    size_t used = 0;
    for (size_t i = 0; i < done->n_values; i++) used += done->values[i].bytes;
    if (stack->input_bytes > BYTES_KEPT)
        shared_region_release(&m->region, stack->slot->input_offset, stack->input_bytes);
    if (used > BYTES_KEPT && m->output_bytes > 0)
        shared_region_release(&m->region, stack->slot->output_offset, m->output_bytes);
}

static void answer_piece(struct served *m, const struct piece *piece, uint32_t first,
                         const struct value *values)
{
    const struct model_signature *signature = &m->signature->signature;
    struct ticket *ticket = piece->ticket;
    struct value *cut = NULL;
    tidemill_error *error = cut_rows(values, signature, first, piece->n_rows, &cut);
    if (error == NULL) {
        error = ticket_add_part(ticket, piece->first, piece->n_rows, cut, signature->n_outputs);
        if (error != NULL) free(cut);
    }
    if (error != NULL) {
        fail_rows(ticket, piece->n_rows, error);
        return;
    }
    ticket->n_done += piece->n_rows;
    if (ticket->n_done == ticket->n_rows) finish(ticket);
}

static void answer_stack(struct served *m, struct stack *stack, const struct runtime_done *done)
{
    uint32_t first = 0;
    if (stack->n_pieces == 1) {
        struct token_usage *usage = &stack->pieces[0].ticket->call->usage;
        usage->in += done->usage.in;
        usage->cached += done->usage.cached;
        usage->out += done->usage.out;
    }
    for (size_t p = 0; p < stack->n_pieces; p++) {
        const struct piece piece = stack->pieces[p];
        answer_piece(m, &piece, first, done->values);
        first += piece.n_rows;
    }
}

static void deliver(struct served *m, struct stack *stack, const struct runtime_done *done)
{
    const struct model_signature *signature = &m->signature->signature;
    uint32_t n_rows = signature->batch_fixed > 0 ? (uint32_t)signature->batch_fixed : stack->n_rows;
    tidemill_error *error = NULL;
    if (done->code != ERROR_OK)
        error = error_new(done->code, "%s", done->message);
    else
        error = cut_check(done->values, done->n_values, signature, n_rows);
    if (error == NULL) answer_stack(m, stack, done);
    trim(m, stack, done);
    free_slot(m, stack);
    free(done->values);
    if (error == NULL)
        free(stack);
    else
        blame(m, stack, error);
}

/* --- the loop ------------------------------------------------------------------------------------------------- */

/* A time in the past disarms. */
static void set_timer(struct served *m, int64_t due_ns, int64_t now_ns)
{
    struct itimerspec when = {0};
    if (due_ns > now_ns && due_ns != INT64_MAX) {
        when.it_value.tv_sec = (due_ns - now_ns) / 1000000000;
        when.it_value.tv_nsec = (due_ns - now_ns) % 1000000000;
    }
    timerfd_settime(m->timer_fd, 0, &when, NULL);
}

static bool is_idle(const struct served *m)
{
    return m->waiting == NULL && m->running == NULL && m->again == NULL;
}

/* Milliseconds until an idle model is let go; POLL_MS at most. */
static int idle_ms(const struct served *m, int64_t now_ns)
{
    if (!is_idle(m) || m->config->keep_warm_ms < 0) return POLL_MS;
    int64_t left_ns = m->used_ns + m->config->keep_warm_ms * 1000000 - now_ns;
    return (int)MIN(MAX(left_ns / 1000000 + 1, INT64_C(0)), (int64_t)POLL_MS);
}

static bool is_cold(struct served *m, int64_t now_ns)
{
    return m->config->keep_warm_ms >= 0 && is_idle(m) &&
           now_ns - m->used_ns >= m->config->keep_warm_ms * 1000000;
}

static tidemill_error *step(struct served *m)
{
    struct runtime_done done[DONE_MAX];
    struct stack *stacks[DONE_MAX];
    size_t n = 0;
    int64_t due_ns, now_ns;
    TRY(submit_due(m, &due_ns));
    now_ns = clock_now_ns();
    bool has_timer = due_ns != INT64_MAX;
    if (has_timer) set_timer(m, due_ns, now_ns);
    if (!is_idle(m)) m->used_ns = now_ns;
    TRY(runtime_poll(m->runtime, idle_ms(m, now_ns), m->wake_fd, done, DONE_MAX, &n));
    if (has_timer) set_timer(m, 0, 0);
    if (n == 0) return NULL;
    for (size_t i = 0; i < n; i++) stacks[i] = retire(m, &done[i]);
    tidemill_error *error = submit_due(m, &due_ns); /* the host works while answers are written */
    for (size_t i = 0; i < n; i++) deliver(m, stacks[i], &done[i]);
    m->used_ns = clock_now_ns();
    return error;
}

/* Whether it was replaced, and nobody is left who asked. */
static bool is_over(struct served *m)
{
    pthread_mutex_lock(&m->mutex);
    bool is_over = m->is_retired && m->asked == NULL && m->waiters == NULL;
    pthread_mutex_unlock(&m->mutex);
    return is_over && is_idle(m);
}

static void sleep_until_asked(struct served *m)
{
    struct pollfd item = {.fd = m->wake_fd, .events = POLLIN};
    poll(&item, 1, -1);
}

static void run_loaded(struct served *m)
{
    admit(m);
    answer_waiters(m, NULL);
    tidemill_error *error = step(m);
    if (error != NULL)
        back_off(m, error);
    else if (is_cold(m, clock_now_ns()) && !has_waiters(m)) {
        log_event(LOG_INFO, "model '%s' is let go: nobody asked for it", m->config->name);
        unload(m);
    }
}

/* Until the stop, who still has its name from before may ask; the runtime is loaded again then. */
static void end_early(struct served *m)
{
    if (m->runtime != NULL) unload(m);
    sleep_until_asked(m);
}

void *served_run(void *argument)
{
    struct served *m = argument;
    while (take_asked(m)) {
        if (is_over(m))
            end_early(m);
        else if (m->runtime != NULL)
            run_loaded(m);
        else if (m->waiting != NULL || has_waiters(m))
            load(m);
        else
            sleep_until_asked(m);
    }
    tidemill_error *error = error_new(ERROR_INTERRUPTED, "the server is stopping; try again");
    unload(m);
    fail_all(m, error);
    answer_waiters(m, error);
    error_free(error);
    error_free(m->failure);
    m->failure = NULL;
    return NULL;
}
