// OpenAI Chat Completions: writes errors in this format's shape.

#include <array>

#include "formats/openai_chat/wire.h"
#include "json/reader.h"
#include "json/scan.h"
#include "json/writer.h"

namespace llm_proxy::openai_chat {

namespace {

struct ErrorTypeRow {
  ErrorKind kind;
  std::string_view type;
  std::string_view code;
};

// The types that OpenAI's clients know. Kinds without a row are the server's fault.
constexpr std::array kErrorTypes{
    ErrorTypeRow{ErrorKind::malformed_request, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::unsupported, "invalid_request_error", "unsupported_value"},
    ErrorTypeRow{ErrorKind::unauthenticated, "invalid_request_error", "invalid_api_key"},
    ErrorTypeRow{ErrorKind::payment_required, "insufficient_quota", "insufficient_quota"},
    ErrorTypeRow{ErrorKind::forbidden, "permission_error", ""},
    ErrorTypeRow{ErrorKind::not_found, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::unknown_model, "invalid_request_error", "model_not_found"},
    ErrorTypeRow{ErrorKind::method_not_allowed, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::client_timeout, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::body_too_large, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::unprocessable, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::upgrade_required, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::rate_limited, "rate_limit_error", "rate_limit_exceeded"},
    ErrorTypeRow{ErrorKind::head_too_large, "invalid_request_error", ""},
};

}  // namespace

void encode_error(const Error& error, std::string& out) {
  ErrorTypeRow row{error.kind, "server_error", ""};
  for (const ErrorTypeRow& each : kErrorTypes) {
    if (each.kind == error.kind) row = each;
  }
  // Another format's words for the same thing would be strange here; its code is kept.
  JsonWriter json(out);
  json.begin_object().key("error").begin_object();
  json.member("message", std::string_view(error.message)).member("type", row.type);
  if (error.param.empty()) {
    json.member_null("param");
  } else {
    json.member("param", std::string_view(error.param));
  }
  const std::string_view code = error.code.empty() ? row.code : std::string_view(error.code);
  if (code.empty()) {
    json.member_null("code");
  } else {
    json.member("code", code);
  }
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  out += "data: ";
  encode_error(error, out);
  out += "\n\n";
}

}  // namespace llm_proxy::openai_chat
