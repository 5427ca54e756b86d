/* Preloaded into a writer: ends the process, as kill -9 does, at the k-th call that changes a file, before, in or after it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

static long left = -1;
static int late;

void kill_at(long calls, int after) {
  left = calls;
  late = after;
}

static int due(void) { return left > 0 && --left == 0; }
static void die(void) { kill(getpid(), SIGKILL); }

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(call, real)      \
  int now = due();            \
  if (now && !late) die();    \
  __typeof__(real) r = real;  \
  if (now) die();             \
  return r;

ssize_t write(int file, const void *bytes, size_t count) {
  int now = due();
  if (now && !late) {
    REAL(write)(file, bytes, count / 2);
    die();
  }
  ssize_t r = REAL(write)(file, bytes, count);
  if (now) die();
  return r;
}
int fsync(int file) { WRAP(fsync, REAL(fsync)(file)) }
int fdatasync(int file) { WRAP(fdatasync, REAL(fdatasync)(file)) }
int ftruncate64(int file, off64_t size) { WRAP(ftruncate64, REAL(ftruncate64)(file, size)) }
int ftruncate(int file, off_t size) { WRAP(ftruncate, REAL(ftruncate)(file, size)) }
int rename(const char *from, const char *to) { WRAP(rename, REAL(rename)(from, to)) }
int unlink(const char *path) { WRAP(unlink, REAL(unlink)(path)) }
