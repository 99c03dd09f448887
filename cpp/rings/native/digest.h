#pragma once

#include <string>
#include <string_view>

namespace llm_proxy {

// The first `bytes` (at most 32) of a SHA-256, as lower-case hex digits.
std::string sha256_hex(std::string_view text, std::size_t bytes);
std::string hmac_sha256_hex(std::string_view key, std::string_view text, std::size_t bytes);

}  // namespace llm_proxy
