/* SPDX-License-Identifier: Apache-2.0 */
/* timer.c - the wheel of deadlines. */
#include "net/timer.h"

#include <stddef.h>
#include <string.h>

void wheel_init(struct wheel *wheel, int64_t now_ms)
{
    memset(wheel, 0, sizeof *wheel);
    wheel->tick = now_ms / WHEEL_TICK_MS;
}

void timer_init(struct timer *timer)
{
    *timer = (struct timer){.deadline_ms = TIMER_NEVER, .tick = -1};
}

void wheel_remove(struct wheel *wheel, struct timer *timer)
{
    if (timer->tick < 0) return;
    size_t slot = (size_t)timer->tick % WHEEL_SLOTS;
    if (timer->previous != NULL)
        timer->previous->next = timer->next;
    else
        wheel->slots[slot] = timer->next;
    if (timer->next != NULL) timer->next->previous = timer->previous;
    if (wheel->slots[slot] == NULL) wheel->used[slot / 64] &= ~(1ull << slot % 64);
    timer->previous = timer->next = NULL;
    timer->tick = -1;
}

static void hang(struct wheel *wheel, struct timer *timer, int64_t tick)
{
    size_t slot = (size_t)tick % WHEEL_SLOTS;
    timer->tick = tick;
    timer->previous = NULL;
    timer->next = wheel->slots[slot];
    if (timer->next != NULL) timer->next->previous = timer;
    wheel->slots[slot] = timer;
    wheel->used[slot / 64] |= 1ull << slot % 64;
}

/* The first tick at whose beginning the deadline has passed, no further away than the wheel reaches. */
static int64_t tick_of(const struct wheel *wheel, int64_t deadline_ms)
{
    int64_t last = wheel->tick + WHEEL_SLOTS - 1;
    int64_t tick = deadline_ms / WHEEL_TICK_MS + 1;
    if (tick > last) return last;
    return tick <= wheel->tick ? wheel->tick + 1 : tick;
}

void wheel_set(struct wheel *wheel, struct timer *timer, int64_t deadline_ms)
{
    timer->deadline_ms = deadline_ms;
    if (deadline_ms == TIMER_NEVER) return;
    int64_t tick = tick_of(wheel, deadline_ms);
    if (timer->tick >= 0 && timer->tick <= tick) return;
    wheel_remove(wheel, timer);
    hang(wheel, timer, tick);
}

struct timer *wheel_expired(struct wheel *wheel, int64_t now_ms)
{
    int64_t now = now_ms / WHEEL_TICK_MS;
    while (wheel->tick <= now) {
        struct timer *timer = wheel->slots[(size_t)wheel->tick % WHEEL_SLOTS];
        if (timer == NULL) {
            if (wheel->tick == now) return NULL;
            wheel->tick++;
            continue;
        }
        wheel_remove(wheel, timer);
        if (timer->deadline_ms <= now_ms) return timer;
        if (timer->deadline_ms != TIMER_NEVER)
            hang(wheel, timer, tick_of(wheel, timer->deadline_ms));
    }
    return NULL;
}

int wheel_wait_ms(const struct wheel *wheel, int64_t now_ms)
{
    for (int64_t i = 0; i < WHEEL_SLOTS; i++) {
        int64_t tick = wheel->tick + i;
        size_t slot = (size_t)tick % WHEEL_SLOTS;
        uint64_t rest = wheel->used[slot / 64] >> slot % 64;
        if (rest == 0) { /* nothing up to the end of this word */
            i += 63 - (int64_t)(slot % 64);
            continue;
        }
        tick += __builtin_ctzll(rest);
        int64_t wait = tick * WHEEL_TICK_MS - now_ms;
        return wait < 0 ? 0 : (int)wait;
    }
    return -1;
}
