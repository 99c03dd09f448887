#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "formats/shared/provider_errors.h"
#include "json/reader.h"

namespace llm_proxy {
namespace {

void peek_stream_options(JsonSlice object, RequestPeek& peek) {
  peek.include_usage.reset();
  const JsonSlice include = member(object, "include_usage");
  if (include == "true" || include == "false") peek.include_usage = include == "true";
}

// Members of a body that this proxy decides by, in any of the formats.
struct DecidedRow {
  std::string_view name;
  std::string_view also;  // Gemini's servers know a name in two spellings
};
constexpr std::array kDecided{
    DecidedRow{"model", ""},
    DecidedRow{"stream", ""},
    DecidedRow{"stream_options", ""},
    DecidedRow{"store", ""},
    DecidedRow{"input", ""},
    DecidedRow{"prompt", ""},
    DecidedRow{"suffix", ""},
    DecidedRow{"messages", ""},
    DecidedRow{"contents", ""},
    DecidedRow{"system", ""},
    DecidedRow{"instructions", ""},
    DecidedRow{"tools", ""},
    DecidedRow{"tool_choice", ""},
    DecidedRow{"max_tokens", ""},
    DecidedRow{"max_completion_tokens", ""},
    DecidedRow{"max_output_tokens", ""},
    DecidedRow{"conversation", ""},
    DecidedRow{"previous_response_id", ""},
    DecidedRow{"metadata", ""},
    DecidedRow{"extra_body", ""},
    DecidedRow{"generationConfig", "generation_config"},
    DecidedRow{"systemInstruction", "system_instruction"},
    DecidedRow{"toolConfig", "tool_config"},
    DecidedRow{"safetySettings", "safety_settings"},
    DecidedRow{"cachedContent", "cached_content"},
};

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

// As proto3's JSON mapping does: "generation_config" is "generationConfig".
std::string without_underscores(std::string_view name) {
  std::string out;
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] != '_' || i + 1 == name.size()) {
      out += name[i];
    } else {
      const char next = name[++i];
      out += next >= 'a' && next <= 'z' ? static_cast<char>(next - 0x20) : next;
    }
  }
  return out;
}

bool same_letters(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return lower(x) == lower(y); });
}

// Whether a member of the body can be taken for one that this proxy decides by and reads under
// another spelling: a server that ignores case takes "Model" for "model", and one of Gemini's takes
// "generation_config" for "generationConfig". `seen` has a bit for each row.
bool check_spelling(JsonReader& json, std::string_view key, std::uint64_t& seen) {
  for (std::size_t i = 0; i < kDecided.size(); ++i) {
    const auto& row = kDecided[i];
    if (key == row.name || (!row.also.empty() && key == row.also)) {
      const std::uint64_t bit = std::uint64_t{1} << i;
      if ((seen & bit) != 0) return json.fail("stands twice, in two spellings");
      seen |= bit;
      return true;
    }
    if (same_letters(key, row.name) || (!row.also.empty() && same_letters(key, row.also))) {
      return json.fail("must be spelled '" + std::string(row.name) + "'");
    }
  }
  return true;
}

// Gemini's generationConfig: no member in two spellings.
bool check_both_spellings(JsonReader& json, JsonSlice config) {
  std::vector<std::string> seen;
  JsonReader inner(config);
  std::string_view key;
  if (inner.kind() != JsonKind::object || !inner.begin_object()) return true;
  while (inner.next_key(key)) {
    auto name = without_underscores(key);
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
      return json.fail("has the member '" + name.substr(0, 60) + "' twice, in two spellings");
    }
    if (seen.size() < 64) seen.push_back(std::move(name));
  }
  return true;
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
  JsonReader json(body, {.finite_numbers = true, .unique_members = true});
  std::string_view key;
  std::uint64_t seen = 0;
  if (!json.begin_object()) return json.error(ErrorKind::malformed_request);
  peek.object_begin = json.position();
  while (json.next_key(key) && check_spelling(json, key, seen)) {
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
    } else if (key == "generationConfig" || key == "generation_config") {
      JsonSlice config;
      if (json.value(config)) check_both_spellings(json, config);
    } else if (is_for_proxy(key)) {
      peek.for_proxy = true;
    }
  }
  if (!json.finish()) return json.error(ErrorKind::malformed_request);
  return peek;
}

}  // namespace llm_proxy
