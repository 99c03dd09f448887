#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "auth/client_keys.h"
#include "auth/trusted_addresses.h"
#include "base/result.h"
#include "config/server_config.h"
#include "hosting/backend_host.h"
#include "net/endpoint.h"
#include "rings/ring_host.h"
#include "routing/key_pool.h"
#include "routing/route_table.h"

namespace llm_proxy {

// Sent to every upstream and refused from any client, so that no proxy is its own provider.
inline constexpr std::string_view kLoopGuard = "x-llmproxy-loop-guard";

// The configuration names this header for the backend: ours and the client's give way to it.
bool sets_header(const Backend& backend, std::string_view name);

// What a backend's base URL means to the network. Made once, so that a request parses nothing.
struct HttpTarget {
  Endpoint endpoint;
  std::string who;        // "Backend openai": what clients are told instead of its address
  std::string authority;  // for the Host field
  std::string base_path;  // "/v1"
  std::string fields;     // header lines sent with every request
};

// Everything a request is decided by, immutable: published to each worker by post and held by every
// exchange that began with it.
struct Snapshot {
  std::shared_ptr<const ServerConfig> config;
  ClientKeys client_keys;
  ClientKeys admin_keys;
  TrustedAddresses trusted;
  TrustedAddresses trusted_proxies;
  std::shared_ptr<AuthGuard> auth_guard;  // handed from snapshot to snapshot
  std::vector<std::string> auth_headers;  // that backends carry their keys in
  RouteTable routes;
  std::vector<HttpTarget> targets;  // as config->backends; empty ones for those that are not http
  std::vector<HttpTarget> cloud_lists;  // likewise; empty ones for those that have no such list
  std::shared_ptr<Availability> availability;       // handed from snapshot to snapshot
  std::vector<std::shared_ptr<KeyPool>> key_pools;  // as config->backends
  std::shared_ptr<RingHost> rings;                  // may be null
  std::shared_ptr<BackendHost> hosts;               // of the Python backends; may be null

  const HttpTarget& target(const Backend& backend) const { return targets[index(backend)]; }
  const HttpTarget& cloud_list(const Backend& backend) const { return cloud_lists[index(backend)]; }
  KeyPool& key_pool(const Backend& backend) const { return *key_pools[index(backend)]; }

  // The backend that serves this model of `candidate`'s server, where one of them speaks two
  // formats; and the model's name as the server knows it.
  void localize(Candidate& candidate) const;

  // What to tell who asks for a backend that is not installed; null: `model` names no such one.
  const std::string* install_hint(std::string_view model) const;

  // What every backend's keys and breaker are at, for diagnostics. Any thread.
  std::vector<InstanceHealth> health(TimePoint now) const;

  // `before`: the snapshot this one follows, whose keys' cool-downs and breakers live on; may be
  // null.
  static Result<std::shared_ptr<const Snapshot>> build(std::shared_ptr<const ServerConfig> config,
                                                       std::shared_ptr<RingHost> rings,
                                                       std::shared_ptr<BackendHost> hosts,
                                                       std::shared_ptr<const ModelIndex> index,
                                                       const Snapshot* before);

 private:
  std::size_t index(const Backend& backend) const {
    return static_cast<std::size_t>(&backend - config->backends.data());
  }
};

}  // namespace llm_proxy
