// OpenAI Chat Completions: reads what several files of this folder need.

#include "formats/openai_chat/wire.h"

namespace llm_proxy::openai_chat {

void read_count(JsonReader& json, std::optional<std::int64_t>& count) {
  std::int64_t value = 0;
  if (json.maybe_integer(value)) count = value;
}

Usage read_usage(JsonReader& json) {
  Usage usage;
  std::optional<std::int64_t> total, hit;
  std::string_view key;
  if (!json.begin_object()) return usage;
  while (json.next_key(key)) {
    if (key == "prompt_tokens") {
      read_count(json, usage.input);
    } else if (key == "completion_tokens") {
      read_count(json, usage.output);
    } else if (key == "total_tokens") {
      read_count(json, total);
    } else if (key == "prompt_cache_hit_tokens" || key == "cached_tokens") {
      read_count(json, hit);
    } else if ((key == "prompt_tokens_details" || key == "completion_tokens_details") &&
               json.kind() == JsonKind::object) {
      json.begin_object();
      while (json.next_key(key)) {
        if (key == "cached_tokens") read_count(json, usage.cached);
        if (key == "cache_write_tokens") read_count(json, usage.written);
        if (key == "reasoning_tokens") read_count(json, usage.reasoning);
      }
    }
  }
  if (usage.cached.value_or(0) == 0 && hit) usage.cached = hit;
  if (total && usage.input && *total - *usage.input > usage.output.value_or(0)) {
    usage.output = *total - *usage.input;
  }
  return usage;
}

}  // namespace llm_proxy::openai_chat
