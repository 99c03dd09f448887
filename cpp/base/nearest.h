#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llm_proxy {

// The name that `typed` most likely meant: the one with the fewest letters to add, drop, change or
// swap with their neighbour, at most a third of its length; of equals the first. Letter case counts
// nothing. Empty if none is that near.
//
// Takes time by the product of both lengths for each name; `typed` of more than 100 bytes has none.
std::string_view nearest(std::string_view typed, const std::vector<std::string_view>& names);

// ": did you mean 'gpt-4.1'?", or nothing if no name is near.
std::string did_you_mean(std::string_view typed, const std::vector<std::string_view>& names);

}  // namespace llm_proxy
