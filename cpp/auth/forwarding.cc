#include "auth/forwarding.h"

#include <algorithm>
#include <array>
#include <boost/asio/ip/address.hpp>
#include <optional>
#include <vector>

namespace llm_proxy {
namespace {

constexpr std::array<std::string_view, 7> kForwardingFields{
    "forwarded",        "via",           "x-real-ip", "x-client-ip", "x-original-forwarded-for",
    "cf-connecting-ip", "true-client-ip"};
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
  const auto address = boost::asio::ip::make_address(text, failed);
  if (failed) return std::nullopt;
  return address.to_string();
}

// The entries of X-Forwarded-For, else of Forwarded, from left to right; an unreadable one is none.
std::vector<std::optional<std::string>> chain(const Fields& fields) {
  std::vector<std::optional<std::string>> out;
  for (const auto& field : fields) {
    if (!iequals(field.name, "x-forwarded-for")) continue;
    each_piece(field.value, ',', [&](std::string_view piece) { out.push_back(address_in(piece)); });
  }
  if (!out.empty()) return out;
  for (const auto& field : fields) {
    if (!iequals(field.name, "forwarded")) continue;
    each_piece(field.value, ',', [&](std::string_view element) {
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
            iequals(field.name.substr(0, kForwardedPrefix.size()), kForwardedPrefix)) ||
           std::any_of(kForwardingFields.begin(), kForwardingFields.end(),
                       [&](std::string_view name) { return iequals(name, field.name); });
  });
}

std::string client_address(const Fields& fields, std::string_view peer,
                           const TrustedAddresses& proxies) {
  auto addresses = chain(fields);
  if (addresses.empty()) addresses.push_back(address_in(fields.value("x-real-ip")));
  std::string last(peer);
  for (auto entry = addresses.rbegin(); entry != addresses.rend(); ++entry) {
    if (!*entry) break;
    last = **entry;
    if (!proxies.contains(last)) break;
  }
  return last;
}

}  // namespace llm_proxy
