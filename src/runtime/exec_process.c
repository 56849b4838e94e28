/* SPDX-License-Identifier: Apache-2.0 */
/* exec_process.c - starts a handler and ends it, with everything that it started itself.
 *
 *     this process ---- handler (leads a process group) ---- its own children (in the group)
 *          |
 *          +----------- keeper: waits for the end of a pipe that only this process holds, then kills
 *                       the group
 *
 * The handler dies with the thread that started it (PR_SET_PDEATHSIG); the keeper is for its children,
 * which such a signal does not reach. Both work where this process is killed by SIGKILL. Out of reach is
 * only what leaves the group by setsid. fork, as posix_spawn has no way to ask for that signal: between
 * fork and exec only what POSIX calls async-signal-safe is done. */
#include "runtime/exec.h"
#include "runtime/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define IN_FD 3 /* the handler's numbers */
#define OUT_FD 4
#define FD_MIN 10 /* ours, so that putting them at their places overwrites none */
#define PIPE_BYTES (1 << 20)

enum { PIPE_IN, PIPE_OUT, PIPE_LOG, PIPE_EXEC, PIPE_KEEPER, PIPE_COUNT };

struct pipes {
    int fds[PIPE_COUNT][2]; /* -1: closed, or handed on */
};

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void close_pipes(struct pipes *pipes)
{
    for (size_t i = 0; i < PIPE_COUNT; i++)
        for (size_t k = 0; k < 2; k++) close_fd(&pipes->fds[i][k]);
}

static int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

static tidemill_error *open_pipes(struct pipes *pipes)
{
    memset(pipes, -1, sizeof *pipes);
    for (size_t i = 0; i < PIPE_COUNT; i++) {
        if (pipe2(pipes->fds[i], O_CLOEXEC) != 0)
            return error_errno(ERROR_HOST_FAILED, errno, "cannot make a pipe");
        for (size_t k = 0; k < 2; k++) {
            int moved = fcntl(pipes->fds[i][k], F_DUPFD_CLOEXEC, FD_MIN);
            if (moved < 0) return error_errno(ERROR_HOST_FAILED, errno, "cannot make a pipe");
            close(pipes->fds[i][k]);
            pipes->fds[i][k] = moved;
        }
    }
    /* A wish: where it is not granted, more calls move the same bytes. */
    (void)fcntl(pipes->fds[PIPE_IN][1], F_SETPIPE_SZ, PIPE_BYTES);
    (void)fcntl(pipes->fds[PIPE_OUT][1], F_SETPIPE_SZ, PIPE_BYTES);
    return NULL;
}

/* In the children. */

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int i = 1; i < NSIG; i++) signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_from(unsigned first)
{
#ifdef SYS_close_range
    if (syscall(SYS_close_range, first, ~0U, 0) == 0) return;
#endif
    for (unsigned fd = first; fd < 1024; fd++) close((int)fd);
}

static _Noreturn void become_handler(const struct pipes *pipes, char *const *words,
                                     char *const *environment, pid_t parent)
{
    int exec_fd = pipes->fds[PIPE_EXEC][1];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127); /* it ended before the line above */
    setpgid(0, 0);
    reset_signals();
    int null = open("/dev/null", O_RDWR);
    if (null < 0 || dup2(null, 0) < 0 || dup2(pipes->fds[PIPE_LOG][1], 1) < 0 ||
        dup2(pipes->fds[PIPE_LOG][1], 2) < 0 || dup2(pipes->fds[PIPE_IN][0], IN_FD) < 0 ||
        dup2(pipes->fds[PIPE_OUT][1], OUT_FD) < 0)
        goto fail;
    if (dup2(exec_fd, OUT_FD + 1) < 0 || fcntl(OUT_FD + 1, F_SETFD, FD_CLOEXEC) != 0) goto fail;
    exec_fd = OUT_FD + 1;
    close_from(OUT_FD + 2);
    execvpe(words[0], words, environment);
fail:;
    int problem = errno;
    ssize_t written = write(exec_fd, &problem, sizeof problem);
    (void)written;
    _exit(127);
}

static _Noreturn void become_keeper(int fd, pid_t group)
{
    char byte;
    setsid(); /* out of reach of what is sent to the engine's group */
    prctl(PR_SET_NAME, "tidemill-keeper");
    if (dup2(fd, 0) < 0) _exit(1);
    close_from(1);
    for (;;) {
        ssize_t n = read(0, &byte, 1);
        if (n == 1) _exit(0); /* the group is gone */
        if (n == 0 || errno != EINTR) break;
    }
    kill(-group, SIGKILL);
    _exit(0);
}

/* --- starting --- */

/* The host's environment, which has no secrets in it, and where the descriptors are. One block, whose
 * strings are borrowed. */
static char **make_environment(void)
{
    static char in_text[] = "TIDEMILL_EXEC_IN=3", out_text[] = "TIDEMILL_EXEC_OUT=4";
    char **kept = process_environment();
    size_t n = 0;
    if (kept == NULL) return NULL;
    while (kept[n] != NULL) n++;
    char **all = realloc(kept, (n + 3) * sizeof *all);
    if (all == NULL) {
        free(kept);
        return NULL;
    }
    all[n] = in_text;
    all[n + 1] = out_text;
    all[n + 2] = NULL;
    return all;
}

static tidemill_error *fork_handler(struct pipes *pipes, char *const *words,
                                    struct exec_process *process)
{
    char **environment = make_environment();
    pid_t self = getpid();
    if (environment == NULL) return error_memory();
    pid_t pid = fork();
    if (pid == 0) become_handler(pipes, words, environment, self);
    int r = errno;
    free(environment);
    if (pid < 0) return error_errno(ERROR_HOST_FAILED, r, "cannot start another process");
    process->pid = pid;
    setpgid(pid, pid); /* whichever of the two comes first */
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return NULL;
}

static tidemill_error *fork_keeper(struct pipes *pipes, struct exec_process *process)
{
    pid_t group = process->pid, pid = fork();
    if (pid == 0) become_keeper(pipes->fds[PIPE_KEEPER][0], group);
    if (pid < 0) return error_errno(ERROR_HOST_FAILED, errno, "cannot start another process");
    process->keeper = pid;
    process->keeper_fd = take_fd(&pipes->fds[PIPE_KEEPER][1]);
    return NULL;
}

/* The pipe ends without a word when exec has closed it. */
static tidemill_error *wait_for_exec(struct pipes *pipes, const char *program)
{
    int problem = 0;
    ssize_t n;
    close_fd(&pipes->fds[PIPE_EXEC][1]);
    do n = read(pipes->fds[PIPE_EXEC][0], &problem, sizeof problem);
    while (n < 0 && errno == EINTR);
    if (n != sizeof problem) return NULL;
    return error_errno(ERROR_MODEL_LOAD, problem, "cannot run the handler '%s'", program);
}

static tidemill_error *start(struct pipes *pipes, char *const *words, struct exec_process *process)
{
    TRY(open_pipes(pipes));
    TRY(fork_handler(pipes, words, process));
    TRY(fork_keeper(pipes, process));
    process->in = take_fd(&pipes->fds[PIPE_IN][1]);
    process->out = take_fd(&pipes->fds[PIPE_OUT][0]);
    fcntl(process->in, F_SETFL, O_NONBLOCK);
    fcntl(process->out, F_SETFL, O_NONBLOCK);
    close_fd(&pipes->fds[PIPE_IN][0]);
    close_fd(&pipes->fds[PIPE_OUT][1]);
    close_fd(&pipes->fds[PIPE_LOG][1]);
    TRY(wait_for_exec(pipes, words[0]));
    return exec_log_start(take_fd(&pipes->fds[PIPE_LOG][0]), &process->log);
}

tidemill_error *exec_start(char *const *words, struct exec_process *ret)
{
    struct pipes pipes;
    *ret = EXEC_PROCESS_NONE;
    tidemill_error *error = start(&pipes, words, ret);
    close_pipes(&pipes);
    if (error != NULL) exec_stop(ret, 0, NULL, 0);
    return error;
}

/* Ending. It is reaped last: until then its number, and so its group's, cannot be another's. */

bool exec_has_ended(const struct exec_process *process)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid != 0;
}

static void end_text(const siginfo_t *info, char *text, size_t size)
{
    struct process_end end = {.is_signalled = info->si_code != CLD_EXITED,
                              .status = info->si_status};
    process_end_text(&end, text, size);
}

static void wait_for_end(const struct exec_process *process, int patience_ms, char *text,
                         size_t size)
{
    int64_t until_ns = clock_now_ns() + (int64_t)patience_ms * 1000000;
    while (!exec_has_ended(process)) {
        if (clock_now_ns() >= until_ns) return;
        poll(NULL, 0, 2);
    }
    siginfo_t info = {0};
    if (text != NULL && waitid(P_PID, (id_t)process->pid, &info, WEXITED | WNOWAIT) == 0)
        end_text(&info, text, size);
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
}

void exec_stop(struct exec_process *process, int patience_ms, char *text, size_t size)
{
    if (size > 0) text[0] = '\0';
    if (process->pid > 0) {
        wait_for_end(process, patience_ms, text, size);
        kill(-process->pid, SIGKILL);
        kill(process->pid, SIGKILL);
    }
    if (process->keeper > 0) {
        ssize_t written = write(process->keeper_fd, "", 1);
        (void)written;
    }
    exec_log_stop(&process->log);
    if (process->keeper > 0) reap(process->keeper);
    if (process->pid > 0) reap(process->pid);
    close_fd(&process->keeper_fd);
    close_fd(&process->pidfd);
    close_fd(&process->in);
    close_fd(&process->out);
    *process = EXEC_PROCESS_NONE;
}

void exec_kill(const struct exec_process *process)
{
    if (process->pid > 0) kill(-process->pid, SIGKILL);
}

void exec_usage(const struct exec_process *process, double *ret_cpu_s, uint64_t *ret_memory)
{
    uint64_t peak;
    struct process other = PROCESS_NONE;
    other.pid = process->pid;
    *ret_cpu_s = process_cpu_s(&other);
    process_memory(&other, ret_memory, &peak);
}
