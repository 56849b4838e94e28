/* SPDX-License-Identifier: Apache-2.0 */
/* exec_exchange.c - one frame to a handler and one from it, in both directions at once: a handler that
 * answers before it has read all would wait for us, and we for it. It is watched meanwhile, as others may
 * hold its end of a pipe when it is gone (workers that it has forked), and so no end would come. */
#include "runtime/exec.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 << 10)
#define LOOK_MS 100 /* between looks at a handler that has no pidfd */

struct exchange {
    struct exec_process *process;
    const struct buffer *request;
    size_t sent;
    struct buffer *reply;
    size_t bytes_max;
    unsigned char head[sizeof(uint32_t)];
    size_t head_size; /* bytes of it that are here */
    uint32_t length;
    size_t dropped; /* bytes of a payload larger than bytes_max: read, as another frame follows */
    bool has_ended; /* no more bytes will come */
};

static bool has_head(const struct exchange *x)
{
    return x->head_size == sizeof x->head;
}

static bool is_whole(const struct exchange *x)
{
    return has_head(x) && x->reply->size + x->dropped == x->length;
}

/* False: there is nothing to read now. */
static bool read_some(struct exchange *x, void *place, size_t size, size_t *ret_size)
{
    ssize_t n;
    do n = read(x->process->out, place, size);
    while (n < 0 && errno == EINTR);
    *ret_size = (size_t)MAX(n, (ssize_t)0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) x->has_ended = true;
    return n > 0;
}

static tidemill_error *take_length(struct exchange *x)
{
    memcpy(&x->length, x->head, sizeof x->length);
    if (x->length > EXEC_FRAME_BYTES_MAX)
        return error_new(ERROR_HOST_CRASHED, "the handler sent a frame of %u bytes, more than %zu",
                         x->length, EXEC_FRAME_BYTES_MAX);
    return NULL;
}

/* Room grows with what has come, not with what was announced. */
static tidemill_error *receive(struct exchange *x)
{
    size_t n;
    while (!is_whole(x)) {
        if (!has_head(x)) {
            if (!read_some(x, x->head + x->head_size, sizeof x->head - x->head_size, &n)) break;
            x->head_size += n;
            if (has_head(x)) TRY(take_length(x));
            continue;
        }
        size_t left = x->length - x->reply->size - x->dropped;
        char *place = buffer_reserve(x->reply, READ_BYTES);
        if (place == NULL) return error_memory();
        if (!read_some(x, place, MIN(left, READ_BYTES), &n)) break;
        if (x->length > x->bytes_max)
            x->dropped += n;
        else
            x->reply->size += n;
    }
    return NULL;
}

static bool is_sending(const struct exchange *x)
{
    return x->request != NULL && x->sent < x->request->size && x->process->in >= 0;
}

/* A handler that has closed its input may still say something, or how it ended is known soon. */
static void send_some(struct exchange *x)
{
    while (is_sending(x)) {
        ssize_t n = write(x->process->in, x->request->data + x->sent, x->request->size - x->sent);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) {
            close(x->process->in);
            x->process->in = -1;
        }
        if (n <= 0) return;
        x->sent += (size_t)n;
    }
}

static void wait_for_either(struct exchange *x)
{
    struct pollfd items[] = {
        {.fd = x->process->out, .events = POLLIN},
        {.fd = x->process->pidfd, .events = POLLIN},
        {.fd = is_sending(x) ? x->process->in : -1, .events = POLLOUT},
    };
    poll(items, COUNT_OF(items), LOOK_MS);
}

static tidemill_error *check_whole(const struct exchange *x)
{
    if (!is_whole(x))
        return error_new(ERROR_HOST_CRASHED, "the handler ended%s",
                         x->head_size > 0 ? " in the middle of a frame" : "");
    if (x->request != NULL && x->sent < x->request->size)
        return error_new(ERROR_HOST_CRASHED,
                         "the handler answered before it had read all that it was asked");
    if (x->length > x->bytes_max)
        return error_new(ERROR_OUTPUT_TOO_LARGE,
                         "the handler's answer has %u bytes; there is room for %zu", x->length,
                         x->bytes_max);
    return NULL;
}

tidemill_error *exec_exchange(struct exec_process *process, const struct buffer *request,
                              size_t bytes_max, struct buffer *ret)
{
    struct exchange x = {
        .process = process, .request = request, .reply = ret, .bytes_max = bytes_max};
    ret->size = 0;
    while (!is_whole(&x) && !x.has_ended) {
        wait_for_either(&x);
        bool is_gone = exec_has_ended(process); /* before the last look at what it left */
        send_some(&x);
        TRY(receive(&x));
        if (is_gone) break;
    }
    return check_whole(&x);
}
