#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace llm_proxy {

// Carries an edit over to another document: `before` says less than `source` and says it in its own
// way, `after` is `before` edited. The result is `source` with that edit; what the edit does not
// touch stays as it stands, what `before` left out included.
//
// Items of arrays find each other by what they say, in their order. Nothing: an edited item has no
// counterpart in `source`, or finding it takes too long.
std::optional<std::string> graft(std::string_view source, std::string_view before,
                                 std::string_view after);

}  // namespace llm_proxy
