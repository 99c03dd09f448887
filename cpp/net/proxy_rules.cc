#include "net/proxy_rules.h"

#include <openssl/evp.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>
#include <charconv>

#include "http/head.h"
#include "net/upstream_environment.h"

namespace llm_proxy {
namespace {

using boost::asio::ip::make_address;

std::string base64(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3), '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                  reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  return out;
}

Result<std::optional<ProxyHop>> parse_hop(std::string_view setting, const std::string& text) {
  if (text.empty()) return std::optional<ProxyHop>();
  Result<Url> url = parse_url(text.find("://") == std::string::npos ? "http://" + text : text);
  if (!url || url->https) {
    return Error{ErrorKind::internal,
                 std::string(setting).append(" is no http:// URL of a proxy. ") +
                     (url ? "TLS to the proxy itself is not supported." : url.error().message)};
  }
  ProxyHop hop{Endpoint(*url), {}};
  if (!url->userinfo.empty()) hop.authorization = "Basic " + base64(url->userinfo);
  return std::optional<ProxyHop>(std::move(hop));
}

template <typename Network, typename Address>
bool holds(const std::optional<Network>& network, const Address& address, int bits) {
  return network && Network(address, bits).canonical() == network->canonical();
}

}  // namespace

Result<std::shared_ptr<const ProxyRules>> ProxyRules::make(const UpstreamOptions& options) {
  auto rules = std::make_shared<ProxyRules>();
  auto http = parse_hop("HTTP_PROXY", options.http_proxy);
  if (!http) return std::move(http).error();
  auto https = parse_hop("HTTPS_PROXY", options.https_proxy);
  if (!https) return std::move(https).error();
  rules->http_ = std::move(*http);
  rules->https_ = std::move(*https);
  std::string_view rest = options.no_proxy;
  while (!rest.empty()) {
    std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(entry.size() + 1, rest.size()));
    while (!entry.empty() && entry.front() == ' ') entry.remove_prefix(1);
    while (!entry.empty() && entry.back() == ' ') entry.remove_suffix(1);
    if (!entry.empty()) rules->exceptions_.push_back(parse_exception(entry));
  }
  return std::shared_ptr<const ProxyRules>(std::move(rules));
}

ProxyRules::Exception ProxyRules::parse_exception(std::string_view entry) {
  Exception exception;
  boost::system::error_code error;
  const bool range = entry.find('/') != std::string_view::npos;
  const std::string text(entry);
  if (range) {
    const auto v4 = boost::asio::ip::make_network_v4(text, error);
    if (!error) exception.network_v4 = v4;
    const auto v6 = boost::asio::ip::make_network_v6(text, error);
    if (!error) exception.network_v6 = v6;
    return exception;
  }
  const std::size_t colon = entry.rfind(':');
  if (colon != std::string_view::npos && entry.find(':') == colon) {
    std::from_chars(entry.data() + colon + 1, entry.data() + entry.size(), exception.port);
    entry = entry.substr(0, colon);
  }
  if (entry.substr(0, 2) == "*.") entry.remove_prefix(1);
  if (!entry.empty() && entry.front() == '.') {
    exception.subdomains_only = true;
    entry.remove_prefix(1);
  }
  if (entry.size() > 1 && entry.front() == '[' && entry.back() == ']')
    entry = entry.substr(1, entry.size() - 2);
  exception.domain = entry;
  return exception;
}

bool ProxyRules::matches(const Exception& exception, const Endpoint& endpoint) {
  if (exception.port != 0 && exception.port != endpoint.port) return false;
  if (exception.domain == "*") return true;
  if (exception.network_v4 || exception.network_v6) {
    boost::system::error_code error;
    const auto address = make_address(endpoint.host, error);
    if (error) return false;
    if (address.is_v4()) {
      return exception.network_v4 &&
             holds(exception.network_v4, address.to_v4(), exception.network_v4->prefix_length());
    }
    return exception.network_v6 &&
           holds(exception.network_v6, address.to_v6(), exception.network_v6->prefix_length());
  }
  const std::string_view host = endpoint.host;
  const std::string& domain = exception.domain;
  if (domain.empty()) return false;
  if (iequals(host, domain)) return !exception.subdomains_only;
  return host.size() > domain.size() && host[host.size() - domain.size() - 1] == '.' &&
         iequals(host.substr(host.size() - domain.size()), domain);
}

const ProxyHop* ProxyRules::hop_to(const Endpoint& endpoint) const {
  const std::optional<ProxyHop>& hop = endpoint.tls ? https_ : http_;
  if (!hop || endpoint.host == "localhost") return nullptr;
  boost::system::error_code error;
  const auto address = make_address(endpoint.host, error);
  if (!error && address.is_loopback()) return nullptr;
  for (const Exception& exception : exceptions_) {
    if (matches(exception, endpoint)) return nullptr;
  }
  return &*hop;
}

}  // namespace llm_proxy
