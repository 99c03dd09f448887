#include "upstream/model_cache.h"

#include <algorithm>
#include <utility>

#include "formats/format.h"
#include "json/reader.h"

namespace llm_proxy {
namespace {

// Some servers put this before their JSON so that no page can run it as a script.
constexpr std::string_view kGuard = ")]}'";

}  // namespace

bool ModelCache::can_list(const Backend& backend, List list) {
  return backend.kind == Backend::Kind::http && backend.models.empty() &&
         backend.only_models.empty() && !backend.hosted_key &&
         (list == List::own || !backend.cloud_models_url.empty());
}

ModelCache::Entry& ModelCache::entry(const Due& asked) {
  const auto& backend = *asked.backend;
  const auto& url = asked.list == List::own ? backend.base_url : backend.cloud_models_url;
  auto& out = entries_[{backend.name, asked.list}];
  if (out.url != url) {
    if (out.models) index_->put(backend.name, {});  // of another server
    out = {};
    out.url = url;
  }
  return out;
}

const ModelCache::Entry* ModelCache::find(const Backend& backend, List list) const {
  const auto found = entries_.find({backend.name, list});
  const auto& url = list == List::own ? backend.base_url : backend.cloud_models_url;
  if (found == entries_.end() || found->second.url != url) return nullptr;
  return &found->second;
}

// Its own; and those of its maker's cloud, which nobody but it would pass on.
std::optional<std::vector<std::string>> ModelCache::models_of(const Backend& backend) const {
  const auto* own = find(backend, List::own);
  if (own == nullptr || !own->models) return std::nullopt;
  auto out = *own->models;
  if (const auto* cloud = find(backend, List::cloud); cloud != nullptr && cloud->models) {
    for (const auto& model : *cloud->models) {
      auto name = model + (model.find(':') == model.npos ? ":cloud" : "-cloud");
      if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(std::move(name));
    }
  }
  return out;
}

std::vector<ModelCache::Due> ModelCache::take_due(const std::vector<Backend>& backends,
                                                  std::chrono::milliseconds fresh, TimePoint now) {
  const std::lock_guard lock(mutex_);
  fresh_ = fresh;
  std::vector<Due> out;
  decltype(entries_) kept;
  for (const auto& backend : backends) {
    for (const auto list : {List::own, List::cloud}) {
      if (!can_list(backend, list)) continue;
      auto& known = entry({&backend, list});
      if (!known.asking && known.next <= now) {
        known.asking = true;
        out.push_back({&backend, list});
      }
      kept.insert(entries_.extract({backend.name, list}));
    }
  }
  entries_ = std::move(kept);  // what no backend has any more is forgotten
  return out;
}

void ModelCache::answered(const Due& asked, std::vector<std::string> models, TimePoint now) {
  if (models.size() > kMaxModels) models.resize(kMaxModels);
  const std::lock_guard lock(mutex_);
  auto& known = entry(asked);
  known.models = std::move(models);
  known.next = now + (asked.list == List::own ? fresh_ : kCloudFresh);
  known.asking = false;
  known.heard = true;
  known.last_error.clear();
  if (auto all = models_of(*asked.backend)) index_->put(asked.backend->name, *std::move(all));
}

void ModelCache::failed(const Due& asked, const Error& error, TimePoint now) {
  const std::lock_guard lock(mutex_);
  auto& known = entry(asked);
  known.next = now + kAfterFailure;
  known.asking = false;
  known.heard = true;
  known.last_error = name(error.kind);
}

bool ModelCache::waits_for_first(const std::vector<Backend>& backends) const {
  const std::lock_guard lock(mutex_);
  for (const auto& backend : backends) {
    for (const auto list : {List::own, List::cloud}) {
      if (!can_list(backend, list)) continue;
      const auto* known = find(backend, list);
      if (known == nullptr || !known->heard) return true;
    }
  }
  return false;
}

std::vector<HostedModels> ModelCache::known(const std::vector<Backend>& backends) const {
  const std::lock_guard lock(mutex_);
  std::vector<HostedModels> out;
  for (const auto& backend : backends) {
    if (!can_list(backend)) continue;
    if (auto models = models_of(backend)) out.push_back({backend.name, *std::move(models)});
  }
  return out;
}

std::vector<ModelCache::Listing> ModelCache::listings(const std::vector<Backend>& backends) const {
  const std::lock_guard lock(mutex_);
  std::vector<Listing> out;
  for (const auto& backend : backends) {
    if (!can_list(backend)) continue;
    const auto* known = find(backend, List::own);
    auto& shown = out.emplace_back();
    shown.instance = backend.name;
    if (known == nullptr) continue;
    const auto models = models_of(backend);
    shown.known = models.has_value();
    shown.models = models ? models->size() : 0;
    shown.asking = known->asking;
    shown.last_error = known->last_error;
  }
  return out;
}

Result<std::vector<std::string>> parse_model_names(WireFormat format, std::string_view body) {
  if (body.starts_with(kGuard)) body.remove_prefix(kGuard.size());
  std::vector<std::string> out;
  JsonReader json(body);
  bool found = false;
  const auto read_array = [&] {
    found = true;
    if (!json.begin_array()) return;
    while (json.next_item()) {
      std::string name;
      if (json.kind() == JsonKind::string) {
        Text text;
        json.string(text);
        name = text.decode();
      } else {
        JsonSlice model;
        json.value(model);
        name = format_of(format).model_name(model);
      }
      const bool fits = name.size() <= kMaxModelName && out.size() < ModelCache::kMaxModels;
      if (!name.empty() && fits) out.push_back(std::move(name));
    }
  };
  if (json.kind() == JsonKind::array) {
    read_array();
  } else if (json.begin_object()) {
    std::string_view key;
    while (json.next_key(key)) {
      if ((key == "data" || key == "models") && json.kind() == JsonKind::array) read_array();
    }
  }
  if (json.failed() || !found) {
    return Error{ErrorKind::upstream_garbled, "the provider's list of models is none"};
  }
  return out;
}

}  // namespace llm_proxy
