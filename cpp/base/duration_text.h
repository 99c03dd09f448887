#pragma once

#include <chrono>
#include <optional>
#include <string_view>

namespace llm_proxy {

// A length of time as providers write it: "48s", "1.5s", "20ms", "6m0s", "4h51m33.9s", and a bare
// number, which is seconds. Reads as far as it makes sense; what follows is not looked at. Nothing:
// it begins with no such thing, or is longer than 30 days.
std::optional<std::chrono::milliseconds> parse_duration_text(std::string_view text);

}  // namespace llm_proxy
