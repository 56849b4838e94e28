/* SPDX-License-Identifier: Apache-2.0 */
/* places.c - the folders of a store, names that may be paths, and what is removed from them. */
#include "store/parts.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TREE_DEPTH_MAX 8

/* Magic numbers of statfs(2) and of the kernel's linux/magic.h. */
static const struct {
    unsigned magic;
    const char *name;
} network_file_systems[] = {
    {0x6969, "NFS"},        {0x517b, "SMB"},      {0xfe534d42, "SMB"},    {0xff534d42, "CIFS"},
    {0x0bd00bd0, "Lustre"}, {0x5346414f, "AFS"},  {0x00c36400, "Ceph"},   {0x47504653, "GPFS"},
    {0x01021997, "9P"},     {0x73757245, "Coda"}, {0x19830326, "BeeGFS"},
};

static tidemill_error *refuse_network(const char *path)
{
    struct statfs status;
    if (statfs(path, &status) != 0)
        return error_errno(ERROR_IO, errno, "cannot look at the file system of %s", path);
    for (size_t i = 0; i < COUNT_OF(network_file_systems); i++)
        if ((unsigned)status.f_type == network_file_systems[i].magic)
            return error_new(ERROR_UNSUPPORTED,
                             "%s is on a network file system (%s), where a server's store is not "
                             "safe; name a folder on a disk of this machine",
                             path, network_file_systems[i].name);
    return NULL;
}

static tidemill_error *join(const char *path, const char *folder, const char *name, char **ret)
{
    struct buffer text = {0};
    buffer_printf(&text, "%s/%s%s%s", path, folder, name == NULL ? "" : "/",
                  name == NULL ? "" : name);
    buffer_byte(&text, '\0');
    *ret = text.data;
    if (!text.is_failed) return NULL;
    buffer_free(&text);
    return error_memory();
}

tidemill_error *place_path(const struct store *store, const char *folder, const char *name,
                           char **ret)
{
    return join(store->path, folder, name, ret);
}

tidemill_error *places_prepare(const struct io *io, const char *path)
{
    static const char *const folders[] = {"files", "windows", "jobs"};
    TRY(io_make_directory(io, path, 0700));
    TRY(refuse_network(path));
    for (size_t i = 0; i < COUNT_OF(folders); i++) {
        char *folder;
        TRY(join(path, folders[i], NULL, &folder));
        tidemill_error *error = io_make_directory(io, folder, 0700);
        if (error == NULL && i + 1 == COUNT_OF(folders)) error = io_sync_directory(io, folder);
        free(folder);
        TRY(error);
    }
    return io_sync_directory(io, path);
}

/* --- names -------------------------------------------------------------------------------------- */

static bool has_only(const char *text, const char *more, size_t size_max)
{
    size_t n = 0;
    for (; text[n] != '\0'; n++) {
        char c = text[n];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_plain && strchr(more, c) == NULL) return false;
    }
    return n > 0 && n < size_max;
}

bool is_id(const char *id)
{
    return has_only(id, "-_", STORE_ID_BYTES);
}

bool is_name(const char *name)
{
    return name != NULL && has_only(name, "._-", STORE_NAME_BYTES);
}

/* --- removing ------------------------------------------------------------------------------------- */

static void remove_entry(struct store *store, const char *path, const char *name, int depth);

static void remove_tree(struct store *store, const char *path, int depth)
{
    DIR *folder = opendir(path);
    if (folder == NULL) return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            remove_entry(store, path, entry->d_name, depth);
    closedir(folder);
    (void)rmdir(path);
}

/* unlink says of a folder that it is one; a link to one is only unlinked. */
static void remove_entry(struct store *store, const char *path, const char *name, int depth)
{
    char *entry;
    tidemill_error *error = join(path, name, NULL, &entry);
    if (error != NULL) {
        error_free(error);
        return;
    }
    if (store->io->unlink(store->io->context, entry) != 0 && (errno == EISDIR || errno == EPERM) &&
        depth < TREE_DEPTH_MAX)
        remove_tree(store, entry, depth + 1);
    free(entry);
}

void place_remove_tree(struct store *store, const char *path)
{
    remove_tree(store, path, 0);
}
