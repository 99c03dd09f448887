#pragma once

#include <string>

#include "formats/format.h"
#include "json/text.h"

namespace llm_proxy {

// Tool names. [A-Za-z0-9_-] up to `max_length`; a namespace, an odd name or a wrapped custom
// tool gets an alias.

std::string upstream_tool_name(Translation& translation, Text name, Text tool_namespace,
                               CallKind kind, std::size_t max_length);
const Translation::ToolAlias* find_alias(const Translation* translation, Text upstream_name);

}  // namespace llm_proxy
