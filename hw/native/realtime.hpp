// Real-time set-up of the calling thread.
#pragma once

#include <string>
#include <vector>

namespace poco {

struct RealtimeFact {
  std::string what;
  bool ok;
  std::string reason;  // why not and the remedy; empty if ok
};

// Timer slack, memory lock, CPU wake-up latency, SCHED_FIFO at `priority` and, if `cpu` >= 0, affinity. Each is tried;
// none throws.
std::vector<RealtimeFact> realtime_setup(int priority, int cpu);

}  // namespace poco
