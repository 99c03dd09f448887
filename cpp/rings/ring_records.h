#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "rings/ring_host.h"

namespace llm_proxy {

// Numbers of one plugin, kept across generations by whoever publishes them.
struct PluginNumbers {
  std::uint64_t invocations = 0;
  std::uint64_t errors = 0;
  std::uint64_t blocks = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t left_behind = 0;  // timed out and did not even stop when cancelled
  double total_latency_ms = 0;
  std::uint32_t consecutive_errors = 0;
  std::int64_t quarantined_until = 0;  // steady clock, ns; 0: not
  std::vector<float> latencies_ms;     // a ring buffer once full
};

// Who caused a run of a plugin: its client and its request, as hashes.
struct RunOrigin {
  std::uint64_t client = 0;
  std::uint64_t request = 0;
};

// Counts them: on the lane, and on the workers where the plugin is a native one. A leaf mutex.
//
// A plugin that fails and fails rests for a while (quarantine). One client must not be able to
// bring that about for others: the failures in a row have to come from several requests of several
// clients, none of whom the plugin served in between.
class PluginRecord {
 public:
  static constexpr std::size_t kWindow = 500;  // latencies kept for percentiles
  static constexpr std::size_t kQuarantineRequests = 10;
  static constexpr std::size_t kQuarantineClients = 3;
  static constexpr std::chrono::seconds kQuarantine{60};

  void ended(double latency_ms);
  void failed(double latency_ms, RunOrigin origin);
  void blocked() { count(&PluginNumbers::blocks); }
  void timed_out() { count(&PluginNumbers::timeouts); }
  void left_behind() { count(&PluginNumbers::left_behind); }
  // Failed too often and rests. A rest that is over is forgotten.
  bool rests(std::chrono::steady_clock::time_point now);
  PluginNumbers numbers() const;

 private:
  void count_run(double latency_ms);
  void count(std::uint64_t PluginNumbers::*what) {
    const std::lock_guard lock(mutex_);
    ++(numbers_.*what);
  }

  mutable std::mutex mutex_;
  PluginNumbers numbers_;
  // Of the failures in a row: the first so many distinct ones.
  std::vector<std::uint64_t> failed_requests_, failed_clients_;
  std::atomic<bool> quarantined_{false};  // numbers_.quarantined_until is not 0
};

// What the plugins of one exchange took.
struct RingTrace {
  struct Step {
    Ring ring;
    std::shared_ptr<const std::string> plugin;
    float ms;
  };

  std::string request_id;
  double arrived_at = 0;    // Unix seconds
  std::vector<Step> steps;  // guarded by the RingTimes that know it
  // Known when the exchange has ended, on its worker; negative: not yet, or there was none.
  std::atomic<float> total_ms{-1}, upstream_ms{-1}, first_token_ms{-1};
};

// The last exchanges' traces, and the last times of each ring. Any thread: a leaf mutex.
class RingTimes {
 public:
  static constexpr std::size_t kTraces = 100;
  static constexpr std::size_t kWindow = 500;

  void began(std::shared_ptr<RingTrace> trace);
  // A chain has ended: its steps are added to its trace.
  void took(RingTrace& trace, std::vector<RingTrace::Step> steps);

  struct Shown {
    std::shared_ptr<const RingTrace> trace;
    std::vector<RingTrace::Step> steps;
  };
  std::vector<Shown> traces() const;  // oldest first
  std::vector<float> window(Ring ring) const;

 private:
  mutable std::mutex mutex_;
  std::deque<std::shared_ptr<RingTrace>> traces_;
  std::array<std::deque<float>, kRings.size()> windows_;
};

}  // namespace llm_proxy
