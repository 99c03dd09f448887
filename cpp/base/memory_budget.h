#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace llm_proxy {

// How much memory all requests under way may hold together, and how much of it one client.
//
// Owned by the server; used by all workers and the lane without a lock. Nothing is allocated here:
// it counts. A client is known by a hash of its name, of which kShares tell apart: two names with
// one hash share what one of them may have.
//
// A client may take as much as it leaves to the others: half of all when it is alone, a third when
// two compete, and so on. So there is always room for one who holds nothing yet.
class MemoryBudget {
 public:
  static constexpr std::size_t kShares = 1024;

  // `limit` in bytes; 0: without limit, and only counted.
  explicit MemoryBudget(std::uint64_t limit) : limit_(limit) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  // For charges from now on.
  void set_limit(std::uint64_t limit) { limit_.store(limit, std::memory_order_relaxed); }
  std::uint64_t limit() const { return limit_.load(std::memory_order_relaxed); }
  std::uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  // How many charges were refused since the start.
  std::uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

  // Which share `client` counts for. The hash is seeded by the process.
  static std::size_t share_of(std::string_view client);

 private:
  friend class MemoryCharge;
  enum class Taken : std::uint8_t { all, share_is_full, all_is_full };

  Taken take(std::size_t share, std::uint64_t bytes);
  void give(std::size_t share, std::uint64_t bytes) {
    shares_[share].fetch_sub(bytes, std::memory_order_relaxed);
    used_.fetch_sub(bytes, std::memory_order_relaxed);
  }

  std::atomic<std::uint64_t> limit_;
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::array<std::atomic<std::uint64_t>, kShares> shares_{};
};

// What one body, reply or copy holds of the budget; gives it back when it is destroyed.
//
// Owned by what owns the memory. Movable; not shared. Without a budget (default constructed)
// everything is granted.
class MemoryCharge {
 public:
  // A buffer that grows is charged in steps of this size, so that most pieces cost a comparison.
  static constexpr std::uint64_t kStep = 256u << 10;

  MemoryCharge() = default;
  // `budget` outlives the charge.
  MemoryCharge(MemoryBudget& budget, std::size_t share) : budget_(&budget), share_(share) {}
  MemoryCharge(MemoryCharge&& other) noexcept { swap(other); }
  MemoryCharge& operator=(MemoryCharge&& other) noexcept {
    MemoryCharge(std::move(other)).swap(*this);
    return *this;
  }
  ~MemoryCharge() { release(); }

  // Another charge of the same client, holding nothing.
  MemoryCharge sibling() const {
    return budget_ == nullptr ? MemoryCharge() : MemoryCharge(*budget_, share_);
  }

  // Holds exactly `bytes` from now on. An Error when that is more than there is: rate_limited when
  // the client holds its share, short_of_memory when the proxy has none left; both with a time to
  // wait. The charge is then as it was.
  [[nodiscard]] std::optional<Error> hold(std::uint64_t bytes);
  // Holds at least `bytes`, in steps.
  [[nodiscard]] std::optional<Error> grow_to(std::uint64_t bytes) {
    if (bytes <= held_) return std::nullopt;
    return hold(bytes <= kSmall ? bytes : (bytes + kStep - 1) / kStep * kStep);
  }
  void release() {
    if (held_ != 0) budget_->give(share_, std::exchange(held_, 0));
  }
  std::uint64_t held() const { return held_; }

  void swap(MemoryCharge& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(share_, other.share_);
    std::swap(held_, other.held_);
  }

 private:
  static constexpr std::uint64_t kSmall = 64u << 10;  // charged to the byte

  MemoryBudget* budget_ = nullptr;
  std::size_t share_ = 0;
  std::uint64_t held_ = 0;
};

}  // namespace llm_proxy
