#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace llm_proxy {

// What went wrong, independent of any wire format. One table (error.cc) gives each kind its HTTP
// status; each wire format's codec turns a kind into that format's own error body.
enum class ErrorKind : std::uint8_t {
  malformed_request,  // 400: not HTTP, not JSON, a known field of the wrong type
  unsupported,  // 400: understood, but this backend cannot do it and dropping it would change the
                // answer
  unauthenticated,       // 401
  payment_required,      // 402
  forbidden,             // 403
  not_found,             // 404: no such route or stored object
  unknown_model,         // 404
  method_not_allowed,    // 405
  client_timeout,        // 408: the client went silent in the middle of its request
  body_too_large,        // 413
  unprocessable,         // 422
  upgrade_required,      // 426: a WebSocket where we speak HTTP
  rate_limited,          // 429
  head_too_large,        // 431
  cancelled,             // 499: the client left; logged, never sent
  internal,              // 500
  upstream_garbled,      // 502: the upstream's bytes are not what its format allows
  upstream_cut,          // 502: the upstream ended before its terminator
  upstream_too_large,    // 502: the upstream sends more than is kept of a reply, a head or an event
  upstream_unreachable,  // 502: connect, DNS or TLS failed
  unavailable,           // 503
  short_of_memory,       // 503: the proxy itself; see MemoryBudget
  upstream_timeout,      // 504
  overloaded,            // 529
};

// An error as a value: on the data path nothing is thrown. Owns its strings; cheap to move.
struct Error {
  ErrorKind kind = ErrorKind::internal;
  std::string message;  // for the client: what happened and what to do next; never a secret
  int status = 0;       // HTTP status of whoever said it; 0: the kind's own
  std::string type;     // upstream's own word ("rate_limit_error"); empty: derived from the kind
  std::string code;     // "context_length_exceeded", "model_not_found"; may be empty
  std::string param;    // the request field at fault; may be empty
  std::optional<std::chrono::milliseconds> retry_after;
  std::string detail;  // for the log alone, such as the address of an upstream; may be empty

  // `status`, or the kind's row of the table.
  int http_status() const;
};

// The HTTP status of a kind, and a stable snake_case name for logs.
int http_status(ErrorKind kind);
std::string_view name(ErrorKind kind);

// The kind that best describes an HTTP status an upstream answered with.
ErrorKind kind_of_status(int status);

}  // namespace llm_proxy
