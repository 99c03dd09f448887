#include "routing/route_policy.h"

#include <algorithm>

namespace llm_proxy {

Result<void> RoutePolicy::allows(std::string_view backend) const {
  const bool instance = backend.find('.') != backend.npos;
  if (!(backend.empty() ? disable_model_names
        : instance      ? disable_backend_ids
                        : disable_backend_names))
    return {};
  std::string forms;
  const auto offer = [&forms](bool no, std::string_view form) {
    if (!no) forms.append(forms.empty() ? "" : " or ").append(form);
  };
  offer(disable_model_names, "model");
  offer(disable_backend_names, "backend:model");
  offer(disable_backend_ids, "backend.instance:model");
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
  if (const auto own = model_only_model_overrides.find(model);
      own != model_only_model_overrides.end())
    return own->second;
  if (model_only_backend_family_overrides.empty() || holders.empty())
    return model_only_preference_policy;
  const auto& type = holders.front()->type;
  const auto family = model_only_backend_family_overrides.find(type);
  const bool all = std::all_of(holders.begin(), holders.end(),
                               [&](const Backend* holder) { return holder->type == type; });
  return family != model_only_backend_family_overrides.end() && all ? family->second
                                                                    : model_only_preference_policy;
}

}  // namespace llm_proxy
