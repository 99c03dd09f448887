// Gemini generateContent: writes errors in this format's shape.

#include <array>

#include "formats/gemini_generate/wire.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::gemini_generate {

namespace {

struct StatusRow {
  int status;
  std::string_view word;
};
constexpr std::array kStatusWords{
    StatusRow{400, "INVALID_ARGUMENT"},
    StatusRow{401, "UNAUTHENTICATED"},
    StatusRow{402, "RESOURCE_EXHAUSTED"},
    StatusRow{403, "PERMISSION_DENIED"},
    StatusRow{404, "NOT_FOUND"},
    StatusRow{408, "DEADLINE_EXCEEDED"},
    StatusRow{409, "ABORTED"},
    StatusRow{413, "INVALID_ARGUMENT"},
    StatusRow{422, "INVALID_ARGUMENT"},
    StatusRow{429, "RESOURCE_EXHAUSTED"},
    StatusRow{499, "CANCELLED"},
    StatusRow{500, "INTERNAL"},
    StatusRow{502, "INTERNAL"},
    StatusRow{503, "UNAVAILABLE"},
    StatusRow{504, "DEADLINE_EXCEEDED"},
    StatusRow{529, "UNAVAILABLE"},
};

}  // namespace

void encode_error(const Error& error, std::string& out) {
  const int status = error.http_status() == 529 ? 503 : error.http_status();
  std::string_view word = status >= 500 ? "INTERNAL" : "INVALID_ARGUMENT";
  for (const StatusRow& row : kStatusWords) {
    if (row.status == status) word = row.word;
  }
  JsonWriter json(out);
  json.begin_object().key("error").begin_object().member("code", std::int64_t{status});
  json.member("message", std::string_view(error.message)).member("status", word);
  const bool details = error.retry_after || !error.code.empty();
  if (details) json.key("details").begin_array();
  if (!error.code.empty()) {
    json.begin_object().member("@type", "type.googleapis.com/google.rpc.ErrorInfo");
    json.member("reason", std::string_view(error.code)).end_object();
  }
  if (error.retry_after) {
    const std::string delay = std::to_string((error.retry_after->count() + 999) / 1000) + "s";
    json.begin_object().member("@type", "type.googleapis.com/google.rpc.RetryInfo");
    json.member("retryDelay", std::string_view(delay)).end_object();
  }
  if (details) json.end_array();
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  out += "data: ";
  encode_error(error, out);
  out += "\r\n\r\n";
}

namespace {

// A bad key is a 400 here and a 401 everywhere else.
Error with_bad_key(Error error, std::string_view body) {
  if (error.http_status() == 400 && (body.find("API_KEY_INVALID") != std::string_view::npos ||
                                     body.find("API key not valid") != std::string_view::npos)) {
    error.kind = ErrorKind::unauthenticated;
    error.status = 401;
  }
  return error;
}

}  // namespace

Error decode_error(int status, std::string_view body) {
  return with_bad_key(decode_any_error(status, body), body);
}

Error stream_error(JsonSlice json) {
  return with_bad_key(decode_stream_error(json), json);
}

}  // namespace llm_proxy::gemini_generate
