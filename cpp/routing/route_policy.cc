#include "routing/route_policy.h"

#include <algorithm>

namespace llm_proxy {

Result<void> RoutePolicy::allows(std::string_view backend) const {
  const bool instance = backend.find('.') != backend.npos;
  if (!(backend.empty() ? no_models : instance ? no_instances : no_backends)) return {};
  std::string forms;
  const auto offer = [&forms](bool no, std::string_view form) {
    if (!no) forms.append(forms.empty() ? "" : " or ").append(form);
  };
  offer(no_models, "model");
  offer(no_backends, "backend:model");
  offer(no_instances, "backend.instance:model");
  Error out{ErrorKind::forbidden, "model: whoever runs this proxy has switched off " +
                                      std::string(backend.empty() ? "models without a backend"
                                                  : instance      ? "naming an instance"
                                                                  : "naming a backend") +
                                      "; write " + forms};
  out.code = "policy_rejected";
  out.param = "model";
  return out;
}

Preference RoutePolicy::preference_for(std::string_view model,
                                       const std::vector<const Backend*>& holders) const {
  if (const auto own = by_model.find(model); own != by_model.end()) return own->second;
  if (by_backend.empty() || holders.empty()) return preference;
  const auto& type = holders.front()->type;
  const auto family = by_backend.find(type);
  const bool all = std::all_of(holders.begin(), holders.end(),
                               [&](const Backend* holder) { return holder->type == type; });
  return family != by_backend.end() && all ? family->second : preference;
}

}  // namespace llm_proxy
