#pragma once

#include <string>
#include <string_view>

namespace llm_proxy {

// Replaces every occurrence of `secret` by "***"; an empty one is no secret.
inline void redact(std::string& text, std::string_view secret) {
  constexpr std::string_view kMask = "***";
  if (secret.empty()) return;
  for (auto at = text.find(secret); at != std::string::npos;
       at = text.find(secret, at + kMask.size())) {
    text.replace(at, secret.size(), kMask);
  }
}

}  // namespace llm_proxy
