#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace llm_proxy {

using TimePoint = std::chrono::steady_clock::time_point;

// Where the engine gets the time from, so that tests can own it. Thread safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;             // for deadlines and durations
  virtual std::int64_t unix_millis() const = 0;  // for records and headers
  std::int64_t unix_seconds() const { return unix_millis() / 1000; }
};

// The machine's clocks.
class SteadyClock final : public Clock {
 public:
  TimePoint now() const override { return std::chrono::steady_clock::now(); }
  std::int64_t unix_millis() const override {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
};

// A clock that stands still until a test moves it.
class VirtualClock final : public Clock {
 public:
  explicit VirtualClock(std::int64_t unix_millis = 1'700'000'000'000) : unix_start_(unix_millis) {}

  TimePoint now() const override {
    return TimePoint(std::chrono::milliseconds(1'000'000 + elapsed_.load()));
  }
  std::int64_t unix_millis() const override { return unix_start_ + elapsed_.load(); }
  void advance(std::chrono::milliseconds by) { elapsed_.fetch_add(by.count()); }

 private:
  const std::int64_t unix_start_;
  std::atomic<std::int64_t> elapsed_{0};
};

}  // namespace llm_proxy
