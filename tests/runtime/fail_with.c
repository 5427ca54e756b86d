/* Preloaded into a run: calls that write a segment of a journal fail with the error whose number the file POCO_TEST_ERROR holds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int fails(int file) {
  char link[64], path[4096] = "", digits[8] = "";
  const char *control = getenv("POCO_TEST_ERROR");
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (control == NULL || readlink(link, path, sizeof path - 1) < 0 || strstr(path, ".seg") == NULL) return 0;
  int opened = open(control, O_RDONLY | O_CLOEXEC);
  if (opened < 0) return 0;
  ssize_t size = read(opened, digits, sizeof digits - 1);
  close(opened);
  if (size <= 0) return 0;
  errno = atoi(digits);
  return 1;
}

ssize_t write(int file, const void *bytes, size_t count) { return fails(file) ? -1 : REAL(write)(file, bytes, count); }
int fsync(int file) { return fails(file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return fails(file) ? -1 : REAL(fdatasync)(file); }
int ftruncate64(int file, off64_t size) { return fails(file) ? -1 : REAL(ftruncate64)(file, size); }
int ftruncate(int file, off_t size) { return fails(file) ? -1 : REAL(ftruncate)(file, size); }
