/* SPDX-License-Identifier: Apache-2.0 */
/* process.c - starts hosts with posix_spawn, so that the engine's memory need not be copied, and ends
 * them by SIGKILL: they keep no state. */
#include "runtime/process.h"

#include "runtime/host.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define HOST_FD 3

struct host_thread {
    pthread_t id;
    int fd;
    struct host_control control;
};

tidemill_error *process_find_program(const char *given, char *path, size_t size)
{
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[MAX(length, 0)] = '\0';
    const char *base = strrchr(self, '/');
    const char *choice = given != NULL ? given : getenv("TIDEMILL_BINARY");
    if (choice == NULL || *choice == '\0')
        choice = base != NULL && strcmp(base, "/tidemill") == 0 ? "/proc/self/exe" : "tidemill";
    if (strlen(choice) >= size)
        return error_new(ERROR_USAGE, "the path of the tidemill binary is too long");
    memcpy(path, choice, strlen(choice) + 1);
    return NULL;
}

/* Hosts run foreign code on foreign models: they get no keys. */
static bool is_secret(const char *variable)
{
    static const char *const words[] = {"SECRET",     "TOKEN",       "PASSWORD", "PASSWD",
                                        "PASSPHRASE", "CREDENTIAL",  "_KEY",     "_PROXY",
                                        "_DSN",       "DATABASE_URL"};
    const char *end = strchr(variable, '=');
    if (end == NULL) return false;
    char name[256];
    size_t length = MIN((size_t)(end - variable), sizeof name - 1);
    memcpy(name, variable, length);
    name[length] = '\0';
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcasestr(name, words[i]) != NULL) return true;
    return false;
}

char **process_environment(void)
{
    size_t count = 0, kept = 0;
    while (environ != NULL && environ[count] != NULL) count++;
    char **variables = calloc(count + 1, sizeof *variables);
    if (variables == NULL) return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_secret(environ[i])) variables[kept++] = environ[i];
    return variables;
}

/* Signals from a terminal stay blocked until the host has decided to ignore them. */
static int set_signals(posix_spawnattr_t *attributes)
{
    sigset_t mask, defaults;
    sigemptyset(&mask);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    sigaddset(&mask, SIGQUIT);
    sigfillset(&defaults);
    sigdelset(&defaults, SIGKILL);
    sigdelset(&defaults, SIGSTOP);
    int r = posix_spawnattr_setsigmask(attributes, &mask);
    if (r == 0) r = posix_spawnattr_setsigdefault(attributes, &defaults);
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    return r != 0 ? r : posix_spawnattr_setflags(attributes, flags);
}

static int set_files(posix_spawn_file_actions_t *actions, int fd)
{
    bool has_stderr = fcntl(STDERR_FILENO, F_GETFD) >= 0;
    int r = posix_spawn_file_actions_adddup2(actions, fd, HOST_FD);
    if (r == 0) r = posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0);
    if (r == 0)
        r = has_stderr ? posix_spawn_file_actions_adddup2(actions, 2, 1)
                       : posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0);
    if (r == 0 && !has_stderr) r = posix_spawn_file_actions_adddup2(actions, 1, 2);
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 34)
    if (r == 0) r = posix_spawn_file_actions_addclosefrom_np(actions, HOST_FD + 1);
#endif
    return r;
}

static int spawn(const char *program, int fd, pid_t *ret)
{
    char fd_text[16], parent[16];
    snprintf(fd_text, sizeof fd_text, "%d", HOST_FD);
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    char name[] = "tidemill", host[] = "host", fd_option[] = "--fd", parent_option[] = "--parent";
    char *const arguments[] = {name, host, fd_option, fd_text, parent_option, parent, NULL};
    char **environment = process_environment();
    if (environment == NULL) return ENOMEM;

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int r = posix_spawn_file_actions_init(&actions);
    if (r != 0) goto free_environment;
    r = posix_spawnattr_init(&attributes);
    if (r != 0) goto free_actions;
    r = set_signals(&attributes);
    if (r == 0) r = set_files(&actions, fd);
    if (r == 0) r = posix_spawnp(ret, program, &actions, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
free_actions:
    posix_spawn_file_actions_destroy(&actions);
free_environment:
    free(environment);
    return r;
}

static tidemill_error *make_pair(int pair[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_errno(ERROR_IO, errno, "cannot make a socket for a model process");
    /* A descriptor below 4 could be overwritten on its way into the host. */
    for (int i = 0; i < 2; i++) {
        if (pair[i] > HOST_FD) continue;
        int moved = fcntl(pair[i], F_DUPFD_CLOEXEC, HOST_FD + 1);
        if (moved < 0) continue;
        close(pair[i]);
        pair[i] = moved;
    }
    return NULL;
}

tidemill_error *process_start(const char *program, struct process *ret)
{
    int pair[2];
    *ret = PROCESS_NONE;
    TRY(make_pair(pair));
    int r = spawn(program, pair[1], &ret->pid);
    close(pair[1]);
    if (r != 0) {
        close(pair[0]);
        ret->pid = 0;
        return error_errno(ERROR_HOST_FAILED, r,
                           "cannot start a model process with '%s' (set TIDEMILL_BINARY to the "
                           "path of the tidemill command)",
                           program);
    }
    ret->fd = pair[0];
    ret->pidfd = (int)syscall(SYS_pidfd_open, ret->pid, 0);
    return NULL;
}

static void *run_thread(void *argument)
{
    struct host_thread *thread = argument;
    pthread_setname_np(pthread_self(), "tidemill-host");
    host_serve(thread->fd, false, &thread->control);
    close(thread->fd); /* the engine sees the end of the socket */
    return NULL;
}

tidemill_error *process_start_thread(struct process *ret)
{
    int pair[2];
    *ret = PROCESS_NONE;
    struct host_thread *thread = calloc(1, sizeof *thread);
    if (thread == NULL) return error_memory();
    tidemill_error *error = make_pair(pair);
    if (error != NULL) {
        free(thread);
        return error;
    }
    thread->fd = pair[1];
    pthread_mutex_init(&thread->control.mutex, NULL);
    int r = pthread_create(&thread->id, NULL, run_thread, thread);
    if (r != 0) {
        close(pair[0]);
        close(pair[1]);
        free(thread);
        return error_errno(ERROR_HOST_FAILED, r, "cannot start a thread for the model");
    }
    ret->fd = pair[0];
    ret->thread = thread;
    return NULL;
}

void process_kill(struct process *process)
{
    if (process->thread != NULL) {
        shutdown(process->fd, SHUT_RDWR);
        host_cancel(&process->thread->control);
    } else if (process->pid > 0) {
        kill(process->pid, SIGKILL); /* ours until reaped: the number cannot belong to another */
    }
}

static bool reap_thread(struct process *process, int timeout_ms, struct process_end *ret)
{
    struct host_thread *thread = process->thread;
    struct timespec until;
    int r;
    if (timeout_ms < 0) {
        r = pthread_join(thread->id, NULL);
    } else {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += timeout_ms % 1000 * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        double cpu_s = process_cpu_s(process);
        r = pthread_timedjoin_np(thread->id, NULL, &until);
        ret->cpu_s = cpu_s;
    }
    if (r != 0) return false;
    pthread_mutex_destroy(&thread->control.mutex);
    free(thread);
    return true;
}

/* Without a pidfd there is nothing to wait on: looks again every few milliseconds. */
static pid_t wait_child(const struct process *process, int timeout_ms, int *status,
                        struct rusage *usage)
{
    int64_t end_ns = clock_now_ns() + (int64_t)timeout_ms * 1000000;
    for (;;) {
        pid_t pid = wait4(process->pid, status, timeout_ms < 0 ? 0 : WNOHANG, usage);
        if (pid > 0 || (pid < 0 && errno != EINTR)) return pid;
        int64_t left_ms = (end_ns - clock_now_ns() + 999999) / 1000000;
        if (pid == 0 && left_ms <= 0) return 0;
        struct pollfd item = {.fd = process->pidfd, .events = POLLIN};
        if (pid == 0) poll(&item, 1, process->pidfd >= 0 ? (int)left_ms : (int)MIN(left_ms, 5));
    }
}

bool process_reap(struct process *process, int timeout_ms, struct process_end *ret)
{
    *ret = (struct process_end){.status = -1};
    if (process->thread != NULL) {
        if (!reap_thread(process, timeout_ms, ret)) return false;
    } else if (process->pid > 0) {
        int status = 0;
        struct rusage usage = {0};
        pid_t pid = wait_child(process, timeout_ms, &status, &usage);
        if (pid == 0) return false;
        if (pid > 0) {
            ret->is_signalled = WIFSIGNALED(status);
            ret->status = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
            ret->cpu_s = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
        }
    }
    process->thread = NULL;
    process_abandon(process);
    return true;
}

void process_abandon(struct process *process)
{
    if (process->fd >= 0) close(process->fd);
    if (process->pidfd >= 0) close(process->pidfd);
    if (process->thread != NULL) pthread_detach(process->thread->id);
    *process = PROCESS_NONE;
}

void process_end_text(const struct process_end *end, char *text, size_t size)
{
    static const struct {
        int number;
        const char *text;
    } names[] = {
        {SIGSEGV, "SIGSEGV"}, {SIGABRT, "SIGABRT"},
        {SIGBUS, "SIGBUS"},   {SIGILL, "SIGILL"},
        {SIGFPE, "SIGFPE"},   {SIGTRAP, "SIGTRAP"},
        {SIGSYS, "SIGSYS"},   {SIGTERM, "SIGTERM"},
        {SIGXCPU, "SIGXCPU"}, {SIGPIPE, "SIGPIPE"},
        {SIGXFSZ, "SIGXFSZ"}, {SIGKILL, "SIGKILL (as the system does when memory runs out)"},
    };
    if (end->status < 0)
        snprintf(text, size, "ended");
    else if (!end->is_signalled)
        snprintf(text, size, "exited with status %d", end->status);
    else
        snprintf(text, size, "killed by signal %d", end->status);
    for (size_t i = 0; i < COUNT_OF(names) && end->is_signalled; i++)
        if (names[i].number == end->status) snprintf(text, size, "killed by %s", names[i].text);
}

double process_cpu_s(const struct process *process)
{
    clockid_t clock;
    struct timespec time;
    int r = process->thread != NULL ? pthread_getcpuclockid(process->thread->id, &clock)
            : process->pid > 0      ? clock_getcpuclockid(process->pid, &clock)
                                    : ESRCH;
    if (r != 0 || clock_gettime(clock, &time) != 0) return 0;
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static uint64_t read_kib(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line == NULL ? 0 : strtoull(line + strlen(name), NULL, 10) * 1024;
}

void process_memory(const struct process *process, uint64_t *ret_now, uint64_t *ret_peak)
{
    char path[64], text[4096];
    *ret_now = *ret_peak = 0;
    if (process->pid <= 0) return;
    snprintf(path, sizeof path, "/proc/%d/status", (int)process->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[MAX(size, 0)] = '\0';
    *ret_now = read_kib(text, "\nVmRSS:");
    *ret_peak = read_kib(text, "\nVmHWM:");
}
