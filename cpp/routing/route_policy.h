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
  bool disable_backend_ids = false;    // "openai.2:gpt-4.1"
  bool disable_backend_names = false;  // "openai:gpt-4.1"
  bool disable_model_names = false;    // "gpt-4.1"
  Preference model_only_preference_policy = Preference::default_first;
  std::map<std::string, Preference, std::less<>> model_only_model_overrides;  // counts before
  std::map<std::string, Preference, std::less<>>
      model_only_backend_family_overrides;  // where all who have it are of this row

  bool forbids_any() const {
    return disable_backend_ids || disable_backend_names || disable_model_names;
  }
  // `backend`: what stands before the model, if that is one. forbidden (policy_rejected) says how
  // to name it instead.
  Result<void> allows(std::string_view backend) const;

  // For a model that these have.
  Preference preference_for(std::string_view model,
                            const std::vector<const Backend*>& holders) const;
};

}  // namespace llm_proxy
