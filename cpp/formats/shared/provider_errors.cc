#include "formats/shared/provider_errors.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/duration_text.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/words.h"
#include "json/reader.h"

namespace llm_proxy {

namespace {

struct WordRow {
  std::string_view word;
  ErrorKind kind;
};

// What servers call their errors, in `type`, `code` or `status`.
constexpr std::array kErrorWords{
    WordRow{"overloaded_error", ErrorKind::overloaded},
    WordRow{"rate_limit_error", ErrorKind::rate_limited},
    WordRow{"rate_limit_exceeded", ErrorKind::rate_limited},
    WordRow{"RESOURCE_EXHAUSTED", ErrorKind::rate_limited},
    WordRow{"insufficient_quota", ErrorKind::rate_limited},
    WordRow{"billing_error", ErrorKind::payment_required},
    WordRow{"authentication_error", ErrorKind::unauthenticated},
    WordRow{"invalid_api_key", ErrorKind::unauthenticated},
    WordRow{"UNAUTHENTICATED", ErrorKind::unauthenticated},
    WordRow{"permission_error", ErrorKind::forbidden},
    WordRow{"PERMISSION_DENIED", ErrorKind::forbidden},
    WordRow{"model_not_found", ErrorKind::unknown_model},
    WordRow{"not_found_error", ErrorKind::not_found},
    WordRow{"NOT_FOUND", ErrorKind::not_found},
    WordRow{"request_too_large", ErrorKind::body_too_large},
    WordRow{"invalid_request_error", ErrorKind::malformed_request},
    WordRow{"invalid_prompt", ErrorKind::malformed_request},
    WordRow{"tool_use_failed", ErrorKind::malformed_request},
    WordRow{"INVALID_ARGUMENT", ErrorKind::malformed_request},
    WordRow{"FAILED_PRECONDITION", ErrorKind::malformed_request},
    WordRow{"timeout_error", ErrorKind::upstream_timeout},
    WordRow{"DEADLINE_EXCEEDED", ErrorKind::upstream_timeout},
    WordRow{"UNAVAILABLE", ErrorKind::unavailable},
    WordRow{"api_error", ErrorKind::internal},
    WordRow{"server_error", ErrorKind::internal},
    WordRow{"INTERNAL", ErrorKind::internal},
};

std::optional<ErrorKind> kind_of_word(std::string_view word) {
  for (const WordRow& row : kErrorWords) {
    if (row.word == word) return row.kind;
  }
  return std::nullopt;
}

// A string's text, a number's digits; anything else as it stands, shortened.
std::string plain_of(JsonSlice value) {
  if (value.empty() || value == "null") return {};
  if (value.front() == '"') return Text::escaped(value.substr(1, value.size() - 2)).decode();
  return std::string(value.substr(0, 500));
}

std::string cut_text(std::string_view text) {
  std::size_t size = std::min<std::size_t>(text.size(), 500);
  while (size > 0 && size < text.size() && (text[size] & 0xC0) == 0x80) --size;
  return std::string(text.substr(0, size));
}

// What bodies say about the time to wait, where the head says nothing.
constexpr std::array<std::string_view, 5> kWaitWords{"\"retryDelay\"", "\"quotaResetDelay\"",
                                                     "reset after ", "try again in ", "retry in "};

std::optional<std::chrono::milliseconds> retry_delay(std::string_view body) {
  for (const auto words : kWaitWords) {
    const std::size_t at = body.find(words);
    if (at == std::string_view::npos) continue;
    const std::size_t digits = body.find_first_of("0123456789", at + words.size());
    if (digits == std::string_view::npos || digits - at > words.size() + 4) continue;
    if (const auto time = parse_duration_text(body.substr(digits))) return time;
  }
  return std::nullopt;
}

// Fills message, type, code and param from the usual places. False when there is no
// message.
bool read_error_object(JsonSlice object, Error& error, int& code_number) {
  JsonReader json(object);
  std::string_view key;
  JsonSlice inner, message, type, code, param, status, detail;
  if (!json.begin_object()) return false;
  while (json.next_key(key)) {
    if (key == "error" || key == "response") {
      json.value(inner);
    } else if (key == "message") {
      json.value(message);
    } else if (key == "type") {
      json.value(type);
    } else if (key == "code") {
      json.value(code);
    } else if (key == "param") {
      json.value(param);
    } else if (key == "status") {
      json.value(status);
    } else if (key == "detail") {
      json.value(detail);
    }
  }
  if (!json.finish()) return false;
  if (!code.empty()) {
    if (code.front() == '"') {
      error.code = plain_of(code);
    } else {
      std::from_chars(code.data(), code.data() + code.size(), code_number);
    }
  }
  if (!inner.empty() && inner.front() == '{') return read_error_object(inner, error, code_number);
  if (!inner.empty() && inner.front() == '"') message = inner;
  if (message.empty() || message == "null") message = detail;
  if (const std::string word = plain_of(type); word != "error") error.type = word;
  if (error.type.empty() || !kind_of_word(error.type)) {
    if (!status.empty() && status.front() == '"') error.type = plain_of(status);
  }
  error.param = plain_of(param);
  error.message = plain_of(message);
  return !error.message.empty() || !error.type.empty() || !error.code.empty();
}

}  // namespace

Error malformed(std::string message, std::string param) {
  return Error{.kind = ErrorKind::malformed_request,
               .message = std::move(message),
               .param = std::move(param)};
}

Error garbled(std::string_view what) {
  return Error{.kind = ErrorKind::upstream_garbled, .message = std::string(what)};
}

Error garbled(std::string_view wanted, std::string_view why) {
  std::string message("The upstream's answer is not ");
  message.append(wanted).append(" (").append(why).append(").");
  return garbled(message);
}

Error too_interleaved() {
  return Error{.kind = ErrorKind::upstream_too_large,
               .message = "The upstream interleaved too much output."};
}

Error cut_short() {
  return Error{.kind = ErrorKind::upstream_cut,
               .message = "The upstream's stream ended before it was complete."};
}

Error decode_any_error(int status, std::string_view body) {
  Error error;
  int code_number = 0;
  // Gemini's array form: [{"error": …}].
  std::string_view object = body;
  const std::size_t first = object.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && object[first] == '[') {
    JsonReader json(object);
    JsonSlice item;
    if (json.begin_array() && json.next_item() && json.value(item)) object = item;
  }
  if (!valid_utf8(object) || !read_error_object(object, error, code_number)) {
    error.message = valid_utf8(body) ? cut_text(body) : std::string();
  }
  error.status = status;
  error.kind = kind_of_status(status);
  if (status == 400 && body.find("API_KEY_INVALID") != std::string_view::npos) {
    error.kind = ErrorKind::unauthenticated;
    error.status = 401;
  }
  if (error.code == "model_not_found" && (status == 400 || status == 404)) {
    error.kind = ErrorKind::unknown_model;
  }
  if (error.type == "overloaded_error" && status >= 500) error.kind = ErrorKind::overloaded;
  if (status == 429 || status >= 500) error.retry_after = retry_delay(body);
  error.message = masked(error.message);
  if (error.message.empty()) {
    error.message = "The upstream answered with status " + std::to_string(status) + ".";
  }
  return error;
}

Error decode_stream_error(JsonSlice json) {
  Error error;
  int code_number = 0;
  if (!read_error_object(json, error, code_number)) error.message = cut_text(json);
  error.kind = ErrorKind::internal;
  if (code_number >= 400 && code_number < 600) {
    error.status = code_number;
    error.kind = kind_of_status(code_number);
  }
  if (const auto by_type = kind_of_word(error.type)) error.kind = *by_type;
  if (const auto by_code = kind_of_word(error.code)) error.kind = *by_code;
  error.retry_after = retry_delay(json);
  error.message = masked(error.message);
  if (error.message.empty()) error.message = "The upstream reported an error without a message.";
  return error;
}

std::string masked(std::string_view text) {
  constexpr std::array<std::string_view, 6> kKeyStarts{"sk-",  "Bearer ", "AIza",
                                                       "gsk_", "xai-",    "key="};
  constexpr std::size_t kShortestSecret = 16;
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    for (const std::string_view start : kKeyStarts) {
      if (text.compare(at, start.size(), start) != 0) continue;
      end = at + start.size();
      while (end < text.size() && (is_word(text[end]) || text[end] == '.')) ++end;
      if (end - at - start.size() < kShortestSecret) {
        end = at;
        continue;
      }
      out += start;
      out += "***";
      break;
    }
    if (end == at)
      out += text[at++];
    else
      at = end;
  }
  return out;
}

}  // namespace llm_proxy
