/* Stands between a process and libc (LD_PRELOAD) and writes down, in one order, everything that changes files
 * below SHIM_ROOT and every sync of them, into SHIM_TRACE. tests/power/trace.rs reads it.
 *
 * A change is written down while it is made, under one lock; a sync is written down when it begins and when
 * it has come back, without the lock. So a change is on the disk for sure once a sync that began after it
 * has come back, and not before. sync_file_range is no sync: it makes no promise about the disk.
 *
 * SHIM_FULL=N: writes fail with ENOSPC once N bytes were written. SHIM_READ_ONLY=N: changes fail
 * with EROFS once N bytes were written, as on a disk that the kernel takes away. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, SYNC_BEGIN, SYNC_END, RMDIR };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root;
static size_t root_len;
static int trace = -1;
static long long room = -1;
static long long writable = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
  root = getenv("SHIM_ROOT");
  if (!root) return;
  root_len = strlen(root);
  const char *to = getenv("SHIM_TRACE");
  if (to) trace = syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (getenv("SHIM_FULL")) room = atoll(getenv("SHIM_FULL"));
  if (getenv("SHIM_READ_ONLY")) writable = atoll(getenv("SHIM_READ_ONLY"));
}

static int inside(const char *path) {
  return root && strncmp(path, root, root_len) == 0 && (path[root_len] == '/' || !path[root_len]);
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = root ? readlink(link, path, PATH_MAX - 1) : -1;
  if (n < 0) return 0;
  path[n] = 0;
  return inside(path);
}

static uint64_t inode_of(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static void put(const void *data, size_t len) {
  while (len > 0) {
    ssize_t n = syscall(SYS_write, trace, data, len);
    if (n <= 0) abort();
    data = (const char *)data + n;
    len -= n;
  }
}

static void note(uint8_t op, uint64_t inode, uint64_t number, const void *data, uint32_t len) {
  if (trace < 0) return;
  char head[21];
  head[0] = op;
  memcpy(head + 1, &inode, 8);
  memcpy(head + 9, &number, 8);
  memcpy(head + 17, &len, 4);
  put(head, sizeof head);
  put(data, len);
}

static int refuse(void) {
  if (writable == 0) errno = EROFS;
  return writable == 0;
}

static int open_as(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
  if (!inside(path)) return real(path, flags, mode);
  size_t path_len = strlen(path);
  int voice = path_len > 5 && strcmp(path + path_len - 5, "/said") == 0;
  if (!voice && (flags & (O_CREAT | O_WRONLY | O_RDWR)) && refuse()) return -1;
  pthread_mutex_lock(&lock);
  struct stat st;
  int was = stat(path, &st) == 0;
  int fd = real(path, flags, mode);
  int error = errno;
  if (fd >= 0 && !was) note(CREATE, inode_of(fd), 0, path, strlen(path));
  if (fd >= 0 && was && (flags & O_TRUNC)) note(TRUNCATE, inode_of(fd), 0, path, strlen(path));
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

#define OPEN(name)                                         \
  int name(const char *path, int flags, ...) {             \
    va_list rest;                                          \
    va_start(rest, flags);                                 \
    mode_t mode = flags & O_CREAT ? va_arg(rest, int) : 0; \
    va_end(rest);                                          \
    return open_as(REAL(name), path, flags, mode);         \
  }
OPEN(open)
OPEN(open64)

/* at < 0: where the file stands. */
static ssize_t write_as(int fd, const void *data, size_t len, long long at) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return at < 0 ? syscall(SYS_write, fd, data, len) : syscall(SYS_pwrite64, fd, data, len, at);
  /* What the process says to the world always gets through. */
  size_t path_len = strlen(path);
  int voice = path_len > 5 && strcmp(path + path_len - 5, "/said") == 0;
  if (!voice && refuse()) return -1;
  pthread_mutex_lock(&lock);
  ssize_t n = -1;
  if (room == 0 && !voice) {
    errno = ENOSPC;
  } else {
    if (!voice && room > 0 && (long long)len > room) len = room;
    uint64_t place = at;
    if (at < 0) {
      struct stat st;
      int append = fcntl(fd, F_GETFL) & O_APPEND;
      fstat(fd, &st);
      place = append ? (uint64_t)st.st_size : (uint64_t)lseek(fd, 0, SEEK_CUR);
    }
    n = at < 0 ? syscall(SYS_write, fd, data, len) : syscall(SYS_pwrite64, fd, data, len, at);
    if (!voice && n > 0 && room > 0) room -= n;
    if (!voice && n > 0 && writable > 0) writable = writable > n ? writable - n : 0;
    int error = errno;
    if (n > 0) note(WRITE, inode_of(fd), place, data, n);
    errno = error;
  }
  pthread_mutex_unlock(&lock);
  return n;
}

ssize_t write(int fd, const void *data, size_t len) { return write_as(fd, data, len, -1); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return write_as(fd, data, len, at); }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at) { return write_as(fd, data, len, at); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
  char path[PATH_MAX];
  if (!path_of(fd, path)) return syscall(SYS_writev, fd, parts, count);
  ssize_t total = 0;
  for (int i = 0; i < count; i++) {
    ssize_t n = write_as(fd, parts[i].iov_base, parts[i].iov_len, -1);
    if (n < 0) return total > 0 ? total : n;
    total += n;
    if ((size_t)n < parts[i].iov_len) break;
  }
  return total;
}

#define TRUNCATE_AS(name, type)                                                   \
  int name(int fd, type len) {                                                    \
    char path[PATH_MAX];                                                          \
    if (!path_of(fd, path)) return REAL(name)(fd, len);                           \
    if (refuse()) return -1;                                                      \
    pthread_mutex_lock(&lock);                                                    \
    int code = REAL(name)(fd, len), error = errno;                                \
    if (code == 0) note(TRUNCATE, inode_of(fd), len, path, strlen(path));         \
    pthread_mutex_unlock(&lock);                                                  \
    errno = error;                                                                \
    return code;                                                                  \
  }
TRUNCATE_AS(ftruncate, off_t)
TRUNCATE_AS(ftruncate64, off64_t)

#define SYNC(name)                                                 \
  int name(int fd) {                                               \
    char path[PATH_MAX];                                           \
    if (!path_of(fd, path)) return REAL(name)(fd);                 \
    static __thread uint64_t turn;                                 \
    uint64_t number = (uint64_t)syscall(SYS_gettid) << 32 | ++turn; \
    pthread_mutex_lock(&lock);                                     \
    note(SYNC_BEGIN, inode_of(fd), number, path, strlen(path));    \
    pthread_mutex_unlock(&lock);                                   \
    int code = REAL(name)(fd), error = errno;                      \
    pthread_mutex_lock(&lock);                                     \
    if (code == 0) note(SYNC_END, inode_of(fd), number, path, strlen(path)); \
    pthread_mutex_unlock(&lock);                                   \
    errno = error;                                                 \
    return code;                                                   \
  }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
  if (!inside(from) && !inside(to)) return REAL(rename)(from, to);
  if (refuse()) return -1;
  pthread_mutex_lock(&lock);
  int code = REAL(rename)(from, to), error = errno;
  if (code == 0) {
    char both[2 * PATH_MAX];
    int n = snprintf(both, sizeof both, "%s%c%s", from, 0, to);
    note(RENAME, 0, 0, both, n);
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return code;
}

#define PATH_OP(name, op, args, pass)                        \
  int name args {                                            \
    if (!inside(path)) return REAL(name) pass;               \
    if (refuse()) return -1;                                 \
    pthread_mutex_lock(&lock);                               \
    int code = REAL(name) pass, error = errno;               \
    if (code == 0) note(op, 0, 0, path, strlen(path));       \
    pthread_mutex_unlock(&lock);                             \
    errno = error;                                           \
    return code;                                             \
  }
PATH_OP(unlink, UNLINK, (const char *path), (path))
PATH_OP(mkdir, MKDIR, (const char *path, mode_t mode), (path, mode))
PATH_OP(rmdir, RMDIR, (const char *path), (path))

int unlinkat(int dir, const char *path, int flags) {
  char full[2 * PATH_MAX];
  if (path[0] == '/' || dir == AT_FDCWD) {
    snprintf(full, sizeof full, "%s", path);
  } else {
    if (!path_of(dir, full)) return REAL(unlinkat)(dir, path, flags);
    size_t at = strlen(full);
    snprintf(full + at, sizeof full - at, "/%s", path);
  }
  if (!inside(full)) return REAL(unlinkat)(dir, path, flags);
  if (refuse()) return -1;
  pthread_mutex_lock(&lock);
  int code = REAL(unlinkat)(dir, path, flags), error = errno;
  if (code == 0) note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, full, strlen(full));
  pthread_mutex_unlock(&lock);
  errno = error;
  return code;
}

/* What would change files past the trace must not go unseen. */
static void unseen(const char *what) {
  fprintf(stderr, "shim: %s is not traced\n", what);
  abort();
}
ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags) {
  char path[PATH_MAX];
  if (path_of(out, path)) unseen("copy_file_range");
  return REAL(copy_file_range)(in, in_at, out, out_at, len, flags);
}
