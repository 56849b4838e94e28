/* SPDX-License-Identifier: Apache-2.0 */
/* stop.c - how a signal handler reaches a running engine: a flag and an eventfd. */
#include "job/job.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

tidemill_error *job_stop_init(struct job_stop *stop)
{
    stop->is_asked = 0;
    stop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    stop->cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (stop->wake_fd >= 0 && stop->cancel_fd >= 0) return NULL;
    tidemill_error *error = error_errno(ERROR_IO, errno, "cannot make an eventfd");
    job_stop_fini(stop);
    return error;
}

void job_stop_wake(struct job_stop *stop)
{
    eventfd_write(stop->wake_fd, 1);
}

void job_stop_ask(struct job_stop *stop)
{
    stop->is_asked = 1;
    job_stop_cancel_reads(stop);
    job_stop_wake(stop);
}

void job_stop_cancel_reads(struct job_stop *stop)
{
    eventfd_write(stop->cancel_fd, 1);
}

void job_stop_drain(struct job_stop *stop)
{
    eventfd_t count;
    eventfd_read(stop->wake_fd, &count);
}

void job_stop_reset(struct job_stop *stop)
{
    eventfd_t count;
    stop->is_asked = 0;
    eventfd_read(stop->wake_fd, &count);
    eventfd_read(stop->cancel_fd, &count);
}

void job_stop_fini(struct job_stop *stop)
{
    if (stop->wake_fd >= 0) close(stop->wake_fd);
    if (stop->cancel_fd >= 0) close(stop->cancel_fd);
    stop->wake_fd = stop->cancel_fd = -1;
}
