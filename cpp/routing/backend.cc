#include "routing/backend.h"

namespace llm_proxy {

std::string sent_name(const Backend& backend, std::string_view model) {
  for (const auto& prefix : backend.vendor_prefixes) {
    if (model.size() > prefix.size() && model.starts_with(prefix)) {
      model.remove_prefix(prefix.size());
      break;
    }
  }
  const auto known = backend.model_names.find(model);
  return known == backend.model_names.end() ? std::string(model) : known->second;
}

}  // namespace llm_proxy
