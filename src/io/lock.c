/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c - one process a job, by a file that only one can create; also on network file systems.
 *
 * The file's content is
 *
 *     host=NAME       /proc/sys/kernel/hostname
 *     pid=NUMBER
 *     start=NUMBER    field 22 of /proc/PID/stat: a new process with an old pid has another
 *     boot=UUID       /proc/sys/kernel/random/boot_id: after a reboot every pid is another's
 *     since=TIME      UTC, for people
 *
 * It is stale if this host wrote it and the boot or the start differs or the process is gone; and
 * if it is not whole after LOCK_WRITE_S seconds (its writer was killed in between). Of another host
 * we know nothing: only a person can tell, and is told which file to remove.
 *
 * Taking over must not remove the lock of somebody who took over a moment before. So only the
 * holder of the lock "<path>.takeover" may remove a stale file, and looks again before it does:
 * then the file that it judged is the file that it removes, for its owner is dead and nobody else
 * may touch it. That second lock is taken by the same rules, and so on: each further level needs a
 * process that died within the few microseconds of a takeover.
 *
 * A writer that was stopped between creating and writing may lose its file meanwhile. So it reads
 * back what the path holds before it believes that it has the lock; and if it was slow enough that
 * somebody may just now be removing the file, it lets that happen first (SETTLE_S). */
#include "io/explain.h"
#include "io/io.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOCK_TEXT_MAX ((size_t)1024) /* a longer file is not ours */
#define LOCK_WRITE_S 10              /* a file that is not whole after this was left by a kill */
#define SETTLE_S 2
#define UNKNOWN "unknown" /* what could not be read is not compared */
#define WAIT_MS 20
#define WAIT_COUNT ((LOCK_WRITE_S + 2) * 1000 / WAIT_MS)
#define BRIEF_COUNT 25 /* for the right to take over, which is held for microseconds */
#define TAKEOVER_DEPTH 8
#define TAKEOVER_SUFFIX ".takeover"

struct file_lock {
    const struct io *io;
    char *path;
    char text[LOCK_TEXT_MAX]; /* what the file holds while it is ours */
};

struct holder {
    char host[256];
    char boot[64];
    char since[64];
    long long pid;
    unsigned long long start;
};

enum verdict { VERDICT_HELD, VERDICT_STALE, VERDICT_YOUNG, VERDICT_GONE };

/* --- who we are ------------------------------------------------------------------------------- */

/* First line of a small file of /proc; "" where there is none. */
static void read_line(const struct io *io, const char *path, char *line, size_t size)
{
    char *data = NULL;
    size_t data_size = 0;
    line[0] = '\0';
    tidemill_error *error = io_read_file(io, path, 4096, &data, &data_size);
    if (error == NULL) snprintf(line, size, "%.*s", (int)strcspn(data, "\n"), data);
    error_free(error);
    free(data);
}

/* Field 22 of /proc/PID/stat; the second field, the program's name, may hold anything up to its
 * last parenthesis. 0: there is no such process or no /proc. *ret_is_zombie: it is dead, its parent
 * has not asked for it yet (for ever, in a container without an init). */
static unsigned long long read_start(const struct io *io, long long pid, bool *ret_is_zombie)
{
    char path[64], line[2048];
    snprintf(path, sizeof path, "/proc/%lld/stat", pid);
    read_line(io, path, line, sizeof line);
    const char *next = strrchr(line, ')');
    *ret_is_zombie = next != NULL && next[1] == ' ' && (next[2] == 'Z' || next[2] == 'X');
    for (int field = 2; next != NULL && field < 22; field++) next = strchr(next + 1, ' ');
    return next == NULL ? 0 : strtoull(next, NULL, 10);
}

static void describe_self(const struct io *io, struct holder *self)
{
    read_line(io, "/proc/sys/kernel/hostname", self->host, sizeof self->host);
    if (self->host[0] == '\0') {
        if (gethostname(self->host, sizeof self->host) != 0) {
            snprintf(self->host, sizeof self->host, UNKNOWN);
        }
        self->host[sizeof self->host - 1] = '\0';
    }
    read_line(io, "/proc/sys/kernel/random/boot_id", self->boot, sizeof self->boot);
    if (self->boot[0] == '\0') snprintf(self->boot, sizeof self->boot, UNKNOWN);
    self->pid = getpid();
    bool is_zombie;
    self->start = read_start(io, self->pid, &is_zombie);
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(self->since, sizeof self->since, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

static void format_holder(const struct holder *holder, char text[LOCK_TEXT_MAX])
{
    snprintf(text, LOCK_TEXT_MAX, "host=%s\npid=%lld\nstart=%llu\nboot=%s\nsince=%s\n",
             holder->host, holder->pid, holder->start, holder->boot, holder->since);
}

/* Only a whole file counts: the last line must have its end. */
static bool parse_holder(const char *text, struct holder *ret)
{
    int end = 0;
    int count =
        sscanf(text, "host=%255[^\n]\npid=%lld\nstart=%llu\nboot=%63[^\n]\nsince=%63[^\n]%n",
               ret->host, &ret->pid, &ret->start, ret->boot, ret->since, &end);
    return count == 5 && strcmp(text + end, "\n") == 0 && ret->pid > 0;
}

/* --- who they are ----------------------------------------------------------------------------- */

/* In doubt, alive: refusing costs a message, taking a live one's lock costs the job. */
static bool is_alive(const struct io *io, const struct holder *holder)
{
    bool is_zombie = false;
    unsigned long long start = read_start(io, holder->pid, &is_zombie);
    if (is_zombie) return false;
    if (start != 0) return holder->start == 0 || start == holder->start;
    /* Without /proc, or where it hides the processes of others, the signal tells. */
    return holder->pid <= INT32_MAX && (kill((pid_t)holder->pid, 0) == 0 || errno == EPERM);
}

static bool is_other_boot(const struct holder *self, const struct holder *holder)
{
    return strcmp(holder->boot, self->boot) != 0 && strcmp(holder->boot, UNKNOWN) != 0 &&
           strcmp(self->boot, UNKNOWN) != 0;
}

/* The age of a file that is not whole decides; by the wall clock, for the file may be on a
 * server. */
static tidemill_error *judge_age(const struct io *io, const char *path, enum verdict *ret)
{
    struct stat status;
    if (io->stat(io->context, path, &status) != 0) {
        if (errno != ENOENT) return io_explain(ERROR_IO, errno, "stat", path);
        *ret = VERDICT_GONE;
        return NULL;
    }
    *ret = time(NULL) - status.st_mtime > LOCK_WRITE_S ? VERDICT_STALE : VERDICT_YOUNG;
    return NULL;
}

/* The file's text with a NUL behind it; a file that is not there gives an empty one, *ret_size
 * SIZE_MAX. */
static tidemill_error *read_lock_file(const struct io *io, const char *path,
                                      char text[LOCK_TEXT_MAX], size_t *ret_size)
{
    text[0] = '\0';
    *ret_size = SIZE_MAX;
    int fd = io->open(io->context, path, O_RDONLY, 0);
    if (fd < 0) return errno == ENOENT ? NULL : io_explain(ERROR_IO, errno, "read", path);
    size_t size = 0;
    tidemill_error *error = io_read_all(io, fd, path, text, LOCK_TEXT_MAX - 1, &size);
    io_close(io, fd);
    if (error != NULL) return error;
    text[size] = '\0';
    *ret_size = size;
    return NULL;
}

/* Reads the lock file and says what it means; `holder` is set where it is HELD. */
static tidemill_error *judge(const struct io *io, const char *path, const struct holder *self,
                             struct holder *holder, enum verdict *ret)
{
    char text[LOCK_TEXT_MAX];
    size_t size = 0;
    TRY(read_lock_file(io, path, text, &size));
    if (size == SIZE_MAX) {
        *ret = VERDICT_GONE;
        return NULL;
    }
    if (strlen(text) != size || !parse_holder(text, holder)) return judge_age(io, path, ret);
    bool is_stale = strcmp(holder->host, self->host) == 0 &&
                    (is_other_boot(self, holder) || !is_alive(io, holder));
    *ret = is_stale ? VERDICT_STALE : VERDICT_HELD;
    return NULL;
}

static tidemill_error *describe_held(const char *path, const struct holder *self,
                                     const struct holder *holder)
{
    if (strcmp(holder->host, self->host) == 0) {
        return error_new(
            ERROR_LOCKED,
            "another process runs this job: pid %lld on %s, since %s (%s); wait for it "
            "or stop it",
            holder->pid, holder->host, holder->since, path);
    }
    return error_new(
        ERROR_LOCKED,
        "another process runs this job: pid %lld on %s, since %s; if it is dead, remove "
        "%s (from %s this cannot be told)",
        holder->pid, holder->host, holder->since, path, self->host);
}

/* --- taking ----------------------------------------------------------------------------------- */

/* Whether `path` holds what we wrote. */
static tidemill_error *check_ours(const struct file_lock *lock, bool *ret_is_ours)
{
    char text[LOCK_TEXT_MAX];
    size_t size = 0;
    TRY(read_lock_file(lock->io, lock->path, text, &size));
    *ret_is_ours = size == strlen(lock->text) && memcmp(text, lock->text, size) == 0;
    return NULL;
}

/* Seconds, suspended time included. */
static int64_t now_s(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec;
}

/* Nobody takes a file for stale within LOCK_WRITE_S; whole before half of that, it is safe. The
 * sync comes last: it may be slow, and after a crash the lock is stale anyway. */
static tidemill_error *write_lock(const struct file_lock *lock, int fd, int64_t created_s,
                                  bool *ret_is_taken)
{
    const struct io *io = lock->io;
    TRY(io_write_all(io, fd, lock->path, lock->text, strlen(lock->text)));
    if (now_s() - created_s > LOCK_WRITE_S / 2) nanosleep(&(struct timespec){SETTLE_S, 0}, NULL);
    TRY(check_ours(lock, ret_is_taken));
    if (!*ret_is_taken || io->fsync(io->context, fd) == 0) return NULL;
    return io_explain(ERROR_IO, errno, "sync", lock->path);
}

/* Creates the file if nobody has; *ret_is_taken tells. */
static tidemill_error *try_create(const struct file_lock *lock, bool *ret_is_taken)
{
    const struct io *io = lock->io;
    *ret_is_taken = false;
    int64_t created_s = now_s();
    int fd = io->open(io->context, lock->path, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd < 0 && errno == EEXIST) return NULL;
    if (fd < 0) return io_explain(ERROR_IO, errno, "write", lock->path);
    tidemill_error *error = write_lock(lock, fd, created_s, ret_is_taken);
    io_close(io, fd);
    if (error != NULL) (void)io->unlink(io->context, lock->path);
    return error;
}

static tidemill_error *take(const struct io *io, const char *path, int depth,
                            struct file_lock **ret);

/* `path` with `level` suffixes, malloc'ed; NULL when out of memory. */
static char *takeover_path_of(const char *path, int level)
{
    size_t suffix_size = sizeof TAKEOVER_SUFFIX - 1;
    size_t size = strlen(path);
    char *result = malloc(size + suffix_size * (size_t)level + 1);
    if (result == NULL) return NULL;
    memcpy(result, path, size + 1);
    for (int i = 0; i < level; i++)
        memcpy(result + size + suffix_size * (size_t)i, TAKEOVER_SUFFIX, suffix_size + 1);
    return result;
}

/* Removes the file if it is still stale once nobody else may remove it. */
static tidemill_error *remove_stale(const struct file_lock *lock, const struct holder *self,
                                    int depth)
{
    const struct io *io = lock->io;
    char *takeover_path = takeover_path_of(lock->path, 1);
    if (takeover_path == NULL) return error_memory();
    struct file_lock *takeover = NULL;
    tidemill_error *error = take(io, takeover_path, depth + 1, &takeover);
    free(takeover_path);
    if (error != NULL) return error;
    struct holder holder;
    enum verdict verdict = VERDICT_HELD;
    error = judge(io, lock->path, self, &holder, &verdict);
    if (error == NULL && verdict == VERDICT_STALE && io->unlink(io->context, lock->path) != 0 &&
        errno != ENOENT) {
        error = io_explain(ERROR_IO, errno, "remove", lock->path);
    }
    file_lock_release(takeover);
    return error;
}

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = WAIT_MS * 1000000L}, NULL);
}

/* One try at a file that is there. NULL: it may be free now, try again. */
static tidemill_error *handle_existing(const struct file_lock *lock, const struct holder *self,
                                       int depth, int attempt)
{
    struct holder holder;
    enum verdict verdict = VERDICT_HELD;
    TRY(judge(lock->io, lock->path, self, &holder, &verdict));
    /* Not where a dead process of another host may have it. */
    bool is_brief = depth > 0 && verdict == VERDICT_HELD && attempt < BRIEF_COUNT &&
                    strcmp(holder.host, self->host) == 0;
    if (verdict == VERDICT_YOUNG || is_brief) {
        wait_a_little();
        return NULL;
    }
    if (verdict == VERDICT_HELD) return describe_held(lock->path, self, &holder);
    if (verdict == VERDICT_STALE && depth < TAKEOVER_DEPTH) return remove_stale(lock, self, depth);
    if (verdict == VERDICT_STALE) {
        return error_new(ERROR_LOCKED, "%s was left behind by a dead process; remove it",
                         lock->path);
    }
    return NULL;
}

static tidemill_error *take_loop(const struct file_lock *lock, const struct holder *self, int depth)
{
    for (int i = 0; i < WAIT_COUNT; i++) {
        bool is_taken = false;
        TRY(try_create(lock, &is_taken));
        if (is_taken) return NULL;
        TRY(handle_existing(lock, self, depth, i));
    }
    return error_new(ERROR_LOCKED,
                     "%s is in the hands of a process that does not finish; stop it, or "
                     "remove the file if there is none",
                     lock->path);
}

static tidemill_error *take(const struct io *io, const char *path, int depth,
                            struct file_lock **ret)
{
    struct file_lock *lock = calloc(1, sizeof *lock);
    if (lock == NULL) return error_memory();
    lock->io = io;
    lock->path = strdup(path);
    struct holder self = {0};
    describe_self(io, &self);
    format_holder(&self, lock->text);
    tidemill_error *error = lock->path == NULL ? error_memory() : take_loop(lock, &self, depth);
    if (error != NULL) {
        free(lock->path);
        free(lock);
        return error;
    }
    *ret = lock;
    return NULL;
}

/* What a kill in the middle of a takeover left would lie there for ever: having the right to remove
 * it, do. Whatever fails here does no harm. */
static void sweep_takeovers(const struct io *io, const char *path)
{
    for (int level = 1; level <= TAKEOVER_DEPTH; level++) {
        char *takeover_path = takeover_path_of(path, level);
        struct file_lock *takeover = NULL;
        if (takeover_path != NULL && io_exists(io, takeover_path)) {
            error_free(take(io, takeover_path, level, &takeover));
        }
        file_lock_release(takeover);
        free(takeover_path);
    }
}

tidemill_error *file_lock_take(const struct io *io, const char *path, struct file_lock **ret)
{
    TRY(take(io, path, 0, ret));
    sweep_takeovers(io, path);
    return NULL;
}

void file_lock_release(struct file_lock *lock)
{
    if (lock == NULL) return;
    /* A person may have removed it, and another process taken it since. */
    bool is_ours = false;
    error_free(check_ours(lock, &is_ours));
    if (is_ours) (void)lock->io->unlink(lock->io->context, lock->path);
    free(lock->path);
    free(lock);
}
