#include "routing/model_index.h"

#include <utility>

namespace llm_proxy {

void ModelIndex::put(const std::string& instance, std::vector<std::string> models) {
  const std::lock_guard lock(mutex_);
  auto& known = by_instance_[instance];
  if (known == models) return;
  known = std::move(models);
  auto fresh = std::make_shared<ByModel>();
  for (const auto& [name, has] : by_instance_) {
    for (const auto& model : has) {
      auto& names = (*fresh)[model];
      if (names.empty() || names.back() != name) names.push_back(name);
    }
  }
  by_model_ = std::move(fresh);
}

std::vector<std::string> ModelIndex::who_has(const std::string& model) const {
  std::shared_ptr<const ByModel> index;
  {
    const std::lock_guard lock(mutex_);
    index = by_model_;
  }
  const auto found = index->find(model);
  return found == index->end() ? std::vector<std::string>() : found->second;
}

std::vector<std::string> ModelIndex::models_of(const std::string& instance) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_instance_.find(instance);
  return found == by_instance_.end() ? std::vector<std::string>() : found->second;
}

}  // namespace llm_proxy
