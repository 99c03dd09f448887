#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "formats/format.h"
#include "json/text.h"

namespace llm_proxy {

// Ids. Made-up and mapped ids are pure functions, so that no state is needed and prompt caches
// hold.

// `prefix` and 24 letters or digits drawn from `seed` and `position`.
std::string made_id(std::string_view prefix, std::string_view seed, std::uint64_t position);

struct IdRule {
  std::size_t max_length = 64;
  bool word_only = false;          // [A-Za-z0-9_-] (Anthropic)
  bool nine_alphanumeric = false;  // Mistral
  std::string_view prefix = "call_";
};
// `id` as it is where the rule allows it; else a hash of it that does.
std::string mapped_id(Text id, const IdRule& rule);

}  // namespace llm_proxy
