#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace llm_proxy {

// What the smart router has learnt of each backend. Shared by all workers and the lane: a leaf
// mutex. As many rows as there are backends.
class EndpointStats {
 public:
  static constexpr double kAlpha = 0.2;

  struct Row {
    double latency_ms = 0, success = 1, count = 0;
  };

  // Moves the averages by one result; the first sample is the average.
  void learn(const std::string& id, double latency_ms, bool success);
  std::optional<Row> get(const std::string& id) const;
  void set(const std::string& id, Row row);
  bool erase(const std::string& id);
  std::vector<std::string> ids() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, Row> rows_;
};

// Closed until so many failures in a row; then one try after each pause.
class EndpointBreaker {
 public:
  static constexpr int kOpenAfter = 5;
  static constexpr double kOpenSeconds = 60;

  bool closed() const;
  // `now` in seconds of any clock, always the same.
  bool can_execute(double now);
  void report(bool success, double now);

 private:
  mutable std::mutex mutex_;
  int failures_ = 0;
  double next_try_ = 0;
};

// The backends plugins may choose from, and their breakers.
class EndpointPool {
 public:
  struct Endpoint {
    std::string id;
    std::vector<std::string> models;
    std::shared_ptr<EndpointBreaker> breaker = nullptr;  // given by the pool
  };
  using Endpoints = std::shared_ptr<const std::vector<Endpoint>>;

  void set(std::vector<Endpoint> endpoints);
  Endpoints get() const;
  std::shared_ptr<EndpointBreaker> breaker(const std::string& id);

 private:
  mutable std::mutex mutex_;
  Endpoints endpoints_ = std::make_shared<const std::vector<Endpoint>>();
  std::map<std::string, std::shared_ptr<EndpointBreaker>> breakers_;
};

}  // namespace llm_proxy
