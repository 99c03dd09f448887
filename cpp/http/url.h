#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace llm_proxy {

// An absolute http or https URL: where a backend lives, or a proxy. Owns its strings.
struct Url {
  bool https = false;
  std::string host;        // lower case; an IPv6 address without its brackets
  std::uint16_t port = 0;  // the scheme's own if the text names none
  std::string path;        // "" or "/v1": never ends in '/'; not decoded
  std::string query;       // after the '?'; empty if none
  std::string userinfo;    // "user:password", percent-decoded; for proxies. Secret.

  // "host" or "host:port" as the Host field wants it: brackets for IPv6, no default port.
  std::string authority() const;
};

// Parses the base URL of a backend or a proxy. The Error (malformed_request) says what is wrong
// with it, without its userinfo. A fragment is refused.
Result<Url> parse_url(std::string_view text);

// Undoes %XX; nothing if an escape is broken or gives NUL. '+' stays what it is, as in paths.
std::optional<std::string> percent_decode(std::string_view text);

// Encodes what may not stand in one path segment or query value.
void append_percent_encoded(std::string& out, std::string_view text);

// Encodes text of a client as one segment of an upstream's path; the only way for such text into a
// path. Everything but unreserved characters, ':' and '@' is percent-encoded, so that the text can
// neither end the segment nor begin a query. The Error (malformed_request) refuses text that some
// server could read as a step to another directory, as it is or decoded again: "." or ".." between
// slashes or backslashes, control characters, what is no UTF-8; and an empty text.
Result<std::string> encode_path_segment(std::string_view text);

// The decoded value of a key in "a=1&b=2" ('+' is a space here); nothing if absent.
std::optional<std::string> query_value(std::string_view query, std::string_view key);

// True if `query` has more than one item whose decoded name is `key`.
bool repeats_query_key(std::string_view query, std::string_view key);

// The query without the items for which `drop(name, value)`, both decoded, returns true; keeps
// order and spelling of the others. An item that is not validly encoded is dropped.
template <typename Drop>
std::string filtered_query(std::string_view query, Drop drop);

// ---- implementation

// The decoded name and value of one item of a query ('+' is a space); nothing if either is broken.
std::optional<std::pair<std::string, std::string>> decoded_item(std::string_view item);

template <typename Drop>
std::string filtered_query(std::string_view query, Drop drop) {
  std::string out;
  while (!query.empty()) {
    const auto item = query.substr(0, query.find('&'));
    query.remove_prefix(item.size() == query.size() ? item.size() : item.size() + 1);
    if (item.empty()) continue;
    const auto decoded = decoded_item(item);
    if (!decoded || drop(std::string_view(decoded->first), std::string_view(decoded->second))) {
      continue;
    }
    if (!out.empty()) out += '&';
    out += item;
  }
  return out;
}

}  // namespace llm_proxy
