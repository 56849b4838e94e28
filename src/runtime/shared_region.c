/* SPDX-License-Identifier: Apache-2.0 */
/* shared_region.c - anonymous memory that engine and hosts map alike.
 *
 * A memfd has no name, so nothing is left behind in /dev/shm whoever dies, and nobody can open it who
 * was not given the descriptor. Sealed at its size, a host cannot shrink it under the engine's feet
 * (that would be a SIGBUS here). */
#include "runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static tidemill_error *region_failed(struct shared_region *region, size_t size)
{
    tidemill_error *error =
        error_errno(ERROR_IO, errno, "cannot make %zu bytes of shared memory", size);
    shared_region_free(region);
    return error;
}

tidemill_error *shared_region_new(size_t size, struct shared_region *ret)
{
    *ret = (struct shared_region){.fd = -1};
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (size == 0) size = page;
    if (size > PTRDIFF_MAX - page) return error_memory();
    size = (size + page - 1) / page * page;

    struct shared_region region = {.fd = memfd_create("tidemill", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
    if (region.fd < 0) return region_failed(&region, size);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if (ftruncate(region.fd, (off_t)size) != 0 || fcntl(region.fd, F_ADD_SEALS, seals) != 0)
        return region_failed(&region, size);
    /* Pages are made when touched: no reservation for the whole of it. */
    int flags = MAP_SHARED | MAP_NORESERVE;
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, region.fd, 0);
    if (base == MAP_FAILED) return region_failed(&region, size);
    region.base = base;
    region.size = size;
    *ret = region;
    return NULL;
}

void shared_region_release(const struct shared_region *region, size_t offset, size_t size)
{
    if (region->fd < 0 || offset > region->size || size > region->size - offset || size == 0)
        return;
    /* Only whole pages can go; zero the ragged ends by hand through the same call. */
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    (void)fallocate(region->fd, mode, (off_t)offset, (off_t)size);
}

void shared_region_free(struct shared_region *region)
{
    if (region->base != NULL) {
        munmap(region->base, region->size);
        close(region->fd); /* a region with a mapping has a descriptor, be it 0 */
    } else if (region->fd > 0) {
        close(region->fd);
    }
    *region = (struct shared_region){.fd = -1};
}
