#include "formats/shared/tool_names.h"

#include <algorithm>

#include "formats/shared/words.h"

namespace llm_proxy {

std::string upstream_tool_name(Translation& translation, Text name, Text tool_namespace,
                               CallKind kind, std::size_t max_length) {
  const std::string plain = name.decode();
  const std::string space = tool_namespace.decode();
  for (const Translation::ToolAlias& alias : translation.aliases) {
    if (alias.name == plain && alias.tool_namespace == space && alias.kind == kind) {
      return alias.upstream_name;
    }
  }
  std::string upstream = space.empty() ? plain : space + "__" + plain;
  if (!all_word(upstream) || upstream.size() > max_length) {
    const auto hash = hash_of(upstream, 0);
    std::replace_if(
        upstream.begin(), upstream.end(), [](char c) { return !is_word(c); }, '_');
    upstream.resize(std::min(upstream.size(), max_length - 9));
    upstream += '_';
    append_base62(hash, 8, upstream);
  }
  if (upstream != plain || kind == CallKind::custom) {
    translation.aliases.push_back({upstream, plain, space, kind});
  }
  return upstream;
}

const Translation::ToolAlias* find_alias(const Translation* translation, Text upstream_name) {
  if (translation == nullptr) return nullptr;
  for (const Translation::ToolAlias& alias : translation->aliases) {
    if (upstream_name == alias.upstream_name) return &alias;
  }
  return nullptr;
}

}  // namespace llm_proxy
