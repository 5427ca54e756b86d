// Newest-wins mailbox and single-producer ring for shared memory; both are all zeros when empty.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace poco {

// Word by word, so that a reader racing with the writer has a defined (discarded) result.
inline void copy_words_out(const void* shared, void* own, size_t bytes) noexcept {
  auto* from = static_cast<uint64_t*>(const_cast<void*>(shared));
  auto* to = static_cast<uint64_t*>(own);
  for (size_t i = 0; i < bytes / 8; ++i) to[i] = std::atomic_ref<uint64_t>(from[i]).load(std::memory_order_relaxed);
}

inline void copy_words_in(const void* own, void* shared, size_t bytes) noexcept {
  auto* from = static_cast<const uint64_t*>(own);
  auto* to = static_cast<uint64_t*>(shared);
  for (size_t i = 0; i < bytes / 8; ++i) std::atomic_ref<uint64_t>(to[i]).store(from[i], std::memory_order_relaxed);
}

// One writer, any number of readers. publish() is wait-free; read() repeats only while the writer laps it by all slots.
template <typename Record, int kSlots>
class Mailbox {
  static_assert(sizeof(Record) % 8 == 0);

 public:
  // copy_in(own record, slot) and copy_out(slot, own record) move one record word by word.
  template <typename CopyIn>
  void publish(const Record& record, CopyIn copy_in) noexcept {
    const uint64_t number = newest_.load(std::memory_order_relaxed) + 1;
    Slot& slot = slots_[number % kSlots];
    slot.number.store(0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    copy_in(record, slot.record);
    slot.number.store(number, std::memory_order_release);
    newest_.store(number, std::memory_order_release);
  }

  // Copies the newest record if it is newer than `known` (0: any), and moves `known`. False: nothing newer, or, after
  // many attempts, a writer that is too fast.
  template <typename CopyOut>
  bool read(Record& record, uint64_t& known, CopyOut copy_out) const noexcept {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const uint64_t number = newest_.load(std::memory_order_acquire);
      if (number == known) return false;
      const Slot& slot = slots_[number % kSlots];
      if (slot.number.load(std::memory_order_acquire) != number) continue;
      copy_out(slot.record, record);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (slot.number.load(std::memory_order_relaxed) != number) continue;
      known = number;
      return true;
    }
    return false;
  }

 private:
  static constexpr int kAttempts = 64;

  struct alignas(64) Slot {
    std::atomic<uint64_t> number;
    Record record;
  };

  alignas(64) std::atomic<uint64_t> newest_;
  std::array<Slot, kSlots> slots_;
};

// One producer, one consumer; a full ring refuses the new record.
template <typename Record, int kCapacity>
class Ring {
 public:
  bool push(const Record& record) noexcept {
    const uint64_t head = head_.load(std::memory_order_relaxed);
    if (head - tail_.load(std::memory_order_acquire) == kCapacity) return false;
    records_[head % kCapacity] = record;
    head_.store(head + 1, std::memory_order_release);
    return true;
  }

  uint64_t size() const noexcept {
    return head_.load(std::memory_order_acquire) - tail_.load(std::memory_order_relaxed);
  }

  // Moves up to `count` oldest records to `out`; returns how many.
  uint64_t pop(Record* out, uint64_t count) noexcept {
    const uint64_t tail = tail_.load(std::memory_order_relaxed);
    const uint64_t taken = std::min(count, size());
    for (uint64_t i = 0; i < taken; ++i) out[i] = records_[(tail + i) % kCapacity];
    tail_.store(tail + taken, std::memory_order_release);
    return taken;
  }

 private:
  alignas(64) std::atomic<uint64_t> head_;
  alignas(64) std::atomic<uint64_t> tail_;
  alignas(64) std::array<Record, kCapacity> records_;
};

}  // namespace poco
