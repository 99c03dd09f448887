#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llm_proxy {

// One header field; name and value are views into the buffer that was parsed, the value trimmed.
struct Field {
  std::string_view name;
  std::string_view value;
  bool hop_by_hop = false;  // belongs to this connection (RFC 9110 7.6.1) or is named by
                            // `Connection`: never passed on
};

// ASCII case-insensitive equality, for field names and tokens.
bool iequals(std::string_view a, std::string_view b);

// The same with "_" taken for "-": servers that hand fields on as variables (CGI, WSGI) know no
// difference.
bool same_field(std::string_view a, std::string_view b);

// True if the comma-separated `list` holds `token`, ignoring case.
bool has_token(std::string_view list, std::string_view token);

class Fields {
 public:
  // The first field of that name (any case), or null. Absent and empty are different things.
  const Field* find(std::string_view name) const;
  // Its value; empty if absent.
  std::string_view value(std::string_view name) const;
  std::size_t count(std::string_view name) const;

  void clear() { fields_.clear(); }
  void add(std::string_view name, std::string_view value) { fields_.push_back({name, value}); }
  std::size_t size() const { return fields_.size(); }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }
  auto begin() { return fields_.begin(); }
  auto end() { return fields_.end(); }

 private:
  std::vector<Field> fields_;  // keeps its capacity from one request to the next
};

// How long the body is.
enum class Framing : std::uint8_t {
  none,
  length,       // `content_length` bytes
  chunked,      // ChunkedDecoder tells where it ends
  until_close,  // replies only: ends with the connection
};

// What a request's and a reply's head have in common. Views into the caller's buffer, which must
// neither move nor be overwritten while they are used.
struct MessageHead {
  int version_minor = 1;  // HTTP/1.x
  Fields fields;
  Framing framing = Framing::none;
  std::uint64_t content_length = 0;  // with Framing::length
  bool keep_alive = true;            // the connection may carry another message after this one
  std::string_view upgrade;  // the protocol, if `Connection: upgrade` asked for it; empty: none
};

struct RequestHead : MessageHead {
  std::string_view method;
  std::string_view target;  // as sent
  std::string_view path;    // "/v1/chat/completions": without scheme, authority and query; "*" for
                            // OPTIONS *; not decoded
  std::string_view query;   // after the '?'; empty if none
  std::string_view host;    // the Host field
  std::string_view authority;  // of an absolute-form target; empty if the target has none
  bool expect_continue = false;
};

struct ReplyHead : MessageHead {
  int status = 0;
  std::string_view reason;

  // 100 to 199 but not 101: another head follows. Whoever reads them counts them.
  bool interim() const { return status < 200 && status != 101; }
};

struct HeadLimits {
  std::size_t bytes = 32 << 10;
  std::size_t fields = 100;
};

// Parses the head at the front of `bytes`: its length; 0 if it is not complete yet, call again with
// more; or an Error: malformed_request (status 505 for another version, 417 for another
// expectation) or head_too_large. After an Error the connection is of no further use than to send
// the answer.
//
// Strict where leniency lets two parsers disagree (request smuggling). Refused: Content-Length with
// Transfer-Encoding, repeated or list-valued Content-Length, any transfer coding but a lone
// `chunked`, transfer codings in HTTP/1.0, missing, repeated or malformed Host, folded lines, bare
// CR or LF, NUL and other controls, a space before the colon.
Result<std::size_t> parse_request_head(std::string_view bytes, const HeadLimits& limits,
                                       RequestHead& out);

// The same for a reply; Errors are upstream_garbled. `to_head_request`: a reply to HEAD, which has
// no body whatever it says. Interim replies are heads of their own.
Result<std::size_t> parse_reply_head(std::string_view bytes, const HeadLimits& limits,
                                     bool to_head_request, ReplyHead& out);

}  // namespace llm_proxy
