#include "config/snapshot.h"

#include <algorithm>
#include <utility>

#include "http/head.h"
#include "http/head_writer.h"
#include "http/url.h"

namespace llm_proxy {

bool sets_header(const Backend& backend, std::string_view name) {
  return std::any_of(backend.headers.begin(), backend.headers.end(),
                     [&](const auto& header) { return same_field(header.first, name); });
}

Result<std::shared_ptr<const Snapshot>> Snapshot::build(std::shared_ptr<const ServerConfig> config,
                                                        std::shared_ptr<RingHost> rings,
                                                        std::shared_ptr<BackendHost> hosts,
                                                        std::shared_ptr<const ModelIndex> index,
                                                        const Snapshot* before) {
  auto routes = RouteTable::build(
      config->backends,
      {config->default_backend, config->default_model, config->model_aliases,
       config->failover_routes, config->static_route, config->routing, std::move(index)});
  if (!routes) return std::move(routes).error();
  auto keys = ClientKeys::build(config->auth.api_keys);
  if (!keys) return std::move(keys).error();
  auto admin_keys = ClientKeys::build(config->auth.admin_keys);
  if (!admin_keys) return std::move(admin_keys).error();
  for (const auto& key : config->auth.admin_keys) {
    if (keys->contains(key)) {
      return Error{ErrorKind::malformed_request, "auth.admin_keys: a client's key cannot be one"};
    }
  }
  auto trusted = TrustedAddresses::build("auth.trusted_ips", config->auth.trusted_ips);
  if (!trusted) return std::move(trusted).error();
  auto proxies = TrustedAddresses::build("auth.trusted_proxies", config->auth.trusted_proxies);
  if (!proxies) return std::move(proxies).error();
  auto out = std::make_shared<Snapshot>();
  for (const auto& backend : config->backends) {
    auto& known = out->auth_headers;
    if (!backend.auth_header.empty() &&
        std::find(known.begin(), known.end(), backend.auth_header) == known.end()) {
      known.push_back(backend.auth_header);
    }
    const auto place = [&](const std::string& text, HttpTarget& target) -> Result<void> {
      if (text.empty()) return {};
      auto url = parse_url(text);
      if (!url) {
        return Error{ErrorKind::malformed_request,
                     "backend " + backend.name + ": " + text + ": " + url.error().message};
      }
      target.endpoint = Endpoint(*url);
      target.who = "Backend " + backend.name;
      target.authority = url->authority();
      target.base_path = std::move(url->path);
      HeadWriter writer(target.fields);
      if (!sets_header(backend, "user-agent")) {
        writer.field("user-agent", "llm-interactive-proxy/" + config->version);
      }
      // Bodies are watched on their way: a coding would only be taken off again.
      writer.field("accept-encoding", "identity");
      return {};
    };
    auto& target = out->targets.emplace_back();
    auto& cloud = out->cloud_lists.emplace_back();
    if (backend.kind != Backend::Kind::http) continue;
    if (auto placed = place(backend.base_url, target); !placed) return std::move(placed).error();
    if (auto placed = place(backend.cloud_models_url, cloud); !placed) {
      return std::move(placed).error();
    }
    HeadWriter writer(target.fields);
    if (!sets_header(backend, "content-type")) writer.field("content-type", "application/json");
    for (const auto& [name, value] : backend.headers) writer.field(name, value);
    if (backend.loop_guard) writer.field(kLoopGuard, "1");
  }
  out->auth_guard = before ? before->auth_guard : std::make_shared<AuthGuard>();
  out->availability = before ? before->availability : std::make_shared<Availability>();
  out->key_pools = out->availability->pools(config->backends, config->resilience.circuit_breaker);
  out->config = std::move(config);
  out->client_keys = *std::move(keys);
  out->admin_keys = *std::move(admin_keys);
  out->trusted = *std::move(trusted);
  out->trusted_proxies = *std::move(proxies);
  out->routes = *std::move(routes);
  out->rings = std::move(rings);
  out->hosts = std::move(hosts);
  return std::shared_ptr<const Snapshot>(std::move(out));
}

void Snapshot::localize(Candidate& candidate) const {
  const auto& all = config->backends;
  auto& model = candidate.model;
  model = sent_name(*candidate.backend, model);
  // Those of one name follow each other.
  for (auto i = index(*candidate.backend) + 1;
       i < all.size() && all[i].name == candidate.backend->name; ++i) {
    const auto& only = all[i].only_models;
    if (std::find(only.begin(), only.end(), model) != only.end()) candidate.backend = &all[i];
  }
}

const std::string* Snapshot::install_hint(std::string_view model) const {
  const auto instance = model.substr(0, model.find(':'));
  if (config->not_installed.empty() || routes.named(instance) != nullptr) return nullptr;
  const auto found =
      config->not_installed.find(std::string(instance.substr(0, instance.find('.'))));
  return found == config->not_installed.end() ? nullptr : &found->second;
}

std::vector<InstanceHealth> Snapshot::health(TimePoint now) const {
  std::vector<InstanceHealth> out;
  for (std::size_t i = 0; i < key_pools.size(); ++i) {
    if (config->backends[i].only_models.empty()) out.push_back(key_pools[i]->health(now));
  }
  return out;
}

}  // namespace llm_proxy
