#include "exchange/proxy_members.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "formats/format.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

// Of `extra_body`: what hosted backends alone understand, and the request itself.
constexpr std::array<std::string_view, 9> kNotTaken{
    "project_dir", "workspace_path",     "cwd",      "project", "failover_routes",
    "model",       "codex_capabilities", "messages", "input"};

using Members = std::vector<std::pair<std::string, JsonSlice>>;

Members members_of(JsonSlice object) {
  Members out;
  JsonReader json(object);
  std::string_view key;
  if (!json.begin_object()) return out;
  while (json.next_key(key)) {
    auto& member = out.emplace_back(std::string(key), JsonSlice());
    json.value(member.second);
  }
  return out;
}

JsonSlice find(const Members& members, std::string_view key) {
  for (const auto& [name, value] : members) {
    if (name == key) return value;
  }
  return {};
}

void read(JsonSlice object, ProxyMembers& out) {
  out.backend = string_member(object, "backend_type").decode();
  const auto tokens = member(object, "request_context_tokens");
  std::int64_t number = 0;
  const auto end = tokens.data() + tokens.size();
  const auto got = std::from_chars(tokens.data(), end, number);
  if (!tokens.empty() && got.ec == std::errc() && got.ptr == end && number >= 0) {
    out.context_tokens = number;
  }
}

}  // namespace

ProxyMembers read_proxy_members(std::string_view body) {
  ProxyMembers out;
  read(body, out);
  const auto extra = member(body, "extra_body");
  if (extra.starts_with('{') && out.backend.empty()) {
    const auto tokens = std::exchange(out.context_tokens, std::nullopt);
    read(extra, out);
    if (!out.context_tokens) out.context_tokens = tokens;
  }
  return out;
}

std::string without_proxy_members(std::string_view body) {
  auto members = members_of(body);
  const auto extra = members_of(find(members, "extra_body"));
  std::erase_if(members, [](const auto& entry) { return is_for_proxy(entry.first); });
  for (const auto& [name, value] : extra) {
    if (is_for_proxy(name) || name.starts_with('_') ||
        std::find(kNotTaken.begin(), kNotTaken.end(), name) != kNotTaken.end()) {
      continue;
    }
    const auto known =
        std::find_if(members.begin(), members.end(),
                     [&wanted = name](const auto& entry) { return entry.first == wanted; });
    if (known == members.end()) {
      members.emplace_back(name, value);
    } else {
      known->second = value;
    }
  }
  std::string out;
  out.reserve(body.size());
  JsonWriter json(out);
  json.begin_object();
  for (const auto& [name, value] : members) json.key(Text::plain(name)).raw(value);
  json.end_object();
  return out;
}

}  // namespace llm_proxy
