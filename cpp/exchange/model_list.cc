#include "exchange/model_list.h"

#include <set>

namespace llm_proxy {

std::vector<ListedModel> list_models(const RouteTable& routes,
                                     const std::vector<HostedModels>& hosted) {
  std::vector<ListedModel> out;
  std::set<std::string, std::less<>> seen;
  const auto add = [&](std::string id, const std::string& owner) {
    if (routes.permitted(id) && seen.insert(id).second) out.push_back({std::move(id), owner});
  };
  for (const auto& backend : routes.backends()) {
    for (const auto& model : backend.models) {
      // A second backend with the same model is reached by its own name.
      add(seen.contains(model) ? backend.name + ":" + model : model, backend.name);
    }
  }
  for (const auto& backend : hosted) {
    const Backend* known = routes.named(backend.instance);
    if (known == nullptr || !known->models.empty())
      continue;  // what the configuration lists, counts
    for (const auto& model : backend.models) {
      add(known == routes.default_backend() ? model : backend.instance + ":" + model,
          backend.instance);
    }
  }
  for (auto& alias : routes.alias_names()) add(std::move(alias), "alias");
  return out;
}

}  // namespace llm_proxy
