/* SPDX-License-Identifier: Apache-2.0 */
/* store_faults.h - system calls that fail, or kill the process, at the k-th of them. For one test
 * program: it defines write(), pwrite() and so on, so that SQLite's own calls are met as well as ours
 * (the program's symbols come before the C library's).
 *
 * Syncs are counted and not done, unless is_syncing: a kill forgets nothing that the kernel has. */
#ifndef TIDEMILL_TESTS_STORE_FAULTS_H
#define TIDEMILL_TESTS_STORE_FAULTS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define KILLED 77 /* exit status */

enum fault_kind { FAULT_NONE, FAULT_KILL, FAULT_KILL_HALF, FAULT_ONCE, FAULT_FOREVER };
enum fault_call { CALL_WRITE = 1, CALL_SYNC = 2, CALL_NAME = 4 }; /* names: rename, unlink, mkdir */

static struct {
    enum fault_kind kind;
    unsigned calls; /* bits: which count and fail */
    int errnum;
    long at;             /* from 1 */
    atomic_long n;       /* of those that count */
    atomic_bool has_hit; /* the fault has happened */
    atomic_long room;    /* bytes that may still be written; negative: any number */
    atomic_long network; /* statfs says this magic; 0: the truth */
} faults = {.room = -1};

static inline void faults_arm(enum fault_kind kind, unsigned calls, int errnum, long at)
{
    faults.kind = kind;
    faults.calls = calls;
    faults.errnum = errnum;
    faults.at = at;
    faults.n = 0;
    faults.has_hit = false;
}

static inline void faults_disarm(void)
{
    faults.kind = FAULT_NONE;
}

/* 0: the call is to be made. Else the errno with which it fails. */
static int faults_meet(enum fault_call call, bool *ret_half)
{
    *ret_half = false;
    if (faults.kind == FAULT_NONE || (faults.calls & call) == 0) return 0;
    long n = ++faults.n;
    if (n != faults.at && !(faults.kind == FAULT_FOREVER && n > faults.at)) return 0;
    faults.has_hit = true;
    if (faults.kind == FAULT_KILL) _exit(KILLED);
    *ret_half = faults.kind == FAULT_KILL_HALF;
    return *ret_half ? 0 : faults.errnum;
}

/* A disk with little room: what is written again counts again, which is good enough. */
static bool has_room(size_t size)
{
    if (faults.room < 0) return true;
    if ((long)size > faults.room) return false;
    faults.room -= (long)size;
    return true;
}

static ssize_t meet_write(long number, int fd, const void *data, size_t size, off_t offset)
{
    bool is_half;
    if (fd > 2) {
        int errnum = faults_meet(CALL_WRITE, &is_half);
        if (errnum == 0 && !has_room(size)) errnum = ENOSPC;
        if (errnum != 0) {
            errno = errnum;
            return -1;
        }
        if (is_half) {
            syscall(number, fd, data, size / 2, offset);
            _exit(KILLED);
        }
    }
    return syscall(number, fd, data, size, offset);
}

static int meet(enum fault_call call)
{
    bool is_half;
    int errnum = faults_meet(call, &is_half);
    if (is_half) _exit(KILLED);
    if (errnum == 0) return 0;
    errno = errnum;
    return -1;
}

ssize_t write(int fd, const void *data, size_t size)
{
    return meet_write(SYS_write, fd, data, size, 0);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return meet_write(SYS_pwrite64, fd, data, size, offset);
}

int fsync(int fd)
{
    (void)fd;
    return meet(CALL_SYNC);
}

int fdatasync(int fd)
{
    (void)fd;
    return meet(CALL_SYNC);
}

int rename(const char *from, const char *to)
{
    return meet(CALL_NAME) != 0 ? -1 : (int)syscall(SYS_renameat2, -100, from, -100, to, 0);
}

int mkdir(const char *path, mode_t mode)
{
    return meet(CALL_NAME) != 0 ? -1 : (int)syscall(SYS_mkdirat, -100, path, mode);
}

int ftruncate(int fd, off_t size)
{
    return meet(CALL_NAME) != 0 ? -1 : (int)syscall(SYS_ftruncate, fd, size);
}

/* What is removed makes room. */
int unlink(const char *path)
{
    struct stat status;
    bool is_there = stat(path, &status) == 0;
    if (meet(CALL_NAME) != 0) return -1;
    int result = (int)syscall(SYS_unlinkat, -100, path, 0);
    if (result == 0 && is_there && faults.room >= 0) faults.room += status.st_size;
    return result;
}

int statfs(const char *path, struct statfs *status)
{
    int result = (int)syscall(SYS_statfs, path, status);
    if (faults.network != 0) status->f_type = faults.network;
    return result;
}

#endif
