// Gemini generateContent: reads what several files of this folder need.

#include "formats/gemini_generate/wire.h"

namespace llm_proxy::gemini_generate {

Usage read_usage(JsonSlice object) {
  std::optional<std::int64_t> prompt, tool_prompt, candidates, thoughts;
  Usage usage;
  JsonReader json(object);
  if (json.kind() != JsonKind::object) return usage;
  const struct {
    std::string_view key;
    std::optional<std::int64_t>* out;
  } rows[] = {{"promptTokenCount", &prompt},
              {"toolUsePromptTokenCount", &tool_prompt},
              {"candidatesTokenCount", &candidates},
              {"thoughtsTokenCount", &thoughts},
              {"cachedContentTokenCount", &usage.cached}};
  std::string_view key;
  json.begin_object();
  while (json.next_key(key)) {
    for (const auto& row : rows) {
      if (row.key == key && json.kind() == JsonKind::number) {
        json.integer(row.out->emplace());
        break;
      }
    }
  }
  if (prompt || tool_prompt) usage.input = prompt.value_or(0) + tool_prompt.value_or(0);
  if (candidates || thoughts) usage.output = candidates.value_or(0) + thoughts.value_or(0);
  usage.reasoning = thoughts;
  return usage;
}

}  // namespace llm_proxy::gemini_generate
