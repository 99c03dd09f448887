#include "formats/shared/arguments.h"

#include <algorithm>

#include "json/reader.h"

namespace llm_proxy {

namespace {

// The value of the only member, a string, of `object` when its key is `key`.
std::optional<Text> only_string_member(JsonSlice object, std::string_view key) {
  JsonReader json(object);
  std::string_view name;
  Text text;
  int members = 0;
  bool found = false;
  if (!json.begin_object()) return std::nullopt;
  while (json.next_key(name)) {
    ++members;
    if (name == key && json.kind() == JsonKind::string) found = json.string(text);
  }
  if (!json.finish() || members != 1 || !found) return std::nullopt;
  return text;
}

}  // namespace

void write_arguments_object(const ToolCallPart& call, JsonWriter& json) {
  if (call.kind == CallKind::custom) {
    json.begin_object().member("input", call.arguments_text).end_object();
    return;
  }
  std::string compact;
  if (!call.arguments_object.empty()) {
    compact_to(call.arguments_object, compact);
    json.raw(compact);
    return;
  }
  const std::string text = call.arguments_text.decode();
  if (is_json_object(text)) {
    compact_to(text, compact);
    json.raw(compact);
  } else if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    json.raw("{}");
  } else {
    json.begin_object().member(kRawArgumentsKey, std::string_view(text)).end_object();
  }
}

void append_arguments_text(const ToolCallPart& call, std::string& escaped) {
  if (call.kind == CallKind::custom) {
    std::string wrapped;
    JsonWriter(wrapped).begin_object().member("input", call.arguments_text).end_object();
    Text::plain(wrapped).escape_to(escaped);
  } else if (call.arguments_object.empty()) {
    call.arguments_text.escape_to(escaped);
  } else if (const auto raw = only_string_member(call.arguments_object, kRawArgumentsKey)) {
    raw->escape_to(escaped);
  } else {
    std::string compact;
    compact_to(call.arguments_object, compact);
    Text::plain(compact).escape_to(escaped);
  }
}

std::string unwrapped_input(std::string_view arguments) {
  const auto input = only_string_member(arguments, "input");
  return input ? input->decode() : std::string(arguments);
}

std::string response_text(JsonSlice response) {
  for (const std::string_view key : {"output", "result", "error", "content"}) {
    if (const auto text = only_string_member(response, key)) {
      std::string escaped;
      text->escape_to(escaped);
      return escaped;
    }
  }
  std::string compact, escaped;
  compact_to(response, compact);
  Text::plain(compact).escape_to(escaped);
  return escaped;
}

std::string result_text(const Part& part) {
  std::string text;
  if (const auto* said = std::get_if<TextPart>(&part)) {
    said->text.escape_to(text);
  } else if (const auto* media = std::get_if<MediaPart>(&part)) {
    if (media->source == MediaPart::Source::text) media->data.escape_to(text);
  } else if (const auto* raw = std::get_if<RawPart>(&part);
             raw != nullptr && raw->type == "search_result") {
    const auto line = [&](Text piece) {
      if (piece.empty()) return;
      if (!text.empty()) text += "\\n";
      piece.escape_to(text);
    };
    line(string_member(raw->json, "title"));
    line(string_member(raw->json, "source"));
    JsonReader json(member(raw->json, "content"));
    if (json.kind() != JsonKind::array) return text;
    json.begin_array();
    while (json.next_item()) {
      JsonSlice block;
      if (!json.object(block)) break;
      line(string_member(block, "text"));
    }
  }
  return text;
}

bool is_offered(const Tool& tool) {
  return !tool.deferred || !(tool.name == "DeferredToolPlaceholder");
}

bool is_system(Role role) {
  return role == Role::system || role == Role::developer;
}

bool may_be_left_out(const Request& request, const Tool& server_tool) {
  // Responses says web_search, Anthropic web_search_20250305: what coding agents offer unasked.
  constexpr std::string_view kOffered = "web_search";
  if (server_tool.type.substr(0, kOffered.size()) != kOffered) return false;
  if (request.tool_choice && request.tool_choice->mode == ToolChoice::Mode::one) {
    const std::string name = server_tool.name.decode();
    const auto& names = request.tool_choice->names;
    if (std::any_of(names.begin(), names.end(),
                    [&](Text each) { return each == name || each == server_tool.type; })) {
      return false;
    }
  }
  return std::any_of(request.tools.begin(), request.tools.end(), [](const Tool& tool) {
    return tool.kind != Tool::Kind::server && is_offered(tool);
  });
}

}  // namespace llm_proxy
