#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "formats/format.h"
#include "json/text.h"

namespace llm_proxy {

// Reasoning.

std::string_view word(Reasoning::Effort effort);
std::optional<Reasoning::Effort> effort_named(Text word);
std::int64_t budget_of(Reasoning::Effort effort);
Reasoning::Effort effort_of_budget(std::int64_t tokens);
// The effort asked for in any of the ways there are; nothing when the request says nothing.
std::optional<Reasoning::Effort> effort_of(const Reasoning& reasoning);

}  // namespace llm_proxy
