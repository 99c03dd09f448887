#pragma once

#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "net/endpoint.h"

namespace llm_proxy {

struct UpstreamOptions;

// The HTTP proxy a connection goes through.
struct ProxyHop {
  Endpoint endpoint;
  std::string authorization;  // value of Proxy-Authorization; empty: none. Secret.
};

// Which proxy leads to which upstream: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as curl and Go
// understand them. Loopback is never reached through a proxy. Immutable; shared by all workers.
class ProxyRules {
 public:
  static Result<std::shared_ptr<const ProxyRules>> make(const UpstreamOptions& options);

  // Null: directly.
  const ProxyHop* hop_to(const Endpoint& endpoint) const;

 private:
  // One entry of NO_PROXY: a domain with what is below it, a network, or everything.
  struct Exception {
    std::string domain;  // without its leading dot
    bool subdomains_only = false;
    std::uint16_t port = 0;  // 0: any
    std::optional<boost::asio::ip::network_v4> network_v4;
    std::optional<boost::asio::ip::network_v6> network_v6;
  };
  static Exception parse_exception(std::string_view entry);
  static bool matches(const Exception& exception, const Endpoint& endpoint);

  std::optional<ProxyHop> http_;
  std::optional<ProxyHop> https_;
  std::vector<Exception> exceptions_;
};

}  // namespace llm_proxy
