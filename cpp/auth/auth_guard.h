#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"

namespace llm_proxy {

// Slows down who guesses keys, address by address.
//
// It counts different wrong keys: a client that was set up wrong repeats one and guesses nothing.
// After max_failed_attempts of them the address waits, and each further one doubles the wait. What
// is older than `ttl` is forgotten.
//
// Shared by all workers and handed from snapshot to snapshot. Any thread: a leaf mutex, which is
// not taken while nobody is blocked and no key is wrong. Bounded to kAddresses, the least recent of
// which goes.
class AuthGuard {
 public:
  struct Limits {
    bool enabled = true;
    std::uint32_t max_failed_attempts = 5;
    std::chrono::seconds ttl{900};
    std::chrono::seconds initial_block{30};
    double block_multiplier = 2;
    std::chrono::seconds max_block{3600};
  };
  static constexpr std::size_t kAddresses = 4096;

  // How long this address has to wait; zero: it has not.
  std::chrono::milliseconds blocked_for(std::string_view peer, TimePoint now) const;
  // `peer` sent a key that is none; an empty one is no guess.
  void failed(std::string_view peer, std::string_view key, const Limits& limits, TimePoint now);

 private:
  struct Guesser {
    std::string network;
    std::vector<std::size_t> keys;  // hashes of the wrong ones since the last block
    std::chrono::duration<double> next_block{};
    TimePoint last{};
    TimePoint blocked_until{};
  };
  // Whose guesses count as one's: an IPv4 address, or the /64 that one IPv6 customer has.
  static std::string network_of(std::string_view peer);

  mutable std::mutex mutex_;
  std::list<Guesser> guessers_;  // least recent first
  std::unordered_map<std::string_view, std::list<Guesser>::iterator> by_network_;
  std::atomic<std::int64_t> none_blocked_after_{0};  // steady clock, ticks
};

}  // namespace llm_proxy
