// Anthropic Messages: reads what several files of this folder need.

#include "formats/anthropic_messages/wire.h"

namespace llm_proxy::anthropic_messages {

void Counts::read_from(JsonReader& json) {
  std::string_view key;
  if (json.kind() != JsonKind::object || !json.begin_object()) return;
  const auto count = [&](std::optional<std::int64_t>& slot) {
    std::int64_t value = 0;
    if (json.maybe_integer(value)) slot = value;
  };
  while (json.next_key(key)) {
    if (key == "input_tokens") {
      count(input);
    } else if (key == "cache_read_input_tokens") {
      count(read);
    } else if (key == "cache_creation_input_tokens") {
      count(written);
    } else if (key == "output_tokens") {
      count(output);
    } else if (key == "output_tokens_details" && json.kind() == JsonKind::object) {
      json.begin_object();
      while (json.next_key(key)) {
        if (key == "thinking_tokens") count(thinking);
      }
    }
  }
}

Usage Counts::usage() const {
  Usage usage;
  if (input || read || written) {
    usage.input = input.value_or(0) + read.value_or(0) + written.value_or(0);
  }
  usage.cached = read;
  usage.written = written;
  usage.output = output;
  usage.reasoning = thinking;
  return usage;
}

}  // namespace llm_proxy::anthropic_messages
