/* SPDX-License-Identifier: Apache-2.0 */
/* nth_malloc.c - to be preloaded: the nth allocation of the process fails, once or from then on.
 *
 * TIDEMILL_FAIL_MALLOC=17 or 17+ . When it has struck, the file TIDEMILL_FAIL_MARK is made. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

static atomic_long n_calls;
static long nth;
static bool is_for_ever;

__attribute__((constructor)) static void read_order(void)
{
    const char *text = getenv("TIDEMILL_FAIL_MALLOC");
    if (text == NULL) return;
    nth = strtol(text, NULL, 10);
    is_for_ever = strchr(text, '+') != NULL;
    atomic_store(&n_calls, 0);
}

static bool must_fail(void)
{
    if (nth == 0) return false;
    long call = atomic_fetch_add(&n_calls, 1) + 1;
    if (call != nth && !(is_for_ever && call > nth)) return false;
    const char *mark = getenv("TIDEMILL_FAIL_MARK");
    if (mark != NULL && call == nth) close(open(mark, O_CREAT | O_WRONLY, 0600));
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return must_fail() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return must_fail() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    return must_fail() ? NULL : __libc_realloc(memory, size);
}
