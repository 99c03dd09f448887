#include "exchange/client_fields.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

namespace llm_proxy {
namespace {

constexpr std::array<std::string_view, 47> kWithheld{
    // Of the connection and of the message's framing.
    "host", "content-length", "content-type", "content-encoding", "accept-encoding", "expect",
    "forwarded", "x-real-ip", "via", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
    "cf-connecting-ip", "range", "if-range",
    // Of the browser and the client program.
    "cookie", "cookie2", "origin", "referer", "user-agent",
    // Credentials, under the names that providers and gateways take them by.
    "authorization", "proxy-authorization", "x-authorization", "x-auth-token", "x-access-token",
    "x-api-key", "x-goog-api-key", "api-key", "apikey", "openai-api-key", "anthropic-api-key",
    "x-anthropic-api-key", "x-openai-api-key", "ocp-apim-subscription-key", "x-functions-key",
    "x-amz-security-token", "x-goog-iam-authorization-token",
    // Another method or another path than the one that was checked.
    "x-http-method-override", "x-http-method", "x-method-override", "x-original-url",
    "x-rewrite-url", "x-original-method", "x-original-host", "x-host",
    // Said to this proxy.
    "x-lip-route", "set-cookie"};

// Bit n: a name of the list has n letters. Most fields are told by this alone.
constexpr std::uint64_t kLengths = [] {
  std::uint64_t out = 0;
  for (const auto name : kWithheld) out |= std::uint64_t{1} << name.size();
  return out;
}();

bool begins(std::string_view name, std::string_view prefix) {
  return name.size() > prefix.size() && same_field(name.substr(0, prefix.size()), prefix);
}

bool is_listed(std::string_view name) {
  if (name.size() >= 64 || (kLengths >> name.size() & 1) == 0) return false;
  return std::any_of(kWithheld.begin(), kWithheld.end(),
                     [name](std::string_view each) { return same_field(each, name); });
}

// The client's key of this proxy once more, under whatever name.
bool holds_key(std::string_view value, std::string_view key) {
  return !key.empty() && (value == key || (key.size() >= 8 && value.ends_with(key)));
}

}  // namespace

bool is_withheld(const Field& field, std::string_view key, const Snapshot& snapshot) {
  if (field.hop_by_hop || is_listed(field.name)) return true;
  if (begins(field.name, "x-forwarded-") || begins(field.name, "sec-")) return true;
  if (!snapshot.client_keys.empty() && holds_key(field.value, key)) return true;
  return std::any_of(snapshot.auth_headers.begin(), snapshot.auth_headers.end(),
                     [&](const std::string& name) { return same_field(name, field.name); });
}

bool names_an_account(const Field& field) {
  constexpr std::array<std::string_view, 7> kAccountFields{
      "openai-organization",   "openai-project",     "x-goog-user-project",
      "x-goog-authuser",       "chatgpt-account-id", "anthropic-organization-id",
      "anthropic-workspace-id"};
  return std::any_of(kAccountFields.begin(), kAccountFields.end(),
                     [&](std::string_view name) { return same_field(name, field.name); });
}

bool is_for_plugins(const Field& field) {
  return same_field(field.name, "x-expected-schema") || begins(field.name, "x-llm-proxy-");
}

}  // namespace llm_proxy
