#include "proxy/snapshot.h"

#include <utility>

namespace llm_proxy {

Result<std::shared_ptr<const Snapshot>> Snapshot::build(std::shared_ptr<const ServerConfig> config,
                                                        std::shared_ptr<RingHost> rings) {
  auto routes = RouteTable::build(config->backends,
                                  {config->default_backend, config->default_model, config->model_aliases});
  if (!routes) return std::move(routes).error();
  auto keys = ClientKeys::build(config->client_keys);
  if (!keys) return std::move(keys).error();
  auto out = std::make_shared<Snapshot>();
  out->config = std::move(config);
  out->client_keys = *std::move(keys);
  out->routes = *std::move(routes);
  out->rings = std::move(rings);
  return std::shared_ptr<const Snapshot>(std::move(out));
}

}  // namespace llm_proxy
