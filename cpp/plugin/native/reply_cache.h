#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "plugin/native/chat_view.h"

namespace llm_proxy {

// Answers by key, bounded in bytes and age; the one asked for longest ago goes first.
// Shared by all workers and the lane: a leaf mutex, held for a look-up or a copy.
class ReplyCache {
 public:
  struct Stats {
    std::size_t entries, bytes;
    std::uint64_t hits, misses;
  };

  ReplyCache(double seconds, std::size_t max_bytes);

  // `now` in seconds of the steady clock, here and below.
  std::optional<std::string> find(const std::string& key, double now);
  void put(std::string_view key, std::string_view reply, double now);
  void clear();
  Stats stats() const;

 private:
  struct Row {
    std::string key, reply;
    double until;
  };
  using Rows = std::list<Row>;  // the last is the one asked for last
  using Index = std::unordered_map<std::string_view, Rows::iterator>;

  void drop(Index::iterator found);

  const double seconds_;
  const std::size_t max_bytes_;
  mutable std::mutex mutex_;
  Rows rows_;
  Index by_key_;           // views of the rows' keys
  std::size_t bytes_ = 0;  // what the rows' replies take, room for more included
  std::uint64_t hits_ = 0, misses_ = 0;
};

// The key of a request's answer: of the tenant, and of everything in the request that can change an
// answer, whatever its order. 64 hex digits.
std::string cache_key(const ChatRequestView& request, std::string_view tenant);

}  // namespace llm_proxy
