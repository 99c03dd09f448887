#include "http/url.h"

#include <algorithm>
#include <charconv>

namespace llm_proxy {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_unreserved(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         std::string_view("-._~").find(c) != std::string_view::npos;
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = lower(c);
  return out;
}

Error bad(std::string_view what) {
  return {ErrorKind::malformed_request, std::string("The URL is malformed: ").append(what)};
}

bool valid_host(std::string_view host, bool bracketed) {
  return !host.empty() && std::all_of(host.begin(), host.end(), [bracketed](char c) {
    return bracketed ? hex_digit(c) >= 0 || c == ':' || c == '.' : is_unreserved(c);
  });
}

}  // namespace

Result<Url> parse_url(std::string_view text) {
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) > 0x20 && c != 0x7f;
  });
  if (!visible) return bad("it holds a space or a control character.");
  Url url;
  const std::size_t colon = text.find("://");
  if (colon == std::string_view::npos) return bad("it does not begin with http:// or https://.");
  const std::string scheme = lower(text.substr(0, colon));
  if (scheme != "http" && scheme != "https")
    return bad("it does not begin with http:// or https://.");
  url.https = scheme == "https";
  url.port = url.https ? 443 : 80;
  text.remove_prefix(colon + 3);
  if (text.find('#') != std::string_view::npos) return bad("it has a fragment (#).");

  std::string_view authority = text.substr(0, text.find_first_of("/?"));
  text.remove_prefix(authority.size());
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
    auto userinfo = percent_decode(authority.substr(0, at));
    if (!userinfo) return bad("its user and password are not well escaped.");
    url.userinfo = std::move(*userinfo);
    authority.remove_prefix(at + 1);
  }

  const bool bracketed = !authority.empty() && authority.front() == '[';
  std::string_view host = authority;
  std::string_view port;
  if (bracketed) {
    const std::size_t end = authority.find(']');
    if (end == std::string_view::npos) return bad("a bracket is missing in its host.");
    host = authority.substr(1, end - 1);
    port = authority.substr(end + 1);
  } else if (const std::size_t mark = authority.find(':'); mark != std::string_view::npos) {
    host = authority.substr(0, mark);
    port = authority.substr(mark);
  }
  if (!valid_host(host, bracketed)) return bad("its host is no name and no address.");
  url.host = lower(host);
  if (!port.empty()) {
    const auto [end, failure] =
        std::from_chars(port.data() + 1, port.data() + port.size(), url.port);
    if (port.front() != ':' || failure != std::errc() || end != port.data() + port.size() ||
        url.port == 0) {
      return bad("its port is no number between 1 and 65535.");
    }
  }

  const std::size_t mark = std::min(text.find('?'), text.size());
  url.path = text.substr(0, mark);
  while (!url.path.empty() && url.path.back() == '/') url.path.pop_back();
  url.query = text.substr(std::min(mark + 1, text.size()));
  return url;
}

std::string Url::authority() const {
  const bool bracketed = host.find(':') != std::string::npos;
  std::string out;
  if (bracketed) out += '[';
  out += host;
  if (bracketed) out += ']';
  if (port != (https ? 443 : 80)) out.append(":").append(std::to_string(port));
  return out;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

void append_percent_encoded(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (const char c : text) {
    if (is_unreserved(c)) {
      out += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    out += '%';
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
}

namespace {

// Decodes a name or a value of a query, in which '+' is a space.
std::optional<std::string> query_text(std::string_view text) {
  std::string spaced(text);
  std::replace(spaced.begin(), spaced.end(), '+', ' ');
  return percent_decode(spaced);
}

constexpr int kMaxDecodings = 4;

// Whether a server could take a piece of `text` for "." or "..". Some cut a piece at ';', others
// strip its spaces.
bool has_dot_segment(std::string_view text) {
  for (;;) {
    const auto end = std::min(text.find_first_of("/\\"), text.size());
    auto piece = text.substr(0, std::min(end, text.find(';')));
    while (piece.starts_with(' ')) piece.remove_prefix(1);
    while (piece.ends_with(' ')) piece.remove_suffix(1);
    if (piece == "." || piece == "..") return true;
    if (end == text.size()) return false;
    text.remove_prefix(end + 1);
  }
}

// Undoes the escapes that are well formed, NUL's too, and leaves the others as they are.
std::string leniently_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
    if (low < 0) {
      out += text[i];
      continue;
    }
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

// Well-formed UTF-8 (RFC 3629): no overlong forms, in which some servers find a '.' or a '/'.
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t size = byte < 0x80   ? 1
                             : byte < 0xc2 ? 0
                             : byte < 0xe0 ? 2
                             : byte < 0xf0 ? 3
                             : byte < 0xf5 ? 4
                                           : 0;
    if (size == 0 || i + size > text.size()) return false;
    for (std::size_t k = 1; k < size; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    const auto second = size > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((byte == 0xe0 && second < 0xa0) || (byte == 0xed && second > 0x9f) ||
        (byte == 0xf0 && second < 0x90) || (byte == 0xf4 && second > 0x8f)) {
      return false;
    }
    i += size;
  }
  return true;
}

}  // namespace

Result<std::string> encode_path_segment(std::string_view text) {
  const auto refuse = [](std::string why) {
    return Error{ErrorKind::malformed_request, std::move(why)};
  };
  if (text.empty()) return refuse("a name in a path must not be empty");
  std::string decoded(text);
  for (int round = 0;; ++round) {
    if (has_dot_segment(decoded)) return refuse("a path must not hold '.' or '..' as a name");
    if (std::any_of(decoded.begin(), decoded.end(),
                    [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
      return refuse("a path must not hold control characters");
    }
    if (!is_utf8(decoded)) return refuse("a path must be UTF-8");
    auto again = leniently_decoded(decoded);
    if (again == decoded) break;
    if (round == kMaxDecodings) return refuse("a path must not be percent-encoded over and over");
    decoded = std::move(again);
  }
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto plain = text.substr(0, text.find_first_of(":@"));
    append_percent_encoded(out, plain);
    text.remove_prefix(plain.size());
    if (text.empty()) break;
    out += text.front();
    text.remove_prefix(1);
  }
  return out;
}

std::optional<std::pair<std::string, std::string>> decoded_item(std::string_view item) {
  const auto equals = std::min(item.find('='), item.size());
  auto name = query_text(item.substr(0, equals));
  auto value = query_text(item.substr(std::min(equals + 1, item.size())));
  if (!name || !value) return std::nullopt;
  return std::pair(*std::move(name), *std::move(value));
}

bool repeats_query_key(std::string_view query, std::string_view key) {
  int count = 0;
  (void)filtered_query(query, [&](std::string_view name, std::string_view) {
    count += name == key;
    return true;
  });
  return count > 1;
}

std::optional<std::string> query_value(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(pair.size() + 1, query.size()));
    const auto name = query_text(pair.substr(0, pair.find('=')));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    if (name && *name == key) return query_text(pair.substr(std::min(equals + 1, pair.size())));
  }
  return std::nullopt;
}

}  // namespace llm_proxy
