#include "realtime.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace poco {
namespace {

RealtimeFact fact(const std::string& what, bool ok, const std::string& remedy) {
  return {what, ok, ok ? "" : std::string(std::strerror(errno)) + "; " + remedy};
}

// Keeps every CPU out of sleep states that take time to leave, for as long as this process lives: the file stays open.
bool forbid_deep_sleep() {
  static const int file = open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC);
  const int32_t latency_us = 0;
  return file >= 0 && write(file, &latency_us, sizeof latency_us) == sizeof latency_us;
}

}  // namespace

std::vector<RealtimeFact> realtime_setup(int priority, int cpu) {
  std::vector<RealtimeFact> facts;
  facts.push_back(fact("timer slack of 1 ns", prctl(PR_SET_TIMERSLACK, 1) == 0, "use a Linux kernel with timer slack"));
  facts.push_back(fact("memory locked", mlockall(MCL_CURRENT | MCL_FUTURE) == 0,
                       "raise the memlock limit (ulimit -l unlimited, or memlock in /etc/security/limits.conf)"));
  facts.push_back(fact("CPU wake-up latency of 0 us", forbid_deep_sleep(),
                       "let this user write to /dev/cpu_dma_latency (a udev rule) or start the kernel with idle=poll"));
  sched_param parameters{};
  parameters.sched_priority = priority;
  facts.push_back(fact("SCHED_FIFO priority " + std::to_string(priority),
                       sched_setscheduler(0, SCHED_FIFO, &parameters) == 0,
                       "choose 1 to 99 and raise the rtprio limit (rtprio in /etc/security/limits.conf)"));
  if (cpu >= 0) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<size_t>(cpu), &cpus);
    facts.push_back(fact("pinned to CPU " + std::to_string(cpu), sched_setaffinity(0, sizeof cpus, &cpus) == 0,
                         "choose a CPU that this process may use (taskset -p shows them)"));
  }
  return facts;
}

}  // namespace poco
