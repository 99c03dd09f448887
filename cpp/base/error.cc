#include "base/error.h"

#include <array>

namespace llm_proxy {
namespace {

struct ErrorRow {
  ErrorKind kind;
  int status;
  std::string_view name;
};

// In the order of the enum, so that a kind is its own index.
constexpr std::array kErrorRows{
    ErrorRow{ErrorKind::malformed_request, 400, "malformed_request"},
    ErrorRow{ErrorKind::unsupported, 400, "unsupported"},
    ErrorRow{ErrorKind::unauthenticated, 401, "unauthenticated"},
    ErrorRow{ErrorKind::payment_required, 402, "payment_required"},
    ErrorRow{ErrorKind::forbidden, 403, "forbidden"},
    ErrorRow{ErrorKind::not_found, 404, "not_found"},
    ErrorRow{ErrorKind::unknown_model, 404, "unknown_model"},
    ErrorRow{ErrorKind::method_not_allowed, 405, "method_not_allowed"},
    ErrorRow{ErrorKind::client_timeout, 408, "client_timeout"},
    ErrorRow{ErrorKind::body_too_large, 413, "body_too_large"},
    ErrorRow{ErrorKind::unprocessable, 422, "unprocessable"},
    ErrorRow{ErrorKind::upgrade_required, 426, "upgrade_required"},
    ErrorRow{ErrorKind::rate_limited, 429, "rate_limited"},
    ErrorRow{ErrorKind::head_too_large, 431, "head_too_large"},
    ErrorRow{ErrorKind::cancelled, 499, "cancelled"},
    ErrorRow{ErrorKind::internal, 500, "internal"},
    ErrorRow{ErrorKind::upstream_garbled, 502, "upstream_garbled"},
    ErrorRow{ErrorKind::upstream_cut, 502, "upstream_cut"},
    ErrorRow{ErrorKind::upstream_too_large, 502, "upstream_too_large"},
    ErrorRow{ErrorKind::upstream_unreachable, 502, "upstream_unreachable"},
    ErrorRow{ErrorKind::unavailable, 503, "unavailable"},
    ErrorRow{ErrorKind::short_of_memory, 503, "short_of_memory"},
    ErrorRow{ErrorKind::upstream_timeout, 504, "upstream_timeout"},
    ErrorRow{ErrorKind::overloaded, 529, "overloaded"},
};

constexpr bool rows_match_enum() {
  for (std::size_t i = 0; i < kErrorRows.size(); ++i) {
    if (static_cast<std::size_t>(kErrorRows[i].kind) != i) return false;
  }
  return kErrorRows.size() == static_cast<std::size_t>(ErrorKind::overloaded) + 1;
}
static_assert(rows_match_enum());

const ErrorRow& row(ErrorKind kind) {
  return kErrorRows[static_cast<std::size_t>(kind)];
}

}  // namespace

int http_status(ErrorKind kind) {
  return row(kind).status;
}

std::string_view name(ErrorKind kind) {
  return row(kind).name;
}

ErrorKind kind_of_status(int status) {
  switch (status) {
    case 502:
      return ErrorKind::upstream_garbled;
    case 404:
      return ErrorKind::not_found;
    case 400:
      return ErrorKind::malformed_request;
  }
  for (const auto& candidate : kErrorRows) {
    if (candidate.status == status) return candidate.kind;
  }
  if (status >= 500) return ErrorKind::unavailable;
  return ErrorKind::malformed_request;
}

int Error::http_status() const {
  return status != 0 ? status : llm_proxy::http_status(kind);
}

}  // namespace llm_proxy
