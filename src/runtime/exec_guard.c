/* SPDX-License-Identifier: Apache-2.0 */
/* exec_guard.c - a process that outlives its host for a moment, to kill what a handler started.
 *
 * A host is ended by SIGKILL and can clean up nothing. The guard waits at a pipe that only the host
 * holds, and is the leader of the handler's process group: while it lives, the group's number cannot
 * pass to others. It holds nothing else open, so that nobody waits for it. */
#include "runtime/exec.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FDS_MAX 4096 /* where the system cannot close all at once */

static void close_from(int first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0U, 0U) == 0) return;
#endif
    for (int fd = first; fd < FDS_MAX; fd++) close(fd);
}

/* After fork: only what a process with threads may do there. */
static void guard_group(int fd)
{
    char byte;
    setpgid(0, 0);
    prctl(PR_SET_NAME, "tidemill-guard");
    for (int number = 1; number < SIGRTMIN; number++) signal(number, SIG_IGN);
    if (dup2(fd, 0) != 0) _exit(1);
    close_from(1);
    while (read(0, &byte, 1) < 0 && errno == EINTR) {
    }
    kill(0, SIGKILL);
    _exit(0);
}

pid_t exec_start_guard(const int fds[2])
{
    pid_t pid = fork();
    if (pid == 0) guard_group(fds[0]);
    if (pid > 0) setpgid(pid, pid); /* whoever is first */
    return pid;
}

void exec_end_guard(pid_t guard, int fd)
{
    if (fd >= 0) close(fd);
    if (guard <= 0) return;
    kill(-guard, SIGKILL);
    while (waitpid(guard, NULL, 0) < 0 && errno == EINTR) {
    }
}
