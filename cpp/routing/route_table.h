#pragma once

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
};

// Decides from the model a client names which backends may answer. Immutable part of a snapshot;
// read by all workers.
class RouteTable {
 public:
  struct Settings {
    std::string default_backend;  // instance name; empty: the first one
    std::string default_model;    // empty: the client's
    std::map<std::string, std::string> aliases;
  };

  // `backends` outlives the table. invalid default_backend: an Error naming the valid ones.
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

  const std::vector<Backend>* backends_ = nullptr;
  const Backend* default_ = nullptr;
  Settings settings_;
  std::map<std::string, const Backend*, std::less<>> by_name_;
  std::map<std::string, std::vector<const Backend*>, std::less<>> by_model_;
};

}  // namespace llm_proxy
