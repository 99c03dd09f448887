#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace llm_proxy {

// Replaces every occurrence of `secret` at or behind `from` by "***". What is shorter than any key
// is a placeholder that a local server is given, and would be found in every other word.
inline void redact(std::string& text, std::string_view secret, std::size_t from = 0) {
  constexpr std::string_view kMask = "***";
  constexpr std::size_t kShortestKey = 4;
  if (secret.size() < kShortestKey) return;
  for (auto at = text.find(secret, from); at != std::string::npos;
       at = text.find(secret, at + kMask.size())) {
    text.replace(at, secret.size(), kMask);
  }
}

}  // namespace llm_proxy
