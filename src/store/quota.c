/* SPDX-License-Identifier: Apache-2.0 */
/* quota.c - a quota that is used up is a full disk: SQLite tells the one from the other and takes a quota
 * for a disk that is failing. Its table of system calls is changed once, for the whole process: writes
 * that fail with EDQUOT fail with ENOSPC. */
#include "store/parts.h"

#include <errno.h>
#include <unistd.h>

static ssize_t as_full(ssize_t count)
{
    if (count < 0 && errno == EDQUOT) errno = ENOSPC;
    return count;
}

static ssize_t write_or_full(int fd, const void *data, size_t size)
{
    return as_full(write(fd, data, size));
}

static ssize_t pwrite_or_full(int fd, const void *data, size_t size, off_t offset)
{
    return as_full(pwrite(fd, data, size, offset));
}

static void change_calls(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
    if (vfs == NULL || vfs->iVersion < 3) return;
    vfs->xSetSystemCall(vfs, "write", (sqlite3_syscall_ptr)write_or_full);
    vfs->xSetSystemCall(vfs, "pwrite", (sqlite3_syscall_ptr)pwrite_or_full);
    vfs->xSetSystemCall(vfs, "pwrite64", (sqlite3_syscall_ptr)pwrite_or_full);
}

void quota_is_full_disk(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, change_calls);
}
