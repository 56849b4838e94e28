/* SPDX-License-Identifier: Apache-2.0 */
/* timer.h - deadlines of many connections: a wheel of slots. Moving a deadline further away, which is
 * what happens with every request, costs an assignment; the timer is looked at again when its old slot
 * comes round. */
#ifndef TIDEMILL_NET_TIMER_H
#define TIDEMILL_NET_TIMER_H

#include <stdint.h>

#define WHEEL_SLOTS 512
#define WHEEL_TICK_MS 64
#define TIMER_NEVER INT64_MAX

struct timer {
    struct timer *previous, *next;
    int64_t deadline_ms;
    int64_t tick; /* of the slot it hangs in; -1: none */
};

struct wheel {
    struct timer *slots[WHEEL_SLOTS];
    uint64_t used[WHEEL_SLOTS / 64];
    int64_t tick; /* up to which all was looked at */
};

void wheel_init(struct wheel *wheel, int64_t now_ms);
void timer_init(struct timer *timer);
void wheel_set(struct wheel *wheel, struct timer *timer, int64_t deadline_ms);
void wheel_remove(struct wheel *wheel, struct timer *timer);
/* Takes out one timer whose time has come; NULL: no more. */
struct timer *wheel_expired(struct wheel *wheel, int64_t now_ms);
int wheel_wait_ms(const struct wheel *wheel,
                  int64_t now_ms); /* until there may be one; -1: never */

#endif
