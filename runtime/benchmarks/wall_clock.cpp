// A wall clock that can be stepped under the processes of one run: preloaded, it adds to every reading of the time of
// day an offset from a shared file. Other clocks, and the computer's own, stay as they are.
//
// c++ -O2 -shared -fPIC -o wall_clock.so wall_clock.cpp; LD_PRELOAD=wall_clock.so POCO_WALL_CLOCK=FILE program
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace {

// The file: an offset, how often the time of day was read, and how often somebody waited until a time of day.
struct Shared {
  std::atomic<int64_t> offset_ns, reads, waits;
};

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kTimeOfDayS = 1'000'000'000;  // no monotonic clock shows 30 years

Shared* map_shared() noexcept {
  static Shared nowhere{};
  const char* path = std::getenv("POCO_WALL_CLOCK");
  const int file = path == nullptr ? -1 : open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) return &nowhere;
  void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
  close(file);
  return memory == MAP_FAILED ? &nowhere : static_cast<Shared*>(memory);
}

Shared& shared() noexcept {
  static Shared* const mapped = map_shared();
  return *mapped;
}

template <typename Function>
Function* original(const char* name) noexcept {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

timespec shifted(const timespec& time, int64_t by_ns) noexcept {
  const int64_t sum_ns = time.tv_sec * kSecondNs + time.tv_nsec + by_ns;
  return {sum_ns / kSecondNs, sum_ns % kSecondNs};
}

// The instant of the computer's own clock at which the shifted clock shows `deadline`.
timespec unshifted(const timespec& deadline) noexcept {
  if (deadline.tv_sec < kTimeOfDayS) return deadline;
  shared().waits.fetch_add(1, std::memory_order_relaxed);
  return shifted(deadline, -shared().offset_ns.load(std::memory_order_relaxed));
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static auto* const real = original<int(clockid_t, timespec*)>("clock_gettime");
  const int result = real(clock, time);
  if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  shared().reads.fetch_add(1, std::memory_order_relaxed);
  *time = shifted(*time, shared().offset_ns.load(std::memory_order_relaxed));
  return 0;
}

int gettimeofday(timeval* time, void*) noexcept {
  timespec now;
  if (clock_gettime(CLOCK_REALTIME, &now) != 0) return -1;
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* out) noexcept {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out != nullptr) *out = now.tv_sec;
  return now.tv_sec;
}

int clock_nanosleep(clockid_t clock, int flags, const timespec* until, timespec* left) {
  static auto* const real = original<int(clockid_t, int, const timespec*, timespec*)>("clock_nanosleep");
  const bool of_day = clock == CLOCK_REALTIME && (flags & TIMER_ABSTIME) != 0;
  const timespec deadline = of_day ? unshifted(*until) : *until;
  return real(clock, flags, &deadline, left);
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
  static auto* const real = original<int(pthread_cond_t*, pthread_mutex_t*, const timespec*)>("pthread_cond_timedwait");
  const timespec deadline = unshifted(*until);
  return real(condition, mutex, &deadline);
}

int sem_timedwait(sem_t* semaphore, const timespec* until) {
  static auto* const real = original<int(sem_t*, const timespec*)>("sem_timedwait");
  const timespec deadline = unshifted(*until);
  return real(semaphore, &deadline);
}
}
