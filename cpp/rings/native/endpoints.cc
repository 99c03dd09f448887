#include "rings/native/endpoints.h"

namespace llm_proxy {

void EndpointStats::learn(const std::string& id, double latency_ms, bool success) {
  const double got = success ? 1.0 : 0.0;
  const std::lock_guard lock(mutex_);
  const auto [at, first] = rows_.try_emplace(id, Row{latency_ms, got, 1});
  if (first) return;
  Row& row = at->second;
  row.latency_ms += kAlpha * (latency_ms - row.latency_ms);
  row.success += kAlpha * (got - row.success);
  row.count += 1;
}

std::optional<EndpointStats::Row> EndpointStats::get(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = rows_.find(id);
  return found == rows_.end() ? std::nullopt : std::optional(found->second);
}

void EndpointStats::set(const std::string& id, Row row) {
  const std::lock_guard lock(mutex_);
  rows_[id] = row;
}

bool EndpointStats::erase(const std::string& id) {
  const std::lock_guard lock(mutex_);
  return rows_.erase(id) > 0;
}

std::vector<std::string> EndpointStats::ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  for (const auto& [id, row] : rows_) out.push_back(id);
  return out;
}

bool EndpointBreaker::closed() const {
  const std::lock_guard lock(mutex_);
  return failures_ < kOpenAfter;
}

bool EndpointBreaker::can_execute(double now) {
  const std::lock_guard lock(mutex_);
  if (failures_ < kOpenAfter) return true;
  if (now < next_try_) return false;
  next_try_ = now + kOpenSeconds;  // should nobody report, there is another try later
  return true;
}

void EndpointBreaker::report(bool success, double now) {
  const std::lock_guard lock(mutex_);
  failures_ = success ? 0 : failures_ + 1;
  if (failures_ >= kOpenAfter) next_try_ = now + kOpenSeconds;
}

void EndpointPool::set(std::vector<Endpoint> endpoints) {
  for (Endpoint& endpoint : endpoints) endpoint.breaker = breaker(endpoint.id);
  auto made = std::make_shared<const std::vector<Endpoint>>(std::move(endpoints));
  const std::lock_guard lock(mutex_);
  endpoints_.swap(made);
}

EndpointPool::Endpoints EndpointPool::get() const {
  const std::lock_guard lock(mutex_);
  return endpoints_;
}

std::shared_ptr<EndpointBreaker> EndpointPool::breaker(const std::string& id) {
  const std::lock_guard lock(mutex_);
  auto& row = breakers_[id];
  if (!row) row = std::make_shared<EndpointBreaker>();
  return row;
}

}  // namespace llm_proxy
