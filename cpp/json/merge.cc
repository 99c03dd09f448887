#include "json/merge.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "json/reader.h"
#include "json/splice.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

bool is_object(JsonSlice value) {
  return value.starts_with('{');
}

std::vector<std::pair<std::string, JsonSlice>> members(JsonSlice object) {
  std::vector<std::pair<std::string, JsonSlice>> out;
  JsonReader json(object);
  std::string_view key;
  if (!json.begin_object()) return out;
  while (json.next_key(key)) {
    std::string name(key);
    JsonSlice value;
    if (json.value(value)) out.emplace_back(std::move(name), value);
  }
  return out;
}

}  // namespace

std::string merged(JsonSlice base, JsonSlice over) {
  const auto there = members(base);
  std::vector<Splice> edits;
  std::string added;
  for (const auto& [key, value] : members(over)) {
    JsonSlice old;
    for (const auto& [name, known] : there) {
      if (name == key) old = known;  // of several, the last one counts
    }
    if (old.empty()) {
      if (!there.empty() || !added.empty()) added += ',';
      JsonWriter(added).string(std::string_view(key));
      added += ':';
      added += value;
      continue;
    }
    const auto begin = static_cast<std::size_t>(old.data() - base.data());
    const bool deep = is_object(value) && is_object(old) && member(value, "type").empty();
    edits.push_back({begin, begin + old.size(), deep ? merged(old, value) : std::string(value)});
  }
  std::sort(edits.begin(), edits.end(),
            [](const Splice& a, const Splice& b) { return a.begin < b.begin; });
  if (!added.empty()) {
    const auto end = base.rfind('}');
    edits.push_back({end, end, std::move(added)});
  }
  return spliced(base, edits);
}

std::string difference(JsonSlice before, JsonSlice after) {
  const auto there = members(before);
  std::string out = "{";
  for (const auto& [key, value] : members(after)) {
    JsonSlice old;
    for (const auto& [name, known] : there) {
      if (name == key) old = known;
    }
    if (old == value) continue;
    if (out.size() > 1) out += ',';
    JsonWriter(out).string(std::string_view(key));
    out += ':';
    out += value;
  }
  return out + '}';
}

}  // namespace llm_proxy
