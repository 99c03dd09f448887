#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "routing/backend.h"

namespace llm_proxy {

// Who is asked first for a model that several backends have.
enum class Preference : std::uint8_t {
  default_first,  // the default backend, then the order of the configuration
  round_robin,    // each in turn
  cost,           // the lowest routing_cost
  priority,       // the highest routing_priority
};

// What the operator says about routes as such: `routing` of the configuration.
struct RoutePolicy {
  // How a client may not say whom it wants; what the operator configured (aliases, chains, the
  // static route) may be named always. Not all three.
  bool no_instances = false;  // "openai.2:gpt-4.1"
  bool no_backends = false;   // "openai:gpt-4.1"
  bool no_models = false;     // "gpt-4.1"
  Preference preference = Preference::default_first;
  std::map<std::string, Preference, std::less<>> by_model;  // counts before
  std::map<std::string, Preference, std::less<>>
      by_backend;  // where all who have it are of this row

  bool forbids_any() const { return no_instances || no_backends || no_models; }
  // `backend`: what stands before the model, if that is one. forbidden (policy_rejected) says how
  // to name it instead.
  Result<void> allows(std::string_view backend) const;

  // For a model that these have.
  Preference preference_for(std::string_view model,
                            const std::vector<const Backend*>& holders) const;
};

}  // namespace llm_proxy
