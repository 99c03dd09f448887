#include "auth/web_origin.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>

#include "auth/forwarding.h"
#include "base/ascii.h"
#include "http/head_writer.h"
#include "http/url.h"

namespace llm_proxy {
namespace {

constexpr std::uint64_t kPreflightSeconds = 600;

bool is_this_machine(std::string_view url_text) {
  const auto url = parse_url(url_text);
  return url && (url->host == "localhost" || url->host == "127.0.0.1" || url->host == "::1");
}

// The name that container runtimes give the host; .internal is reserved, nobody can register it.
constexpr std::array<std::string_view, 3> kContainerHosts{
    "host.docker.internal", "host.containers.internal", "gateway.docker.internal"};

const std::string& own_name() {
  static const std::string name = [] {
    std::array<char, 256> text{};
    if (::gethostname(text.data(), text.size() - 1) != 0) return std::string();
    return lower_case(text.data());
  }();
  return name;
}

bool is_known_name(std::string_view authority, const std::vector<std::string>& names) {
  const auto url = parse_url("http://" + std::string(authority));
  if (!url || !url->userinfo.empty() || !url->path.empty()) return false;
  std::string_view host = url->host;
  if (host.ends_with('.')) host.remove_suffix(1);
  boost::system::error_code not_literal;
  (void)boost::asio::ip::make_address(host, not_literal);
  if (!not_literal) return true;
  if (host == "localhost" || host.ends_with(".localhost")) return true;
  if (std::ranges::find(kContainerHosts, host) != kContainerHosts.end()) return true;
  if (host.find('.') == std::string_view::npos || host == own_name()) return true;
  return std::ranges::any_of(
      names, [&](const std::string& each) { return each == "*" || lower_case(each) == host; });
}

bool is_listed(std::string_view origin, const std::vector<std::string>& allowed) {
  return !origin.empty() && std::ranges::any_of(allowed, [&](const std::string& each) {
    return each == "*" || each == origin;
  });
}

}  // namespace

bool from_foreign_page(const RequestHead& head, const std::vector<std::string>& allowed) {
  const auto origin = head.fields.value("origin");
  return !origin.empty() && !is_this_machine(origin) && !is_listed(origin, allowed);
}

bool from_this_machine(const RequestHead& head, std::string_view peer) {
  return (peer.starts_with("127.") || peer == "::1") && !is_forwarded(head.fields) &&
         !from_foreign_page(head, {}) &&
         is_this_machine("http://" + std::string(head.fields.value("host")));
}

bool is_known_host(const RequestHead& head, const std::vector<std::string>& names) {
  if (!head.authority.empty() && !is_known_name(head.authority, names)) return false;
  return head.host.empty() || is_known_name(head.host, names);
}

bool is_preflight(const RequestHead& head, const std::vector<std::string>& allowed) {
  return head.method == "OPTIONS" && is_listed(head.fields.value("origin"), allowed) &&
         head.fields.find("access-control-request-method") != nullptr;
}

std::string preflight_fields(const RequestHead& head) {
  std::string out;
  HeadWriter writer(out);
  writer.field("access-control-allow-methods", "GET, HEAD, POST, PUT, DELETE");
  const auto wanted = head.fields.value("access-control-request-headers");
  if (!wanted.empty()) writer.field("access-control-allow-headers", wanted);
  writer.field("access-control-max-age", kPreflightSeconds);
  return out;
}

void append_origin_fields(const RequestHead& head, const std::vector<std::string>& allowed,
                          std::string& out) {
  if (allowed.empty()) return;
  HeadWriter writer(out);
  writer.field("vary", "origin");
  const auto origin = head.fields.value("origin");
  if (!is_listed(origin, allowed)) return;
  writer.field("access-control-allow-origin", origin);
  writer.field("access-control-expose-headers", "*");
}

}  // namespace llm_proxy
