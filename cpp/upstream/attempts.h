#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "routing/failure_table.h"
#include "routing/key_pool.h"

namespace llm_proxy {

// The attempts of one request: which leg, which key, now or later, or nobody any more. Knows no
// sockets: is told the time and how each attempt went.
//
// Owned by its exchange; lives on its worker.
//
//   next() ─► ask ─► answered | failed | abandoned        next() ─► wait, then next()
//               └── failed ─► next()                      next() ─► give_up: refusal()
//
// Whoever is free goes before any waiting, in the order of the legs; only a leg that has just
// failed and promises better within kShortWait is given that time. When nobody is free, the soonest
// limited key is waited for, up to the policy's max_silent_wait; then those that only seem broken
// are asked once after all.
class Attempts {
 public:
  static constexpr int kMostAttempts = 12;
  static constexpr int kMostWaits = 3;
  static constexpr std::chrono::milliseconds kShortWait{2'000};

  struct Leg {
    KeyPool* pool = nullptr;  // outlives the attempts
    std::string_view model;   // likewise
    bool personal = false;    // asked with the client's own credentials: its failures rest no key
    std::optional<std::uint64_t> sticky{};  // as KeyPool's
  };
  struct Step {
    enum class What : std::uint8_t { ask, wait, give_up } what = What::give_up;
    std::size_t leg = 0;
    std::size_t key = 0;
    TimePoint until{};  // of a wait
  };

  Attempts(const FailurePolicy& policy, TimePoint began)
      : policy_(policy),
        began_(began),
        random_(static_cast<std::uint32_t>(began.time_since_epoch().count() / 1000)) {}

  void add(Leg leg) { legs_.push_back({leg}); }

  Step next(TimePoint now);

  // The attempt under way reached its commit point.
  void answered();
  // It failed before that.
  void failed(const Error& error, TimePoint now);
  // It failed after that: counts against the instance, changes nothing for the request.
  void broke(TimePoint now);
  // The client left.
  void abandoned();

  // What the client hears when nobody can serve: what the last upstream said, or that all rest; and
  // when the soonest is free.
  Error refusal(TimePoint now) const;
  // The legs' own words are worth more than ours: the last failure is what refusal() tells.
  bool asked_anybody() const { return last_error_.has_value(); }

 private:
  struct State {
    Leg leg;
    bool done = false;
    bool asked = false;
    int failures = 0;
    TimePoint back_off{};   // asked again not before, and waited for
    TimePoint key_again{};  // its key will be free by then, and is waited for
  };

  Step ask(std::size_t leg, KeyPool::Pick pick);
  Step wait(TimePoint until) const { return {Step::What::wait, 0, 0, until}; }
  std::optional<Step> last_resort(TimePoint now, bool limited);
  std::chrono::milliseconds jitter(std::chrono::milliseconds most);

  const FailurePolicy& policy_;  // of the snapshot
  TimePoint began_;
  std::uint32_t random_;
  std::vector<State> legs_;
  std::size_t current_ = 0;
  KeyPool::Pick pick_;
  bool under_way_ = false;
  bool over_ = false;
  int total_ = 0;
  int waits_ = 0;
  std::optional<Error> last_error_;
};

}  // namespace llm_proxy
