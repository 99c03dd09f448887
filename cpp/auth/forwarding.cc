#include "auth/forwarding.h"

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>
#include <optional>
#include <vector>

namespace llm_proxy {
namespace {
namespace ip = boost::asio::ip;

constexpr std::string_view kForwardedFor = "x-forwarded-for";
constexpr std::string_view kForwarded = "forwarded";
constexpr std::string_view kRealIp = "x-real-ip";
constexpr std::array<std::string_view, 14> kForwardingFields{kForwarded,
                                                             kRealIp,
                                                             "via",
                                                             "x-real-port",
                                                             "x-client-ip",
                                                             "x-cluster-client-ip",
                                                             "x-original-forwarded-for",
                                                             "x-original-host",
                                                             "x-envoy-external-address",
                                                             "cf-connecting-ip",
                                                             "true-client-ip",
                                                             "fastly-client-ip",
                                                             "fly-client-ip",
                                                             "x-azure-clientip"};
constexpr std::string_view kForwardedPrefix = "x-forwarded-";

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls `visit` with the trimmed pieces of `text` between `separator`s.
template <typename Visit>
void each_piece(std::string_view text, char separator, Visit visit) {
  while (true) {
    const auto end = text.find(separator);
    visit(trimmed(text.substr(0, end)));
    if (end == std::string_view::npos) return;
    text.remove_prefix(end + 1);
  }
}

// "203.0.113.7", "203.0.113.7:1234", "[2001:db8::1]:1234", "2001:db8::1", quoted or not.
std::optional<std::string> address_in(std::string_view text) {
  if (text.size() >= 2 && text.front() == '"' && text.back() == '"') {
    text = text.substr(1, text.size() - 2);
  }
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    text = text.substr(1, end - 1);
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    text = text.substr(0, text.find(':'));
  }
  boost::system::error_code failed;
  const auto address = ip::make_address(text, failed);
  if (failed) return std::nullopt;
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return ip::make_address_v4(ip::v4_mapped, address.to_v6()).to_string();
  }
  return address.to_string();
}

// The addresses that the fields called `name` tell, from left to right; nothing for an unreadable
// one.
std::vector<std::optional<std::string>> chain(const Fields& fields, std::string_view name) {
  std::vector<std::optional<std::string>> out;
  for (const auto& field : fields) {
    if (!iequals(field.name, name)) continue;
    each_piece(field.value, ',', [&](std::string_view element) {
      if (name != kForwarded) return out.push_back(address_in(element));
      std::optional<std::string> found;
      each_piece(element, ';', [&](std::string_view pair) {
        if (pair.size() > 4 && iequals(pair.substr(0, 4), "for="))
          found = address_in(pair.substr(4));
      });
      out.push_back(std::move(found));
    });
  }
  return out;
}

}  // namespace

bool is_forwarded(const Fields& fields) {
  return std::any_of(fields.begin(), fields.end(), [](const Field& field) {
    return (field.name.size() > kForwardedPrefix.size() &&
            same_field(field.name.substr(0, kForwardedPrefix.size()), kForwardedPrefix)) ||
           std::any_of(kForwardingFields.begin(), kForwardingFields.end(),
                       [&](std::string_view name) { return same_field(name, field.name); });
  });
}

std::string client_address(const Fields& fields, std::string_view peer,
                           const TrustedAddresses& proxies) {
  std::optional<std::string> client, farthest;
  for (const auto name : {kForwardedFor, kForwarded, kRealIp}) {
    const auto addresses = chain(fields, name);
    for (auto entry = addresses.rbegin(); entry != addresses.rend(); ++entry) {
      if (!*entry) return std::string(kUnknownAddress);
      if (proxies.contains(**entry)) {
        farthest = std::move(*entry);
        continue;
      }
      if (client && *client != **entry) return std::string(kUnknownAddress);
      client = std::move(*entry);
      break;
    }
  }
  if (client) return *std::move(client);
  if (farthest) return *std::move(farthest);  // a proxy asks for itself
  return is_forwarded(fields) ? std::string(kUnknownAddress) : std::string(peer);
}

}  // namespace llm_proxy
