// What the calling thread has cost so far and how often it stood still: two system calls, about 1 us.
#pragma once

#include <sys/resource.h>
#include <time.h>

#include <cstdint>

namespace poco {

struct Effort {
  int64_t cpu_ns = 0;
  int64_t waits = 0, preemptions = 0;  // processor given up, processor taken away
  int64_t minor_faults = 0, major_faults = 0;

  Effort operator-(const Effort& before) const noexcept {
    return {cpu_ns - before.cpu_ns, waits - before.waits, preemptions - before.preemptions,
            minor_faults - before.minor_faults, major_faults - before.major_faults};
  }
};

inline Effort effort_so_far() noexcept {
  timespec cpu;
  rusage usage;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
  getrusage(RUSAGE_THREAD, &usage);
  return {int64_t{1'000'000'000} * cpu.tv_sec + cpu.tv_nsec, usage.ru_nvcsw, usage.ru_nivcsw, usage.ru_minflt,
          usage.ru_majflt};
}

}  // namespace poco
