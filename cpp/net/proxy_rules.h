#pragma once

#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/endpoint.h"

namespace llm_proxy {

struct UpstreamOptions;

// The proxy a connection goes through.
struct ProxyHop {
  enum class Kind : std::uint8_t {
    http,     // CONNECT for https upstreams, the absolute form for http ones
    socks5,   // is told the upstream's address
    socks5h,  // is told the upstream's name
  };

  Kind kind = Kind::http;
  Endpoint endpoint;
  std::string user;  // decoded; empty: none. Secret, as what follows.
  std::string password;
  std::string authorization;  // http: the value of Proxy-Authorization; empty: none
};

// Which proxy leads to which upstream: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY as curl and
// Go understand them. Loopback is reached directly unless the options say otherwise. Immutable;
// shared by all workers and, for Python backends, by the lane.
class ProxyRules {
 public:
  // An Error names the setting at fault and never its password.
  static Result<std::shared_ptr<const ProxyRules>> make(const UpstreamOptions& options);

  // Null: directly.
  const ProxyHop* hop_to(const Endpoint& endpoint) const;

 private:
  // One entry of NO_PROXY: a domain with what is below it, an address, a network, or everything.
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
  bool loopback_ = false;
};

}  // namespace llm_proxy
