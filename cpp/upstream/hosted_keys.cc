#include "upstream/hosted_keys.h"

#include <utility>

namespace llm_proxy {

const std::string* HostedKeys::held(const BackendHost& host, const std::string& instance,
                                    std::int64_t now) const {
  const auto found = entries_.find({&host, instance});
  if (found == entries_.end()) return nullptr;
  const auto& key = found->second->key;
  return key.value.empty() || key.expires - kMarginMillis <= now ? nullptr : &key.value;
}

void HostedKeys::ask(BackendHost& host, const std::string& instance, WorkerPost& worker,
                     Done done) {
  auto& entry = entries_[{&host, instance}];
  if (!entry) entry = std::make_shared<Entry>();
  entry->waiting.push_back(std::move(done));
  if (entry->waiting.size() > 1) return;
  host.key(instance, entry->refused, worker, [entry](const Result<HostedKey>& key) {
    if (key) {
      entry->key = *key;
      entry->refused.clear();
    }
    for (const auto& waiting : std::exchange(entry->waiting, {})) waiting(key);
  });
}

void HostedKeys::refused(const BackendHost& host, const std::string& instance,
                         std::string_view key) {
  const auto found = entries_.find({&host, instance});
  if (found == entries_.end() || found->second->key.value != key) return;
  found->second->refused = std::exchange(found->second->key, {}).value;
}

}  // namespace llm_proxy
