#pragma once

#include <array>
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

// Slows down clients that guess keys, address by address.
//
// It counts different wrong keys: a client that was set up wrong repeats one and guesses nothing.
// After max_failed_attempts of them the address is blocked, and each further one doubles the time.
// Attempts older than `ttl` are forgotten.
//
// Many clients can share an address, behind a reverse proxy or a NAT, and a guesser must not lock
// out the others. A right key of kUnguessable characters or more is always served: of a key with so
// much room for chance nobody tries enough to find it, so that it does no harm to tell a guesser at
// once that it is right. A shorter one that has been used from the address before is served as
// always. One that has not is compared, right or wrong, for the first kTriesWhileBlocked requests
// of a block, and not compared after them: a guesser of short keys gets that many guesses an hour
// in the end.
//
// Shared by all workers and handed from snapshot to snapshot. Any thread: a leaf mutex, which is
// not taken while no address is blocked and no key is wrong. Bounded to kAddresses, the least
// recent of which goes.
class AuthGuard {
 public:
  struct Limits {
    bool enabled = true;
    std::uint32_t max_failed_attempts = 5;
    std::chrono::seconds ttl_seconds{900};
    std::chrono::seconds initial_block_seconds{30};
    double block_multiplier = 2;
    std::chrono::seconds max_block_seconds{3600};
  };
  static constexpr std::size_t kAddresses = 4096;
  static constexpr std::uint32_t kTriesWhileBlocked = 64;
  static constexpr std::size_t kUnguessable = 22;  // base64url of 128 bits

  // How long this address is still blocked; zero if it is not.
  std::chrono::milliseconds blocked_for(std::string_view peer, TimePoint now) const;
  // Whether `key`, which is right, is served for `peer` now; remembers that it was.
  bool admits(std::string_view peer, std::string_view key, TimePoint now);
  // Counts a key that is not right and came while `peer` is blocked.
  void tried_while_blocked(std::string_view peer, TimePoint now);
  // Counts a wrong key of `peer`, which is not blocked; an empty key is not a guess.
  void failed(std::string_view peer, std::string_view key, const Limits& limits, TimePoint now);

 private:
  struct Guesser {
    std::string network;
    std::vector<std::size_t> keys;  // hashes of the wrong ones since the last block
    std::uint32_t tries_left = 0;   // in the present block
    std::chrono::duration<double> next_block{};
    TimePoint last{};
    TimePoint blocked_until{};
  };
  // Whose guesses count as one's: an IPv4 address, or the /64 that one IPv6 customer has.
  static std::string network_of(std::string_view peer);
  // Where a right key's use from an address is remembered, and as what.
  std::atomic<std::uint64_t>& proof_of(std::string_view peer, std::string_view key,
                                       std::uint64_t& value) const;
  // The guesser behind `peer`, if that is blocked now. Under the mutex.
  Guesser* blocked(std::string_view network, TimePoint now);

  mutable std::mutex mutex_;
  std::list<Guesser> guessers_;  // least recent first
  std::unordered_map<std::string_view, std::list<Guesser>::iterator> by_network_;
  std::atomic<std::int64_t> none_blocked_after_{0};  // steady clock, ticks
  // Hashes of (address, right key), each in the one slot its hash names. Only right keys get in, so
  // a guesser can neither add nor displace one.
  mutable std::array<std::atomic<std::uint64_t>, 4096> proven_{};
};

}  // namespace llm_proxy
