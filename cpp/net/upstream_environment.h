#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/callback.h"
#include "base/result.h"
#include "net/byte_stream.h"
#include "net/endpoint.h"

namespace llm_proxy {

class ProxyRules;
class Resolver;
class TlsClient;

// What the program was told about the way out: given as values, read from no environment here.
struct UpstreamOptions {
  std::size_t max_idle_per_endpoint = 256;  // per worker
  std::chrono::milliseconds idle_timeout{60'000};
  std::chrono::milliseconds attempt_timeout{3'000};  // for one of several addresses
  std::chrono::milliseconds dns_ttl{30'000};

  std::string ca_file;  // SSL_CERT_FILE; both empty: the system's
  std::string ca_dir;   // SSL_CERT_DIR

  // "http://user:password@host:port", socks5://, socks5h://; empty: none.
  std::string http_proxy;       // for upstreams at http:// URLs
  std::string https_proxy;      // for those at https:// URLs
  std::string all_proxy;        // for those the two above say nothing of
  std::string no_proxy;         // reached directly: "localhost,.example.com,10.0.0.0/8,*"
  bool proxy_loopback = false;  // upstreams on this machine are reached through them as well
};

// What the pools of all workers share: TLS settings, names already resolved, the rules for proxies.
// Made once at start; thread safe; outlives the pools.
struct UpstreamEnvironment {
  UpstreamOptions options;
  std::shared_ptr<TlsClient> tls;
  std::shared_ptr<Resolver> resolver;
  std::shared_ptr<const ProxyRules> proxies;
  // Set: gives streams in the place of sockets, so that a test can be the upstream. Called on the
  // pool's worker; calls back there, at once or later, or never.
  using Dialled = Callback<void(Result<StreamPtr>)>;
  std::function<void(const Endpoint&, Dialled)> dial;
};

// An Error names the setting at fault: a CA file that cannot be read, a proxy that is no URL.
Result<std::shared_ptr<const UpstreamEnvironment>> make_upstream_environment(
    UpstreamOptions options);

}  // namespace llm_proxy
