#include "http/head.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

namespace llm_proxy {
namespace {

// What a byte may be part of.
constexpr std::uint8_t kToken = 1;    // methods, field names
constexpr std::uint8_t kVisible = 2;  // request targets
constexpr std::uint8_t kText = 4;     // field values, reasons: no controls but TAB
constexpr std::uint8_t kHost = 8;     // the Host field

constexpr auto kBytes = [] {
  std::array<std::uint8_t, 256> table{};
  for (int c = 0; c < 256; ++c) {
    const bool letter_or_digit =
        (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    std::uint8_t bits = 0;
    if (c > 0x20 && c < 0x7f) bits |= kVisible;
    if ((c >= 0x20 && c != 0x7f) || c == '\t') bits |= kText;
    if (letter_or_digit) bits |= kToken | kHost;
    table[static_cast<std::size_t>(c)] = bits;
  }
  for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
    table[static_cast<unsigned char>(c)] |= kToken;
  for (const char c : std::string_view("-._~!$&'()*+;=%:[]"))
    table[static_cast<unsigned char>(c)] |= kHost;
  return table;
}();

bool is(std::uint8_t what, char c) {
  return (kBytes[static_cast<unsigned char>(c)] & what) != 0;
}

bool all(std::uint8_t what, std::string_view text) {
  return std::all_of(text.begin(), text.end(), [what](char c) { return is(what, c); });
}

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls `use(element)` for each element of a comma-separated list; stops when it returns false.
template <typename Use>
bool for_each_element(std::string_view list, Use use) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    const std::string_view element = trim(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (!element.empty() && !use(element)) return false;
  }
  return true;
}

// The fields that decide about the message or the connection.
enum class Known : std::uint8_t {
  other,
  host,
  content_length,
  transfer_encoding,
  connection,
  expect,
  upgrade,
  hop
};

struct KnownRow {
  std::string_view name;
  Known known;
  bool hop_by_hop;
};

constexpr std::array kKnownFields{
    KnownRow{"host", Known::host, false},
    KnownRow{"content-length", Known::content_length, false},
    KnownRow{"transfer-encoding", Known::transfer_encoding, true},
    KnownRow{"connection", Known::connection, true},
    KnownRow{"expect", Known::expect, false},
    KnownRow{"upgrade", Known::upgrade, true},
    KnownRow{"keep-alive", Known::hop, true},
    KnownRow{"proxy-connection", Known::hop, true},
    KnownRow{"te", Known::hop, true},
    KnownRow{"trailer", Known::hop, true},
    KnownRow{"proxy-authenticate", Known::hop, true},
    KnownRow{"proxy-authorization", Known::hop, true},
};

const KnownRow* known_field(std::string_view name) {
  for (const KnownRow& row : kKnownFields) {
    if (row.name.size() == name.size() && iequals(row.name, name)) return &row;
  }
  return nullptr;
}

constexpr std::size_t kMaxMethod = 32;
constexpr std::size_t kMaxEmptyLines = 4;  // before a request line (RFC 9112 2.2)
constexpr std::size_t kMaxConnectionTokens = 32;

// Reads one head from front to back. Every step says whether it got through, needs more bytes or
// met an error.
class HeadParser {
 public:
  enum class Step : std::uint8_t { ok, need_more, failed };

  HeadParser(std::string_view bytes, const HeadLimits& limits, ErrorKind on_bad)
      : bytes_(bytes.substr(0, std::min(bytes.size(), limits.bytes))),
        cut_(bytes_.size() == limits.bytes),
        limits_(limits),
        on_bad_(on_bad) {}

  Step request_line(RequestHead& out);
  Step status_line(ReplyHead& out);
  Step fields(Fields& out);
  // What the fields mean for the message's end and the connection's.
  Step meaning(MessageHead& out);
  Step request_meaning(RequestHead& out);
  Step reply_meaning(ReplyHead& out, bool to_head_request);

  Result<std::size_t> result(Step step) {
    if (step == Step::ok) return at_;
    if (step == Step::failed) return std::move(error_);
    if (!cut_) return std::size_t{0};
    return Error{on_bad_ == ErrorKind::malformed_request ? ErrorKind::head_too_large : on_bad_,
                 "The head exceeds " + std::to_string(limits_.bytes) + " bytes."};
  }

 private:
  Step fail(std::string_view what, int status = 0) {
    error_.kind = on_bad_;
    error_.status = status;
    error_.message = what;
    return Step::failed;
  }
  bool at_end() const { return at_ == bytes_.size(); }
  char here() const { return bytes_[at_]; }
  std::string_view take_while(std::uint8_t what) {
    const std::size_t start = at_;
    while (!at_end() && is(what, here())) ++at_;
    return bytes_.substr(start, at_ - start);
  }
  Step literal(std::string_view text, std::string_view complaint) {
    const std::string_view there = bytes_.substr(at_, text.size());
    if (there != text.substr(0, there.size())) return fail(complaint);
    at_ += there.size();
    return there.size() == text.size() ? Step::ok : Step::need_more;
  }
  Step line_end() {
    if (at_end()) return Step::need_more;
    if (here() == '\n') return fail("A line ends without a carriage return.");
    if (here() != '\r') return fail("A control character stands in the head.");
    return literal("\r\n", "A carriage return stands alone in the head.");
  }
  Step version(int& minor);
  Step target(RequestHead& out);
  Step content_length(std::string_view value, MessageHead& out);
  Step transfer_encoding(std::string_view value, MessageHead& out);
  Step connection(const Field& field, MessageHead& out);

  const std::string_view bytes_;
  const bool cut_;  // there can be no more within the limit
  const HeadLimits& limits_;
  const ErrorKind on_bad_;
  std::size_t at_ = 0;
  Error error_;

  std::size_t lengths_ = 0;
  std::size_t codings_ = 0;
  std::size_t connection_tokens_ = 0;
  bool close_ = false;
  bool keep_alive_ = false;
  bool upgrade_ = false;
};

using Step = HeadParser::Step;

Step HeadParser::version(int& minor) {
  const std::string_view there = bytes_.substr(at_, 8);
  constexpr std::string_view kPrefix = "HTTP/1.";
  const std::string_view prefix = there.substr(0, kPrefix.size());
  if (prefix != kPrefix.substr(0, prefix.size())) {
    const bool other = prefix.substr(0, 5) == "HTTP/";
    return fail(other ? "Only HTTP/1.0 and HTTP/1.1 are spoken here." : "This is not HTTP.",
                other ? 505 : 0);
  }
  if (there.size() < 8) return Step::need_more;
  if (there[7] != '0' && there[7] != '1')
    return fail("Only HTTP/1.0 and HTTP/1.1 are spoken here.", 505);
  minor = there[7] - '0';
  at_ += 8;
  return Step::ok;
}

Step HeadParser::request_line(RequestHead& out) {
  for (std::size_t empty = 0; !at_end() && here() == '\r'; ++empty) {
    if (empty == kMaxEmptyLines)
      return fail("There are only empty lines where a request should be.");
    if (const Step step = line_end(); step != Step::ok) return step;
  }
  const auto method = take_while(kToken);
  if (method.size() > kMaxMethod) return fail("The method is too long.");
  out.method = method;
  if (at_end()) return Step::need_more;
  if (out.method.empty() || here() != ' ') return fail("This is not HTTP.");
  ++at_;
  out.target = take_while(kVisible);
  if (at_end()) return Step::need_more;
  if (out.target.empty() || here() != ' ') return fail("The request target is malformed.");
  ++at_;
  if (const Step step = version(out.version_minor); step != Step::ok) return step;
  return line_end();
}

Step HeadParser::status_line(ReplyHead& out) {
  if (const Step step = version(out.version_minor); step != Step::ok) return step;
  if (const Step step = literal(" ", "The status line is malformed."); step != Step::ok)
    return step;
  out.status = 0;
  for (int digit = 0; digit < 3; ++digit) {
    if (at_end()) return Step::need_more;
    if (here() < '0' || here() > '9') return fail("The status is no number.");
    out.status = out.status * 10 + (bytes_[at_++] - '0');
  }
  if (out.status < 100 || out.status > 599) return fail("There is no such status.");
  out.reason = {};
  if (at_end()) return Step::need_more;
  if (here() == ' ') {
    ++at_;
    out.reason = take_while(kText);
  }
  return line_end();
}

Step HeadParser::fields(Fields& out) {
  out.clear();
  for (;;) {
    if (at_end()) return Step::need_more;
    if (here() == '\r' || here() == '\n') return line_end();
    if (here() == ' ' || here() == '\t') return fail("A field is folded over two lines.");
    const std::string_view name = take_while(kToken);
    if (at_end()) return Step::need_more;
    if (name.empty() || here() != ':') return fail("A field name is malformed.");
    ++at_;
    const std::string_view value = trim(take_while(kText));
    if (const Step step = line_end(); step != Step::ok) return step;
    if (out.size() == limits_.fields) {
      error_ = {on_bad_ == ErrorKind::malformed_request ? ErrorKind::head_too_large : on_bad_,
                "The head has more than " + std::to_string(limits_.fields) + " fields."};
      return Step::failed;
    }
    out.add(name, value);
  }
}

Step HeadParser::content_length(std::string_view value, MessageHead& out) {
  if (++lengths_ > 1) return fail("There is more than one Content-Length.");
  if (value.empty() || value.size() > 18) return fail("The Content-Length is no number of bytes.");
  std::uint64_t length = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return fail("The Content-Length is no number of bytes.");
    length = length * 10 + static_cast<std::uint64_t>(c - '0');
  }
  out.content_length = length;
  return Step::ok;
}

Step HeadParser::transfer_encoding(std::string_view value, MessageHead& out) {
  if (++codings_ > 1 || !iequals(value, "chunked"))
    return fail("The only Transfer-Encoding understood is chunked.");
  if (out.version_minor == 0) return fail("HTTP/1.0 has no Transfer-Encoding.");
  return Step::ok;
}

Step HeadParser::connection(const Field& field, MessageHead& out) {
  const bool listed = for_each_element(field.value, [&](std::string_view token) {
    if (++connection_tokens_ > kMaxConnectionTokens) return false;
    if (iequals(token, "close")) {
      close_ = true;
    } else if (iequals(token, "keep-alive")) {
      keep_alive_ = true;
    } else if (iequals(token, "upgrade")) {
      upgrade_ = true;
    } else {
      for (Field& named : out.fields) {
        if (iequals(named.name, token)) named.hop_by_hop = true;
      }
    }
    return true;
  });
  return listed ? Step::ok : fail("The Connection field names too many things.");
}

Step HeadParser::meaning(MessageHead& out) {
  out.content_length = 0;
  std::string_view upgrade;
  for (Field& field : out.fields) {
    const KnownRow* row = known_field(field.name);
    if (row == nullptr) continue;
    field.hop_by_hop |= row->hop_by_hop;
    Step step = Step::ok;
    if (row->known == Known::content_length) step = content_length(field.value, out);
    if (row->known == Known::transfer_encoding) step = transfer_encoding(field.value, out);
    if (row->known == Known::connection) step = connection(field, out);
    if (row->known == Known::upgrade) upgrade = field.value;
    if (step != Step::ok) return step;
  }
  if (lengths_ > 0 && codings_ > 0)
    return fail("There are both a Content-Length and a Transfer-Encoding.");
  out.framing = codings_ > 0 ? Framing::chunked : lengths_ > 0 ? Framing::length : Framing::none;
  out.keep_alive = !close_ && (out.version_minor > 0 || keep_alive_);
  out.upgrade = upgrade_ && out.version_minor > 0 ? upgrade : std::string_view();
  return Step::ok;
}

// origin-form, absolute-form, authority-form for CONNECT, asterisk-form for OPTIONS (RFC 9112 3.2).
Step HeadParser::target(RequestHead& out) {
  std::string_view rest = out.target;
  out.path = out.query = out.authority = {};
  if (out.method == "CONNECT") {
    if (!all(kHost, rest) || rest.find(':') == std::string_view::npos)
      return fail("The request target is malformed.");
    return Step::ok;
  }
  if (rest == "*") {
    if (out.method != "OPTIONS") return fail("The request target is malformed.");
    out.path = rest;
    return Step::ok;
  }
  if (rest.front() != '/') {
    const std::size_t scheme = rest.find("://");
    if (scheme == std::string_view::npos) return fail("The request target is malformed.");
    if (!iequals(rest.substr(0, scheme), "http") && !iequals(rest.substr(0, scheme), "https")) {
      return fail("The request target is malformed.");
    }
    rest.remove_prefix(scheme + 3);
    const std::string_view authority = rest.substr(0, rest.find_first_of("/?"));
    if (authority.empty() || !all(kHost, authority))
      return fail("The request target is malformed.");
    out.authority = authority;
    rest.remove_prefix(authority.size());
  }
  if (rest.find('#') != std::string_view::npos) return fail("The request target is malformed.");
  const std::size_t mark = std::min(rest.find('?'), rest.size());
  out.path = mark == 0 ? std::string_view("/") : rest.substr(0, mark);
  out.query = rest.substr(std::min(mark + 1, rest.size()));
  return Step::ok;
}

Step HeadParser::request_meaning(RequestHead& out) {
  if (const Step step = target(out); step != Step::ok) return step;
  if (const Step step = meaning(out); step != Step::ok) return step;
  out.host = {};
  out.expect_continue = false;
  std::size_t hosts = 0;
  for (const Field& field : out.fields) {
    if (iequals(field.name, "host")) {
      ++hosts;
      out.host = field.value;
    } else if (iequals(field.name, "expect") && out.version_minor > 0) {
      if (!iequals(field.value, "100-continue"))
        return fail("This expectation cannot be met.", 417);
      out.expect_continue = true;
    }
  }
  if (hosts > 1) return fail("There is more than one Host.");
  if (hosts == 0 && out.version_minor > 0) return fail("The Host field is missing.");
  if (!all(kHost, out.host)) return fail("The Host field is malformed.");
  return Step::ok;
}

Step HeadParser::reply_meaning(ReplyHead& out, bool to_head_request) {
  if (const Step step = meaning(out); step != Step::ok) return step;
  if (to_head_request || out.status < 200 || out.status == 204 || out.status == 304) {
    out.framing = Framing::none;
  } else if (out.framing == Framing::none) {
    out.framing = Framing::until_close;
    out.keep_alive = false;
  }
  return Step::ok;
}

}  // namespace

bool iequals(std::string_view a, std::string_view b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i] && lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

bool same_field(std::string_view a, std::string_view b) {
  const auto folded = [](char c) { return c == '_' ? '-' : lower(c); };
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [&](char x, char y) { return folded(x) == folded(y); });
}

bool has_token(std::string_view list, std::string_view token) {
  return !for_each_element(list,
                           [token](std::string_view element) { return !iequals(element, token); });
}

const Field* Fields::find(std::string_view name) const {
  for (const Field& field : fields_) {
    if (iequals(field.name, name)) return &field;
  }
  return nullptr;
}

std::string_view Fields::value(std::string_view name) const {
  const Field* field = find(name);
  return field != nullptr ? field->value : std::string_view();
}

std::size_t Fields::count(std::string_view name) const {
  return static_cast<std::size_t>(
      std::count_if(fields_.begin(), fields_.end(),
                    [name](const Field& field) { return iequals(field.name, name); }));
}

namespace {

// Empties a head that is used again: after an Error, a view of the earlier message's bytes, which
// may be gone, would be left in it. The fields keep their capacity.
template <typename Head>
void forget(Head& head) {
  Fields fields = std::move(head.fields);
  fields.clear();
  head = {};
  head.fields = std::move(fields);
}

}  // namespace

Result<std::size_t> parse_request_head(std::string_view bytes, const HeadLimits& limits,
                                       RequestHead& out) {
  forget(out);
  HeadParser parser(bytes, limits, ErrorKind::malformed_request);
  Step step = parser.request_line(out);
  if (step == Step::ok) step = parser.fields(out.fields);
  if (step == Step::ok) step = parser.request_meaning(out);
  return parser.result(step);
}

Result<std::size_t> parse_reply_head(std::string_view bytes, const HeadLimits& limits,
                                     bool to_head_request, ReplyHead& out) {
  forget(out);
  HeadParser parser(bytes, limits, ErrorKind::upstream_garbled);
  Step step = parser.status_line(out);
  if (step == Step::ok) step = parser.fields(out.fields);
  if (step == Step::ok) step = parser.reply_meaning(out, to_head_request);
  auto result = parser.result(step);
  if (!result) {
    Error error = std::move(result).error();
    error.status = 0;
    error.message = "The upstream's reply is malformed: " + error.message;
    return error;
  }
  return result;
}

}  // namespace llm_proxy
