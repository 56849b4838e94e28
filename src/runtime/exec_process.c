/* SPDX-License-Identifier: Apache-2.0 */
/* exec_process.c - the program: started, spoken to, ended; what it prints goes to the log.
 *
 * It ends with its host: PR_SET_PDEATHSIG. It leads a process group, so that what it started is killed
 * with it, unless its host is killed first: then that is its own business. */
#include "runtime/exec.h"

#include "runtime/process.h"
#include "runtime/wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD_IN 3
#define CHILD_OUT 4
#define LINE_BYTES_MAX 500
#define LINES_MAX 200 /* told in LINES_S */
#define LINES_S 10.0
/* What a handler that ends has left to do: then it is killed. */
#define END_MS 2000

/* --- what it prints ------------------------------------------------------------------------------------ */

struct log_state {
    double window_s;
    unsigned told, hidden;
};

static void tell(struct log_state *state, char *line)
{
    double now_s = clock_now_s();
    if (now_s - state->window_s > LINES_S) {
        if (state->hidden > 0) log_event(LOG_INFO, "handler: (%u more lines)", state->hidden);
        *state = (struct log_state){.window_s = now_s};
    }
    wire_clean_text(line, strlen(line) + 1);
    if (line[0] == '\0') return;
    if (state->told++ < LINES_MAX)
        log_event(LOG_INFO, "handler: %s", line);
    else
        state->hidden++;
}

/* Until everybody who has the other end has closed it. */
static void *copy_lines(void *argument)
{
    FILE *file = fdopen((int)(intptr_t)argument, "r");
    char line[LINE_BYTES_MAX];
    struct log_state state = {.window_s = clock_now_s()};
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        tell(&state, line);
    }
    if (state.hidden > 0) log_event(LOG_INFO, "handler: (%u more lines)", state.hidden);
    if (file != NULL) fclose(file);
    return NULL;
}

/* --- starting ------------------------------------------------------------------------------------------ */

struct pipes {
    int in[2], out[2], log[2], error[2]; /* reading end, writing end */
};

static void close_pipes(struct pipes *pipes)
{
    for (int *fd = pipes->in; fd < pipes->in + 2; fd++)
        if (*fd >= 0) close(*fd);
    for (int *fd = pipes->out; fd < pipes->out + 2; fd++)
        if (*fd >= 0) close(*fd);
    for (int *fd = pipes->log; fd < pipes->log + 2; fd++)
        if (*fd >= 0) close(*fd);
    for (int *fd = pipes->error; fd < pipes->error + 2; fd++)
        if (*fd >= 0) close(*fd);
}

/* A descriptor that no dup2 of the child's will hit. */
static bool open_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    for (int i = 0; i < 2; i++) {
        if (ends[i] > CHILD_OUT) continue;
        int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, CHILD_OUT + 1);
        if (moved < 0) return false;
        close(ends[i]);
        ends[i] = moved;
    }
    return true;
}

static bool open_pipes(struct pipes *pipes)
{
    *pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    return open_pipe(pipes->in) && open_pipe(pipes->out) && open_pipe(pipes->log) &&
           open_pipe(pipes->error);
}

static void fail_child(int fd)
{
    int errnum = errno;
    ssize_t written = write(fd, &errnum, sizeof errnum);
    (void)written;
    _exit(127);
}

/* Between fork and exec: only what a process with threads may do there. */
static void run_child(char *const *arguments, const struct pipes *pipes, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127); /* it died before the line above */
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bool is_fine = null >= 0 && dup2(null, 0) == 0 && dup2(pipes->log[1], 1) == 1 &&
                   dup2(pipes->log[1], 2) == 2 && dup2(pipes->in[0], CHILD_IN) == CHILD_IN &&
                   dup2(pipes->out[1], CHILD_OUT) == CHILD_OUT;
    if (is_fine) execvp(arguments[0], arguments);
    fail_child(pipes->error[1]);
}

static tidemill_error *fork_child(char *const *arguments, struct pipes *pipes, pid_t *ret)
{
    int errnum = 0;
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) return error_errno(ERROR_MODEL_LOAD, errno, "cannot start %s", arguments[0]);
    if (pid == 0) run_child(arguments, pipes, parent);
    setpgid(pid, pid); /* whoever is first */
    close(pipes->error[1]);
    pipes->error[1] = -1;
    ssize_t size = read(pipes->error[0], &errnum, sizeof errnum); /* its end: exec closed it */
    if (size == (ssize_t)sizeof errnum) {
        waitpid(pid, NULL, 0);
        return error_errno(ERROR_MODEL_LOAD, errnum, "cannot start '%s'", arguments[0]);
    }
    *ret = pid;
    return NULL;
}

tidemill_error *exec_start(char *const *arguments, struct exec_process *ret)
{
    struct pipes pipes;
    *ret = (struct exec_process){.in = -1, .out = -1};
    tidemill_error *error = NULL;
    setenv("TIDEMILL_EXEC_IN", "3", 1);
    setenv("TIDEMILL_EXEC_OUT", "4", 1);
    if (!open_pipes(&pipes))
        error = error_errno(ERROR_MODEL_LOAD, errno, "cannot make pipes for %s", arguments[0]);
    if (error == NULL) error = fork_child(arguments, &pipes, &ret->pid);
    if (error == NULL) {
        ret->in = pipes.in[1];
        ret->out = pipes.out[0];
        pipes.in[1] = pipes.out[0] = -1;
        ret->has_log_thread =
            pthread_create(&ret->log_thread, NULL, copy_lines, (void *)(intptr_t)pipes.log[0]) == 0;
        if (ret->has_log_thread) pipes.log[0] = -1;
    }
    close_pipes(&pipes);
    return error;
}

/* --- frames --------------------------------------------------------------------------------------------- */

tidemill_error *exec_send(struct exec_process *process, const struct buffer *frame)
{
    for (size_t sent = 0; sent < frame->size;) {
        ssize_t size = write(process->in, frame->data + sent, frame->size - sent);
        if (size < 0 && errno != EINTR)
            return error_new(ERROR_HOST_CRASHED, "the handler stopped reading");
        sent += (size_t)MAX(size, (ssize_t)0);
    }
    return NULL;
}

static bool read_whole(int fd, void *data, size_t size)
{
    for (size_t got = 0; got < size;) {
        ssize_t n = read(fd, (char *)data + got, size - got);
        if (n == 0 || (n < 0 && errno != EINTR)) return false;
        got += (size_t)MAX(n, (ssize_t)0);
    }
    return true;
}

tidemill_error *exec_receive(struct exec_process *process, size_t bytes_max, struct buffer *ret)
{
    uint32_t length;
    ret->size = 0;
    if (!read_whole(process->out, &length, sizeof length))
        return error_new(ERROR_HOST_CRASHED, "the handler ended");
    if (length > bytes_max)
        return error_new(ERROR_HOST_CRASHED, "the handler sent a frame of %u bytes, more than %zu",
                         length, bytes_max);
    char *place = buffer_reserve(ret, (size_t)length + 1);
    if (place == NULL) return error_memory();
    if (!read_whole(process->out, place, length))
        return error_new(ERROR_HOST_CRASHED, "the handler ended in the middle of a frame");
    ret->size = length;
    return NULL;
}

/* --- ending ------------------------------------------------------------------------------------------------ */

void exec_kill(const struct exec_process *process)
{
    if (process->pid > 0) kill(-process->pid, SIGKILL);
}

/* Its end by itself, as far as that comes soon. */
static bool wait_child(pid_t pid, int wait_ms, int *status)
{
    struct timespec pause = {.tv_nsec = 5000000};
    for (int64_t end_ns = clock_now_ns() + (int64_t)wait_ms * 1000000;;) {
        pid_t found = waitpid(pid, status, WNOHANG);
        if (found == pid || (found < 0 && errno != EINTR)) return true;
        if (clock_now_ns() >= end_ns) return false;
        nanosleep(&pause, NULL);
    }
}

void exec_stop(struct exec_process *process, char *text, size_t size)
{
    int status = 0;
    if (text != NULL) text[0] = '\0';
    if (process->in >= 0) close(process->in); /* a handler ends when it has nothing more to read */
    if (process->out >= 0) close(process->out);
    process->in = process->out = -1;
    if (process->pid > 0) {
        bool has_ended = wait_child(process->pid, END_MS, &status);
        kill(-process->pid, SIGKILL);
        if (!has_ended) waitpid(process->pid, &status, 0);
        struct process_end end = {.is_signalled = WIFSIGNALED(status),
                                  .status =
                                      WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)};
        if (text != NULL) process_end_text(&end, text, size);
    }
    process->pid = 0;
    if (process->has_log_thread) pthread_join(process->log_thread, NULL);
    process->has_log_thread = false;
}

void exec_usage(const struct exec_process *process, double *ret_cpu_s, uint64_t *ret_memory)
{
    uint64_t peak;
    struct process other = PROCESS_NONE;
    other.pid = process->pid;
    *ret_cpu_s = process_cpu_s(&other);
    process_memory(&other, ret_memory, &peak);
}
