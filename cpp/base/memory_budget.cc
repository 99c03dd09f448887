#include "base/memory_budget.h"

#include <chrono>
#include <random>
#include <string>

namespace llm_proxy {
namespace {

constexpr std::chrono::milliseconds kWait{1000};

std::uint64_t process_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) | device();
}

}  // namespace

std::size_t MemoryBudget::share_of(std::string_view client) {
  static const std::uint64_t seed = process_seed();
  std::uint64_t hash = std::hash<std::string_view>()(client) ^ seed;
  // Mixes the seed into every bit: a client cannot choose a name that falls on another's share.
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53u;
  return static_cast<std::size_t>((hash ^ (hash >> 33)) % kShares);
}

MemoryBudget::Taken MemoryBudget::take(std::size_t share, std::uint64_t bytes) {
  // Added first and looked at then, so that two who come at once cannot both have the last bytes.
  const std::uint64_t others_and_own = used_.fetch_add(bytes, std::memory_order_relaxed);
  const std::uint64_t own = shares_[share].fetch_add(bytes, std::memory_order_relaxed);
  const std::uint64_t most = limit();
  if (most == 0) return Taken::all;
  const std::uint64_t free = most > others_and_own ? most - others_and_own : 0;
  // No more than it leaves to the others.
  if (bytes <= free && own + bytes <= free - bytes) return Taken::all;
  give(share, bytes);
  refused_.fetch_add(1, std::memory_order_relaxed);
  return own > 0 && bytes <= free ? Taken::share_is_full : Taken::all_is_full;
}

std::optional<Error> MemoryCharge::hold(std::uint64_t bytes) {
  if (budget_ == nullptr) return std::nullopt;
  if (bytes <= held_) {
    if (bytes < held_) budget_->give(share_, held_ - bytes);
    held_ = bytes;
    return std::nullopt;
  }
  const auto taken = budget_->take(share_, bytes - held_);
  if (taken == MemoryBudget::Taken::all) {
    held_ = bytes;
    return std::nullopt;
  }
  const std::uint64_t most = budget_->limit() / 2;
  if (bytes > most) {
    return Error{ErrorKind::body_too_large,
                 "this request would take more than the " + std::to_string(most) +
                     " bytes of memory that one client may have: send less, or have "
                     "limits.memory_bytes raised"};
  }
  Error error;
  const bool own = taken == MemoryBudget::Taken::share_is_full;
  error.kind = own ? ErrorKind::rate_limited : ErrorKind::short_of_memory;
  error.message = own ? "your requests under way hold as much of the proxy's memory as one client "
                        "may have: wait for some to end, then ask again"
                      : "the proxy has no memory left for this request: ask again in a moment";
  error.code = own ? "memory_share" : "short_of_memory";
  error.retry_after = kWait;
  return error;
}

}  // namespace llm_proxy
