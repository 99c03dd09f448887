#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/fair_list.h"
#include "routing/call_params.h"
#include "routing/command_text.h"
#include "routing/route_table.h"

namespace llm_proxy {

// What a session's commands have set. An empty member leaves the request's own.
struct SessionState {
  static constexpr std::size_t kMaxRoutes = 16;
  static constexpr std::size_t kMaxElements = 16;

  struct Chain {
    std::string policy;
    std::vector<std::string> elements;
  };

  std::string backend;
  std::string model;   // a selector
  std::string oneoff;  // a selector for the next request that reaches a backend
  CallParams params;
  std::string project;
  std::string project_dir;
  std::string prefix;  // of its commands
  std::map<std::string, Chain, std::less<>> routes;

  bool empty() const {
    return backend.empty() && model.empty() && oneoff.empty() && params.empty() &&
           project.empty() && project_dir.empty() && prefix.empty() && routes.empty();
  }
};

// The selector a request is routed by: `model` as the client named it, unless
// the session's commands say otherwise. Whoever typed a command meant it: it
// counts more than the model its client is configured with.
std::string session_selector(const SessionState& state, std::string_view model,
                             const RouteTable& routes);

// Sessions by what identifies them, with what their commands have set. Those
// that nobody uses for `ttl` are forgotten; beyond kMaxSessions, the one that its owner has not
// used for longest, of the owner that has the most. The first kOwnerBytes of a session's id say
// whose it is.
//
// Owned by the server; called on every worker, one short lock a call. Sessions
// nothing was set in are not kept.
class SessionStore {
 public:
  static constexpr std::size_t kMaxSessions = 10'000;
  static constexpr std::size_t kOwnerBytes = 16;

  // How a session was recognised: a request that names its own need not be read for others.
  enum class Kind : std::uint8_t { named, derived };

  // Whether nobody has set anything, in any session or in those of a kind: a look that needs no
  // lock.
  bool empty() const { return size_.load(std::memory_order_relaxed) == 0; }
  bool empty(Kind kind) const {
    const auto derived = derived_.load(std::memory_order_relaxed);
    return kind == Kind::derived ? derived == 0 : size() == derived;
  }
  std::size_t size() const { return size_.load(std::memory_order_relaxed); }

  // Its state, and its time begins anew.
  std::optional<SessionState> find(std::string_view id, TimePoint now,
                                   std::chrono::milliseconds ttl);
  void put(std::string_view id, Kind kind, SessionState state, TimePoint now);
  // Takes the one-off away, if it is still `selector`.
  void use_oneoff(std::string_view id, std::string_view selector);
  // Whether this is the session's first request with a [first] leg; from now on
  // it is not.
  bool first_request(std::string_view id, Kind kind, TimePoint now, std::chrono::milliseconds ttl);

 private:
  struct Entry {
    std::string id;
    Kind kind = Kind::named;
    SessionState state;
    bool first_used = false;
    TimePoint used{};
  };
  using Place = FairList<Entry>::Place;

  void drop_old(TimePoint now, std::chrono::milliseconds ttl);
  Entry* touch(std::string_view id, TimePoint now, std::chrono::milliseconds ttl);
  Entry& make(std::string_view id, Kind kind, TimePoint now);
  void erase(Place place);

  std::mutex mutex_;
  FairList<Entry> entries_;                // of each owner, longest unused first
  TimePoint next_old_ = TimePoint::max();  // before it nothing is too old
  std::unordered_map<std::string_view, Place> by_id_;
  std::atomic<std::size_t> size_{0};
  std::atomic<std::size_t> derived_{0};
};

}  // namespace llm_proxy
