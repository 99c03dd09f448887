#include "formats/body_edits.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <vector>

#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

struct Member {
  std::string key;
  JsonSlice value;
};

using Members = std::vector<Member>;
using Flag = bool Quirks::*;

struct DroppedRow {
  Flag quirk;
  std::string_view member;
};

constexpr std::array kDropped{
    DroppedRow{&Quirks::no_stream_options, "stream_options"},
    DroppedRow{&Quirks::no_reasoning, "reasoning"},
    DroppedRow{&Quirks::no_reasoning, "reasoning_effort"},
    DroppedRow{&Quirks::no_reasoning_object, "reasoning"},
    DroppedRow{&Quirks::no_thinking, "thinking"},
    DroppedRow{&Quirks::no_thinking, "anthropic_beta"},
    DroppedRow{&Quirks::no_thinking, "reasoning_effort"},
    DroppedRow{&Quirks::no_thinking, "output_config"},
};

// What the coding plan's server knows; it refuses anything else.
constexpr std::array<std::string_view, 8> kPlanMembers{
    "model", "messages", "stream", "max_tokens", "temperature", "top_p", "tools", "tool_choice"};

constexpr std::int64_t kTokenFloor = 512;
constexpr std::int64_t kTokenCap = 200'000;

JsonSlice find(const Members& members, std::string_view key) {
  const auto found = std::find_if(members.begin(), members.end(),
                                  [key](const Member& member) { return member.key == key; });
  return found == members.end() ? JsonSlice() : found->value;
}

Members members_of(std::string_view object) {
  Members out;
  JsonReader json(object);
  std::string_view key;
  if (!json.begin_object()) return out;
  while (json.next_key(key)) {
    auto& member = out.emplace_back();
    member.key = key;
    json.value(member.value);
  }
  return out;
}

void write_object(const Members& members, std::string& out) {
  JsonWriter json(out);
  json.begin_object();
  for (const auto& [key, value] : members) json.key(Text::plain(key)).raw(value);
  json.end_object();
}

bool is_blank(JsonSlice value) {
  if (value == "null") return true;
  if (value.empty() || value.front() != '"') return value.empty();
  return value == "\"\"";
}

// Of one message: its role as the server knows it, and reasoning where it insists on some.
void write_message(JsonSlice message, const Quirks& quirks, std::string& out) {
  auto members = members_of(message);
  const auto role = find(members, "role");
  const bool developer = quirks.system_role && role == "\"developer\"";
  const bool silent = quirks.reasoning_everywhere && role == "\"assistant\"" &&
                      is_blank(find(members, "reasoning_content"));
  if (!developer && !silent) {
    out += message;
    return;
  }
  if (silent) {
    std::erase_if(members, [](const Member& member) { return member.key == "reasoning_content"; });
    // A blank will do, nothing at all will not.
    members.push_back({"reasoning_content", "\" \""});
  }
  for (auto& member : members) {
    if (developer && member.key == "role") member.value = "\"system\"";
  }
  write_object(members, out);
}

std::string edited_messages(JsonSlice messages, const Quirks& quirks) {
  std::string out = "[";
  JsonReader json(messages);
  if (!json.begin_array()) return std::string(messages);
  while (json.next_item()) {
    JsonSlice message;
    json.value(message);
    if (out.size() > 1) out += ',';
    write_message(message, quirks, out);
  }
  out += ']';
  return out;
}

// The number of tokens within what the server accepts; not a plain number: left to the server.
std::string bounded_tokens(JsonSlice value, const Quirks& quirks) {
  std::int64_t tokens = 0;
  const auto* end = value.data() + value.size();
  const auto read = std::from_chars(value.data(), end, tokens);
  if (read.ptr != end || read.ec != std::errc()) {
    return std::string(value);
  }
  if (quirks.token_floor) tokens = std::max(tokens, kTokenFloor);
  if (quirks.token_cap) tokens = std::min(tokens, kTokenCap);
  return std::to_string(tokens);
}

}  // namespace

bool edits_body(const Quirks& quirks) {
  return quirks.max_tokens || quirks.no_stream_options || quirks.no_reasoning ||
         quirks.no_reasoning_object || quirks.no_thinking || quirks.plan_members ||
         quirks.plain_tool_choice || quirks.token_floor || quirks.token_cap ||
         quirks.thinking_mode || quirks.system_role || quirks.reasoning_everywhere ||
         quirks.whole_replies;
}

std::string edited_body(std::string_view body, const Quirks& quirks) {
  auto members = members_of(body);
  if (quirks.max_tokens) {
    const bool both = !find(members, "max_tokens").empty();
    std::erase_if(members, [both](const Member& member) {
      return both && member.key == "max_completion_tokens";
    });
    for (auto& member : members) {
      if (member.key == "max_completion_tokens") member.key = "max_tokens";
    }
  }
  std::erase_if(members, [&](const Member& member) {
    if (quirks.plan_members &&
        std::find(kPlanMembers.begin(), kPlanMembers.end(), member.key) == kPlanMembers.end()) {
      return true;
    }
    return std::any_of(kDropped.begin(), kDropped.end(), [&](const DroppedRow& row) {
      return quirks.*row.quirk && row.member == member.key;
    });
  });
  std::string messages, tokens;  // what the members' views point to
  for (auto& [key, value] : members) {
    if (key == "messages" && (quirks.system_role || quirks.reasoning_everywhere)) {
      value = messages = edited_messages(value, quirks);
    } else if (key == "max_tokens" && (quirks.token_floor || quirks.token_cap)) {
      value = tokens = bounded_tokens(value, quirks);
    } else if (key == "tool_choice" && quirks.plain_tool_choice && value.starts_with('{')) {
      value = "\"auto\"";
    } else if (key == "stream" && quirks.whole_replies) {
      value = "false";
    }
  }
  if (quirks.thinking_mode && find(members, "thinking_mode").empty()) {
    members.push_back({"thinking_mode", "true"});
  }
  std::string out;
  out.reserve(body.size() + messages.size());
  write_object(members, out);
  return out;
}

}  // namespace llm_proxy
