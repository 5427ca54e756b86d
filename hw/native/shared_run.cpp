#include "shared_run.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "layouts.hpp"

namespace poco {
namespace {

constexpr uint64_t kMagic = 0x31304d48534f434f;  // "OCOSHM01"
constexpr int64_t kNobodyWaits = INT64_MAX;

[[noreturn]] void fail(const std::string& path, const std::string& reason) {
  throw std::runtime_error("shared memory " + path + ": " + reason);
}

[[noreturn]] void fail_errno(const std::string& path, const std::string& act) {
  fail(path, "cannot " + act + " (" + std::strerror(errno) + ")");
}

// Locks the file so that sweep() leaves it alone; false if sweep() removed it in the meantime.
bool lock_alive(int file) {
  struct stat facts;
  return flock(file, LOCK_SH) == 0 && fstat(file, &facts) == 0 && facts.st_nlink > 0;
}

int open_locked(const std::string& path, bool create) {
  for (int attempt = 0; attempt < 3; ++attempt) {
    const int file = open(path.c_str(), create ? O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC : O_RDWR | O_CLOEXEC, 0600);
    if (file < 0 && errno == EEXIST) fail(path, "exists already; choose another run name or sweep dead runs");
    if (file < 0 && errno == ENOENT) fail(path, "does not exist; the supervisor of that run is not running");
    if (file < 0) fail_errno(path, create ? "create it" : "open it");
    if (lock_alive(file)) return file;
    close(file);
  }
  fail(path, "was removed while it was opened; start the run again");
}

// Between a shared slot and an own record, in two parts: what is always there, and what the number of segments makes
// meaningful, clamped for torn reads.
template <typename CopyWords>
void copy_heading(const ChunkSpline& from, ChunkSpline& to, CopyWords copy) noexcept {
  copy(&from, &to, offsetof(ChunkSpline, knots));
}

template <typename CopyWords>
void copy_segments(const ChunkSpline& from, ChunkSpline& to, int64_t segments, CopyWords copy) noexcept {
  const auto used = static_cast<size_t>(std::clamp<int64_t>(segments, 0, kMaxSegments));
  copy(from.knots.data(), to.knots.data(), (used + 1) * sizeof(int64_t));
  copy(from.coefficients.data(), to.coefficients.data(), used * sizeof(from.coefficients[0]));
  copy(from.gripper.data(), to.gripper.data(), used * sizeof(double));
}

void wake_everybody(Control& shared) noexcept {
  shared.wake_word.fetch_add(1);
  syscall(SYS_futex, &shared.wake_word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

SharedRun::SharedRun(const std::string& path, bool create) : file_(open_locked(path, create)) {
  struct stat facts;
  // Takes the room now: a page that is missing when the servo touches it would kill the servo.
  if (create && (errno = posix_fallocate(file_, 0, sizeof(SharedBlock))) != 0) {
    unlink(path.c_str());
    close(file_);
    fail_errno(path, "reserve " + std::to_string(sizeof(SharedBlock)) + " bytes for it");
  }
  if (fstat(file_, &facts) != 0 || facts.st_size != static_cast<off_t>(sizeof(SharedBlock))) {
    close(file_);
    fail(path, "has another size than this version of poco makes; start all processes from one installation");
  }
  void* memory = mmap(nullptr, sizeof(SharedBlock), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file_, 0);
  if (memory == MAP_FAILED) {
    close(file_);
    fail_errno(path, "map it");
  }
  block_ = static_cast<SharedBlock*>(memory);
  if (create) {
    block_->version = kSchemaVersion;
    block_->layout_hash = layout_hash();
    block_->control.wake_tick = kNobodyWaits;
    block_->magic.store(kMagic, std::memory_order_release);
  } else if (block_->magic.load(std::memory_order_acquire) != kMagic || block_->version != kSchemaVersion ||
             block_->layout_hash != layout_hash()) {
    munmap(block_, sizeof(SharedBlock));
    close(file_);
    fail(path, "was made by another version of poco; start all processes from one installation");
  }
}

SharedRun::~SharedRun() {
  munmap(block_, sizeof(SharedBlock));
  close(file_);
}

void SharedRun::publish_state(const RobotState& state) noexcept {
  block_->states.publish(
      state, [](const RobotState& own, RobotState& slot) noexcept { copy_words_in(&own, &slot, sizeof own); });
}

bool SharedRun::read_state(RobotState& state, uint64_t& known) const noexcept {
  return block_->states.read(
      state, known, [](const RobotState& slot, RobotState& own) noexcept { copy_words_out(&slot, &own, sizeof own); });
}

void SharedRun::publish_chunk(const ChunkSpline& chunk) noexcept {
  block_->chunks.publish(chunk, [](const ChunkSpline& own, ChunkSpline& slot) noexcept {
    copy_heading(own, slot, copy_words_in);
    copy_segments(own, slot, own.segments, copy_words_in);
  });
}

bool SharedRun::read_chunk(ChunkSpline& chunk, uint64_t& known) const noexcept {
  return block_->chunks.read(chunk, known, [](const ChunkSpline& slot, ChunkSpline& own) noexcept {
    copy_heading(slot, own, copy_words_out);
    copy_segments(slot, own, own.segments, copy_words_out);
  });
}

void SharedRun::publish_gripper(const GripperState& state) noexcept {
  block_->grippers.publish(
      state, [](const GripperState& own, GripperState& slot) noexcept { copy_words_in(&own, &slot, sizeof own); });
}

bool SharedRun::read_gripper(GripperState& state, uint64_t& known) const noexcept {
  return block_->grippers.read(state, known, [](const GripperState& slot, GripperState& own) noexcept {
    copy_words_out(&slot, &own, sizeof own);
  });
}

void SharedRun::push_tick(const Tick& tick) noexcept {
  if (!block_->ticks.push(tick)) control().ticks_dropped.fetch_add(1, std::memory_order_relaxed);
}

void SharedRun::announce(int64_t tick) noexcept {
  Control& shared = control();
  shared.tick.store(tick);
  if (tick < shared.wake_tick.load()) return;
  shared.wake_tick.store(kNobodyWaits);
  wake_everybody(shared);
}

void SharedRun::alarm() noexcept {
  control().alarms.fetch_add(1);
  wake_everybody(control());
}

// Order matters: the word is read before the wish is entered and the tick is looked at after, so that either the servo
// sees the wish or the waiter sees the tick.
bool SharedRun::wait_tick(int64_t tick, double timeout_s) noexcept {
  Control& shared = control();
  const uint32_t alarms = shared.alarms.load();
  timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  const double whole_s = std::floor(timeout_s);
  deadline.tv_sec += static_cast<time_t>(whole_s);
  deadline.tv_nsec += static_cast<long>((timeout_s - whole_s) * 1e9);
  if (deadline.tv_nsec >= 1'000'000'000) {
    deadline.tv_nsec -= 1'000'000'000;
    ++deadline.tv_sec;
  }
  for (;;) {
    const uint32_t word = shared.wake_word.load();
    int64_t earliest = shared.wake_tick.load();
    while (tick < earliest && !shared.wake_tick.compare_exchange_weak(earliest, tick)) {
    }
    if (shared.tick.load() >= tick) return true;
    if (shared.alarms.load() != alarms) return false;
    const long woken =
        syscall(SYS_futex, &shared.wake_word, FUTEX_WAIT_BITSET, word, &deadline, nullptr, FUTEX_BITSET_MATCH_ANY);
    if (woken != 0 && errno == ETIMEDOUT) return shared.tick.load() >= tick;
    if (woken != 0 && errno == EINTR) return shared.tick.load() >= tick;
  }
}

}  // namespace poco
