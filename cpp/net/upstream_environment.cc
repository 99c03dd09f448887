#include "net/upstream_environment.h"

#include "net/proxy_rules.h"
#include "net/resolver.h"
#include "net/tls_client.h"

namespace llm_proxy {

Result<std::shared_ptr<const UpstreamEnvironment>> make_upstream_environment(
    UpstreamOptions options) {
  auto tls = TlsClient::make(options.ca_file, options.ca_dir);
  if (!tls) return std::move(tls).error();
  auto proxies = ProxyRules::make(options);
  if (!proxies) return std::move(proxies).error();
  auto environment = std::make_shared<UpstreamEnvironment>();
  environment->tls = std::move(*tls);
  environment->resolver = std::make_shared<Resolver>(options.dns_ttl);
  environment->proxies = std::move(*proxies);
  environment->options = std::move(options);
  return std::shared_ptr<const UpstreamEnvironment>(std::move(environment));
}

}  // namespace llm_proxy
