#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rings/native/chat_view.h"

namespace llm_proxy {

// Answers by key, bounded in bytes and age; what nobody has asked for in a while goes first.
// Shared by all workers and the lane: a leaf mutex, held for a look-up or a copy.
//
// The answers stand one behind the other in a log that starts over at its end, so that a full cache
// neither allocates nor frees: thousands of answers among an exchange's own pieces of memory would
// leave the heap in shreds, which every later exchange pays for. What is asked for in the older
// half of the log is written anew. Whether the log still has what the index names is told by its
// place.
class ReplyCache {
 public:
  struct Stats {
    std::size_t entries, bytes;
    std::uint64_t hits, misses;
  };

  // Keeps replies of up to an eighth of `max_bytes`, which are taken as they are needed.
  ReplyCache(double seconds, std::size_t max_bytes);

  // `now` in seconds of the steady clock, here and below.
  std::optional<std::string> find(std::string_view key, double now);
  void put(std::string_view key, std::string_view reply, double now);
  void clear();
  Stats stats() const;

 private:
  struct Record {  // of the log; its key and its reply follow
    double until;
    std::size_t key_size, reply_size;
  };
  struct Slot {
    std::uint64_t hash = 0;
    std::uint64_t place = 0;  // in all that was ever written; what is empty is older than the log
  };
  // A cache line. A full one forgets its oldest.
  using Bucket = std::array<Slot, 4>;

  static std::size_t record_size(std::string_view key, std::string_view reply);
  Bucket& bucket_of(std::uint64_t hash) { return index_[hash & (index_.size() - 1)]; }
  bool holds(std::uint64_t place) const { return place + capacity_ >= end_; }
  void append(std::uint64_t hash, std::string_view key, std::string_view reply, double until);

  const double seconds_;
  const std::size_t capacity_;  // of the log
  mutable std::mutex mutex_;
  std::unique_ptr<char[]> log_;  // null until something is kept
  std::vector<Bucket> index_;
  std::uint64_t end_;  // the place behind the newest record
  std::uint64_t hits_ = 0, misses_ = 0;
};

// The key of a request's answer: of the tenant, and of everything in the request that can change an
// answer, whatever its order. 64 hex digits.
std::string cache_key(const ChatRequestView& request, std::string_view tenant);

}  // namespace llm_proxy
