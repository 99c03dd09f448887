#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "base/clock.h"

namespace llm_proxy {

// Keeps requests from an upstream that does not work, and finds out soon when it works again.
//
// A plain value on the caller's clock; its owner guards it.
//
//   closed ─ `failure_threshold` failures in a row ─► open ─ cool-down ─► half_open: one probe
//      ▲────────────── any success ────────────┴──── a failure: open again, twice as long
class Breaker {
 public:
  enum class State : std::uint8_t { closed, open, half_open };

  // After a recovery the upstream is asked again within this, or within the first cool-down if that
  // is longer, and the length of one probe.
  static constexpr std::chrono::milliseconds kLongestCoolDown{20'000};

  struct Limits {
    bool enabled = true;
    int failure_threshold = 5;
    std::chrono::milliseconds open_cooldown_seconds{5'000};
  };
  // Whatever it is at, from now on.
  void limit(const Limits& limits) { limits_ = limits; }

  // Whether a request may go there now.
  bool allows(TimePoint now) const {
    return state_ == State::closed || (!probing_ && now >= until_);
  }
  // A request goes there. True: it is the probe; on_failure and on_abandoned want to know.
  bool begin(TimePoint now) {
    if (state_ == State::closed || probing_ || now < until_) return false;
    state_ = State::half_open;
    return probing_ = true;
  }
  void on_success() {
    const auto limits = limits_;
    *this = {};
    limits_ = limits;
  }
  void on_failure(TimePoint now, bool probe) {
    if (state_ == State::closed) {
      if (limits_.enabled && ++failures_ >= limits_.failure_threshold)
        open(now, limits_.open_cooldown_seconds);
    } else if (probe) {
      const auto longest = std::max(kLongestCoolDown, limits_.open_cooldown_seconds);
      open(now, std::min(cool_down_ * 2, longest));
    }
  }
  // The client left before the probe was over: the next request probes.
  void on_abandoned(bool probe) {
    if (probe) probing_ = false;
  }

  State state() const { return state_; }
  TimePoint until() const { return until_; }

 private:
  void open(TimePoint now, std::chrono::milliseconds cool_down) {
    state_ = State::open;
    cool_down_ = cool_down;
    until_ = now + cool_down;
    probing_ = false;
  }

  State state_ = State::closed;
  int failures_ = 0;
  Limits limits_;
  std::chrono::milliseconds cool_down_{0};
  TimePoint until_{};
  bool probing_ = false;
};

}  // namespace llm_proxy
