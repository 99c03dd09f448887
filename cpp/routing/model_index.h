#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace llm_proxy {

// Which instances say that they have a model.
//
// One a server, kept over reloads. Called on every worker: one short lock a call. As large as the
// lists that were put in, which whoever asks for them bounds.
class ModelIndex {
 public:
  // What this instance has from now on.
  void put(const std::string& instance, std::vector<std::string> models);
  // By name; in the order of the instances' names.
  std::vector<std::string> who_has(const std::string& model) const;
  // What this instance has; nothing if it has never said so.
  std::vector<std::string> models_of(const std::string& instance) const;

 private:
  using ByModel = std::unordered_map<std::string, std::vector<std::string>>;

  mutable std::mutex mutex_;
  std::map<std::string, std::vector<std::string>> by_instance_;
  std::shared_ptr<const ByModel> by_model_ = std::make_shared<ByModel>();
};

}  // namespace llm_proxy
