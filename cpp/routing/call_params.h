#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llm_proxy {

// What a selector ("?temperature=0.2&reasoning_effort=high") or a session's commands set in a
// request, over what its body says. Empty members leave the body's.
struct CallParams {
  std::string temperature;  // numbers in the spelling they came in
  std::string top_p;
  std::string top_k;
  std::string reasoning_effort;  // none, low, medium, high, xhigh, max
  std::string thinking_budget;   // tokens
  std::string verbosity;

  bool empty() const {
    return temperature.empty() && top_p.empty() && top_k.empty() && reasoning_effort.empty() &&
           thinking_budget.empty() && verbosity.empty();
  }
  // What `over` sets replaces ours.
  void override_with(const CallParams& over);
};

// Sets one by its name; an Error (malformed_request) names the values that are valid. `name` may be
// spelt with "-" for "_". Unknown names are not_found.
Result<void> set_param(CallParams& params, std::string_view name, std::string_view value);
// "temperature, top_p, …"
std::string param_names();
// The member of that name; null if there is none.
const std::string* find_param(const CallParams& params, std::string_view name);
// "temperature=0.2, reasoning_effort=high"; empty if none is set.
std::string describe(const CallParams& params);

}  // namespace llm_proxy
