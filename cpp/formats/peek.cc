#include <algorithm>
#include <array>

#include "formats/common.h"
#include "json/reader.h"

namespace llm_proxy {
namespace {

void peek_stream_options(JsonSlice object, RequestPeek& peek) {
  peek.include_usage.reset();
  const JsonSlice include = member(object, "include_usage");
  if (include == "true" || include == "false") peek.include_usage = include == "true";
}

Span span_of_next(JsonReader& json) {
  if (json.null()) return {};
  const std::size_t begin = json.position();
  JsonSlice value;
  json.value(value);
  return {begin, begin + value.size()};
}

}  // namespace

bool is_for_proxy(std::string_view member) {
  constexpr std::array<std::string_view, 5> kMembers{"extra_body", "session_id", "agent",
                                                     "backend_type", "request_context_tokens"};
  return std::find(kMembers.begin(), kMembers.end(), member) != kMembers.end();
}

Result<RequestPeek> peek_request(std::string_view body) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  RequestPeek peek;
  JsonReader json(body);
  std::string_view key;
  if (!json.begin_object()) return json.error(ErrorKind::malformed_request);
  peek.object_begin = json.position();
  while (json.next_key(key)) {
    if (key == "model") {
      Text model;
      peek.model_begin = json.position();
      if (!json.null() && json.string(model)) peek.model = model.decode();
      peek.model_end = peek.model_begin + json.since(peek.model_begin).size();
    } else if (key == "stream") {
      if (!json.null()) json.boolean(peek.stream);
    } else if (key == "stream_options") {
      peek.stream_options_begin = json.position();
      JsonSlice object;
      if (!json.null() && json.object(object)) peek_stream_options(object, peek);
      peek.has_stream_options = true;
      peek.stream_options_end =
          peek.stream_options_begin + json.since(peek.stream_options_begin).size();
    } else if (key == "store") {
      if (json.kind() == JsonKind::boolean) json.boolean(peek.store);
    } else if (key == "input") {
      peek.input = span_of_next(json);
    } else if (key == "previous_response_id") {
      peek.previous_response_id = span_of_next(json);
    } else if (key == "conversation") {
      peek.conversation = span_of_next(json);
    } else if (is_for_proxy(key)) {
      peek.for_proxy = true;
    }
  }
  if (!json.finish()) return json.error(ErrorKind::malformed_request);
  return peek;
}

}  // namespace llm_proxy
