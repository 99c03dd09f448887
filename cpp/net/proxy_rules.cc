#include "net/proxy_rules.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
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

struct SchemeRow {
  std::string_view scheme;
  ProxyHop::Kind kind;
  std::uint16_t port;  // where none is named
};

constexpr std::array kSchemeRows{
    SchemeRow{"http", ProxyHop::Kind::http, 80},
    SchemeRow{"socks5", ProxyHop::Kind::socks5, 1080},
    SchemeRow{"socks5h", ProxyHop::Kind::socks5h, 1080},
};

Error bad_hop(std::string_view setting, std::string_view why) {
  return {ErrorKind::internal, std::string(setting).append(" is no URL of a proxy: ").append(why)};
}

Result<std::optional<ProxyHop>> parse_hop(std::string_view setting, std::string_view text) {
  if (text.empty()) return std::optional<ProxyHop>();
  const std::size_t mark = text.find("://");
  const std::string_view scheme = mark == std::string_view::npos ? "http" : text.substr(0, mark);
  const auto row = std::find_if(kSchemeRows.begin(), kSchemeRows.end(), [&](const SchemeRow& each) {
    return iequals(each.scheme, scheme);
  });
  if (row == kSchemeRows.end()) {
    return bad_hop(setting,
                   "it must begin with http://, socks5:// or socks5h://. TLS to the proxy "
                   "itself is not supported.");
  }
  const std::string_view rest = mark == std::string_view::npos ? text : text.substr(mark + 3);
  // Where no port is named, parse_url() says 80.
  const std::string_view authority = rest.substr(0, rest.find_first_of("/?"));
  const std::string_view place = authority.substr(authority.rfind('@') + 1);
  const std::size_t colon = place.rfind(':');
  const bool named = colon != std::string_view::npos && place.find(']', colon) == place.npos;
  Result<Url> url = parse_url(std::string("http://").append(rest));
  if (!url) return bad_hop(setting, url.error().message);
  ProxyHop hop;
  hop.kind = row->kind;
  hop.endpoint = Endpoint(false, url->host, named ? url->port : row->port);
  const std::string& userinfo = url->userinfo;
  if (!userinfo.empty()) {
    hop.user = userinfo.substr(0, userinfo.find(':'));
    if (hop.user.size() < userinfo.size()) hop.password = userinfo.substr(hop.user.size() + 1);
    if (hop.kind == ProxyHop::Kind::http) hop.authorization = "Basic " + base64(userinfo);
  }
  return std::optional<ProxyHop>(std::move(hop));
}

// RFC 6761: names below localhost are loopback too.
bool is_loopback(std::string_view host) {
  constexpr std::string_view kName = "localhost";
  if (iequals(host, kName) || (host.size() > kName.size() && host.ends_with(".localhost")))
    return true;
  boost::system::error_code error;
  const auto address = make_address(std::string(host), error);
  if (error) return false;
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return boost::asio::ip::make_address_v4(boost::asio::ip::v4_mapped, address.to_v6())
        .is_loopback();
  }
  return address.is_loopback();
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
  auto all = parse_hop("ALL_PROXY", options.all_proxy);
  if (!all) return std::move(all).error();
  rules->http_ = *http ? std::move(*http) : *all;
  rules->https_ = *https ? std::move(*https) : std::move(*all);
  rules->loopback_ = options.proxy_loopback;
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
  // A port stands behind a name, an IPv4 address or a bracketed IPv6 address.
  const std::size_t colon = entry.rfind(':');
  if (colon != std::string_view::npos &&
      (entry.find(':') == colon || (colon > 0 && entry[colon - 1] == ']'))) {
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
  if (!hop || (!loopback_ && is_loopback(endpoint.host))) return nullptr;
  for (const Exception& exception : exceptions_) {
    if (matches(exception, endpoint)) return nullptr;
  }
  return &*hop;
}

}  // namespace llm_proxy
