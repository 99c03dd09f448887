// OpenAI Responses: reads what several files of this folder need.

#include "formats/openai_responses/wire.h"

namespace llm_proxy::openai_responses {

Usage read_usage(JsonSlice object) {
  Usage usage;
  const auto detail = [](JsonReader& json, std::string_view wanted,
                         std::optional<std::int64_t>& out) {
    std::string_view key;
    if (json.kind() != JsonKind::object) return;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == wanted && json.kind() == JsonKind::number) json.integer(out.emplace());
      if (key == "cache_write_tokens" && wanted == "cached_tokens") continue;
    }
  };
  JsonReader json(object);
  if (json.kind() != JsonKind::object) return usage;
  std::string_view key;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "input_tokens" && json.kind() == JsonKind::number)
      json.integer(usage.input.emplace());
    if (key == "output_tokens" && json.kind() == JsonKind::number)
      json.integer(usage.output.emplace());
    if (key == "input_tokens_details" && json.kind() == JsonKind::object) {
      JsonSlice details;
      json.object(details);
      JsonReader cached(details), written(details);
      detail(cached, "cached_tokens", usage.cached);
      detail(written, "cache_write_tokens", usage.written);
    }
    if (key == "output_tokens_details") detail(json, "reasoning_tokens", usage.reasoning);
  }
  return usage;
}

bool read_response(JsonSlice source, ResponseObject& out) {
  JsonReader json(source);
  std::string_view key;
  if (json.kind() != JsonKind::object) return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "id") {
      json.maybe_string(out.id);
    } else if (key == "model") {
      json.maybe_string(out.model);
    } else if (key == "status") {
      json.maybe_string(out.status);
    } else if (key == "created_at") {
      json.maybe_integer(out.created);
    } else if (key == "output" && json.kind() == JsonKind::array) {
      json.value(out.output);
    } else if (key == "usage" && json.kind() == JsonKind::object) {
      json.value(out.usage);
    } else if (key == "error" && json.kind() == JsonKind::object) {
      json.value(out.error);
    } else if (key == "incomplete_details" && json.kind() == JsonKind::object) {
      JsonSlice details;
      json.value(details);
      out.incomplete_reason = string_member(details, "reason");
    }
  }
  return json.finish();
}

bool read_event(std::string_view data, StreamEvent& out) {
  JsonReader json(data);
  std::string_view key;
  if (json.kind() != JsonKind::object) return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "type") {
      json.maybe_string(out.type);
    } else if (key == "delta") {
      json.maybe_string(out.delta);
    } else if (key == "output_index") {
      json.maybe_integer(out.output_index);
    } else if (key == "content_index") {
      json.maybe_integer(out.content_index);
    } else if (key == "summary_index") {
      json.maybe_integer(out.summary_index);
    } else if (key == "item" && json.kind() == JsonKind::object) {
      json.value(out.item);
    } else if (key == "response" && json.kind() == JsonKind::object) {
      json.value(out.response);
    } else if (key == "text") {
      json.maybe_string(out.text);
    } else if (key == "refusal") {
      json.maybe_string(out.refusal);
    } else if (key == "arguments") {
      json.maybe_string(out.arguments);
    } else if (key == "input") {
      json.maybe_string(out.input);
    } else if (key == "annotation" && json.kind() == JsonKind::object) {
      json.value(out.annotation);
    } else if (key == "error" && json.kind() == JsonKind::object) {
      json.value(out.error);
    }
  }
  return json.finish();
}

}  // namespace llm_proxy::openai_responses
