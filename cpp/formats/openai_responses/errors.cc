// OpenAI Responses: writes errors in this format's shape.

#include "formats/openai_responses/wire.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::openai_responses {

std::string_view error_type(const Error& error) {
  switch (error.kind) {
    case ErrorKind::rate_limited:
      return "rate_limit_error";
    case ErrorKind::payment_required:
      return "insufficient_quota";
    case ErrorKind::forbidden:
      return "permission_error";
    default:
      return error.http_status() >= 500 ? "server_error" : "invalid_request_error";
  }
}

void encode_error(const Error& error, std::string& out) {
  std::string_view code = error.code;
  if (code.empty() && error.kind == ErrorKind::unauthenticated) code = "invalid_api_key";
  if (code.empty() && error.kind == ErrorKind::unknown_model) code = "model_not_found";
  if (code.empty() && error.kind == ErrorKind::rate_limited) code = "rate_limit_exceeded";
  const auto word_or_null = [](JsonWriter& json, std::string_view key, std::string_view word) {
    if (word.empty()) {
      json.member_null(key);
    } else {
      json.member(key, word);
    }
  };
  JsonWriter json(out);
  json.begin_object().key("error").begin_object();
  json.member("message", std::string_view(error.message)).member("type", error_type(error));
  word_or_null(json, "param", error.param);
  word_or_null(json, "code", code);
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  std::string body;
  encode_error(error, body);
  out += "event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,";
  out.append(body, 1, body.size() - 1);
  out += "\n\n";
}

}  // namespace llm_proxy::openai_responses
