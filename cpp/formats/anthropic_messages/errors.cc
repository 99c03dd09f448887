// Anthropic Messages: writes errors in this format's shape.

#include <array>

#include "formats/anthropic_messages/wire.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::anthropic_messages {

namespace {

struct ErrorTypeRow {
  ErrorKind kind;
  std::string_view type;
};

// The types that Anthropic's clients know. Kinds without a row are api_error.
constexpr std::array kErrorTypes{
    ErrorTypeRow{ErrorKind::malformed_request, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::unsupported, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::unauthenticated, "authentication_error"},
    ErrorTypeRow{ErrorKind::payment_required, "billing_error"},
    ErrorTypeRow{ErrorKind::forbidden, "permission_error"},
    ErrorTypeRow{ErrorKind::not_found, "not_found_error"},
    ErrorTypeRow{ErrorKind::unknown_model, "not_found_error"},
    ErrorTypeRow{ErrorKind::method_not_allowed, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::client_timeout, "timeout_error"},
    ErrorTypeRow{ErrorKind::body_too_large, "request_too_large"},
    ErrorTypeRow{ErrorKind::unprocessable, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::upgrade_required, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::rate_limited, "rate_limit_error"},
    ErrorTypeRow{ErrorKind::head_too_large, "request_too_large"},
    ErrorTypeRow{ErrorKind::upstream_timeout, "timeout_error"},
    ErrorTypeRow{ErrorKind::overloaded, "overloaded_error"},
};

}  // namespace

void encode_error(const Error& error, std::string& out) {
  std::string_view type = "api_error";
  for (const ErrorTypeRow& row : kErrorTypes) {
    if (row.kind == error.kind) type = row.type;
  }
  JsonWriter json(out);
  json.begin_object().member("type", "error").key("error").begin_object();
  json.member("type", type).member("message", std::string_view(error.message));
  if (!error.code.empty()) json.member("code", std::string_view(error.code));
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  out += "event: error\ndata: ";
  encode_error(error, out);
  out += "\n\n";
}

}  // namespace llm_proxy::anthropic_messages
