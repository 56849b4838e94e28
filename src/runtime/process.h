/* SPDX-License-Identifier: Apache-2.0 */
/* process.h - a host as the operating system sees it: started, watched, killed, reaped, measured.
 * Or a thread that plays one. */
#ifndef TIDEMILL_RUNTIME_PROCESS_H
#define TIDEMILL_RUNTIME_PROCESS_H

#include "base/base.h"

#include <pthread.h>
#include <sys/types.h>

struct host_thread;

struct process {
    int fd;    /* the engine's end of the socket pair */
    pid_t pid; /* 0: a thread */
    int pidfd; /* -1: none to be had, or a thread */
    struct host_thread *thread;
};

#define PROCESS_NONE ((struct process){.fd = -1, .pidfd = -1})

struct process_end {
    double cpu_s;
    bool is_signalled;
    int status; /* exit status, or the signal's number; -1: unknown */
};

/* The binary to start: `given`, $TIDEMILL_BINARY, this very one if it is tidemill, or "tidemill" to
 * be looked for in PATH. */
tidemill_error *process_find_program(const char *given, char *path, size_t size);

/* Starts `program host --fd 3 --parent PID` with standard input from /dev/null, standard output joined
 * to standard error, no other descriptor, no signal blocked but those a terminal sends, and without
 * environment variables that look like secrets. */
tidemill_error *process_start(const char *program, struct process *ret);
tidemill_error *process_start_thread(struct process *ret);

void process_kill(struct process *process);
/* Waits until it is over, at most timeout_ms (-1: for ever), and frees what belongs to it. False: it
 * is not over. */
bool process_reap(struct process *process, int timeout_ms, struct process_end *ret);
/* Forgets one that was killed and does not end: a process that the kernel holds, which will not run
 * again, or a thread in a call that cannot be cancelled, whose memory stays. */
void process_abandon(struct process *process);
/* "killed by SIGSEGV", "exited with status 0" */
void process_end_text(const struct process_end *end, char *text, size_t size);

/* This process's variables but those that look like secrets. One block; the strings are borrowed. NULL: no
 * memory. */
char **process_environment(void);

double process_cpu_s(const struct process *process);
/* Resident now, and at most so far; 0 where unknown. Threads: 0, they are part of the engine. */
void process_memory(const struct process *process, uint64_t *ret_now, uint64_t *ret_peak);

#endif
