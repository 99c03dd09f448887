#pragma once

#include <memory>

#include "base/result.h"
#include "plugin/ring_host.h"
#include "proxy/client_keys.h"
#include "proxy/config.h"
#include "routing/route_table.h"

namespace llm_proxy {

// Everything a request is decided by, immutable: published to each worker by post and held by every exchange that
// began with it.
struct Snapshot {
  std::shared_ptr<const ServerConfig> config;
  ClientKeys client_keys;
  RouteTable routes;
  std::shared_ptr<RingHost> rings;  // may be null

  static Result<std::shared_ptr<const Snapshot>> build(std::shared_ptr<const ServerConfig> config,
                                                       std::shared_ptr<RingHost> rings);
};

}  // namespace llm_proxy
