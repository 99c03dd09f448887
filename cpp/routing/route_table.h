#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "routing/backend.h"

namespace llm_proxy {

// One leg of a route: this backend, asked for this model.
struct Candidate {
  const Backend* backend = nullptr;  // lives as long as the snapshot
  std::string model;
};

// Who may answer a request, in the order to try.
struct Route {
  std::vector<Candidate> candidates;
  std::chrono::milliseconds first_token{0};  // of a stream, until its first output; 0: the general
};

// A named chain of legs: "backend:model" or whatever else a client could name.
struct FailoverRoute {
  std::vector<std::string> elements;
  std::chrono::milliseconds first_token{0};
};

// Decides from the model a client names which backends may answer. Immutable part of a snapshot;
// read by all workers.
class RouteTable {
 public:
  struct Settings {
    std::string default_backend;  // instance name; empty: the first one
    std::string default_model;    // empty: the client's
    std::map<std::string, std::string> aliases;
    // By model: the whole chain for it. "default" or "*": appended to every other model's own.
    std::map<std::string, FailoverRoute> failover_routes;
  };

  // `backends` outlives the table. An Error names what is valid where default_backend or a leg of a
  // failover route names no backend.
  static Result<RouteTable> build(const std::vector<Backend>& backends, Settings settings);

  // `model` as the client wrote it: "gpt-4.1", "openai:gpt-4.1", "openai.2:gpt-4.1", an alias, or
  // nothing (then the default model). unknown_model names what would have been valid.
  Result<Route> resolve(std::string_view model) const;

  const Backend* named(std::string_view instance) const;
  const Backend* default_backend() const { return default_; }
  const std::vector<Backend>& backends() const { return *backends_; }
  const std::map<std::string, std::string>& aliases() const { return settings_.aliases; }

 private:
  std::string names() const;
  Result<Route> resolve_one(std::string_view model) const;
  Result<void> append_legs(const FailoverRoute& chain, Route& route) const;

  const std::vector<Backend>* backends_ = nullptr;
  const Backend* default_ = nullptr;
  Settings settings_;
  std::map<std::string, const Backend*, std::less<>> by_name_;
  std::map<std::string, std::vector<const Backend*>, std::less<>> by_model_;
};

}  // namespace llm_proxy
