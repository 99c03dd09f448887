#include "rings/ring_records.h"

#include <algorithm>

namespace llm_proxy {

void RingTimes::began(std::shared_ptr<RingTrace> trace) {
  std::shared_ptr<RingTrace> oldest;
  const std::lock_guard lock(mutex_);
  if (traces_.size() == kTraces) {
    oldest = std::move(traces_.front());
    traces_.pop_front();
  }
  traces_.push_back(std::move(trace));
}

void RingTimes::took(RingTrace& trace, std::vector<RingTrace::Step> steps) {
  std::array<float, kRings.size()> total{};
  RingSet ran;
  for (const auto& step : steps) {
    total[static_cast<std::size_t>(step.ring)] += step.ms;
    ran.add(step.ring);
  }
  const std::lock_guard lock(mutex_);
  if (trace.steps.empty()) {
    trace.steps = std::move(steps);
  } else {
    trace.steps.insert(trace.steps.end(), steps.begin(), steps.end());
  }
  for (const Ring ring : kRings) {
    if (!ran.has(ring)) continue;
    auto& window = windows_[static_cast<std::size_t>(ring)];
    if (window.size() == kWindow) window.pop_front();
    window.push_back(total[static_cast<std::size_t>(ring)]);
  }
}

std::vector<RingTimes::Shown> RingTimes::traces() const {
  const std::lock_guard lock(mutex_);
  std::vector<Shown> out;
  for (const auto& trace : traces_) out.push_back({trace, trace->steps});
  return out;
}

std::vector<float> RingTimes::window(Ring ring) const {
  const std::lock_guard lock(mutex_);
  const auto& kept = windows_[static_cast<std::size_t>(ring)];
  return {kept.begin(), kept.end()};
}

void PluginRecord::count_run(double latency_ms) {
  PluginNumbers& now = numbers_;
  if (now.latencies_ms.size() < kWindow) {
    now.latencies_ms.push_back(static_cast<float>(latency_ms));
  } else {
    now.latencies_ms[now.invocations % kWindow] = static_cast<float>(latency_ms);
  }
  ++now.invocations;
  now.total_latency_ms += latency_ms;
}

void PluginRecord::ended(double latency_ms) {
  const std::lock_guard lock(mutex_);
  count_run(latency_ms);
  if (numbers_.consecutive_errors == 0) return;
  numbers_.consecutive_errors = 0;
  failed_requests_.clear();
  failed_clients_.clear();
}

void PluginRecord::failed(double latency_ms, RunOrigin origin) {
  const auto note = [](std::vector<std::uint64_t>& known, std::uint64_t one, std::size_t most) {
    if (known.size() < most && std::find(known.begin(), known.end(), one) == known.end()) {
      known.push_back(one);
    }
    return known.size() == most;
  };
  const std::lock_guard lock(mutex_);
  count_run(latency_ms);
  ++numbers_.errors;
  ++numbers_.consecutive_errors;
  const bool many = note(failed_requests_, origin.request, kQuarantineRequests);
  const bool several = note(failed_clients_, origin.client, kQuarantineClients);
  if (!many || !several) return;
  numbers_.quarantined_until =
      (std::chrono::steady_clock::now() + kQuarantine).time_since_epoch().count();
  quarantined_.store(true, std::memory_order_relaxed);
}

bool PluginRecord::rests(std::chrono::steady_clock::time_point now) {
  if (!quarantined_.load(std::memory_order_relaxed)) return false;
  const std::lock_guard lock(mutex_);
  if (numbers_.quarantined_until == 0) return false;
  if (now.time_since_epoch().count() < numbers_.quarantined_until) return true;
  numbers_.quarantined_until = 0;
  quarantined_.store(false, std::memory_order_relaxed);
  numbers_.consecutive_errors = 0;
  failed_requests_.clear();
  failed_clients_.clear();
  return false;
}

PluginNumbers PluginRecord::numbers() const {
  const std::lock_guard lock(mutex_);
  return numbers_;
}

}  // namespace llm_proxy
