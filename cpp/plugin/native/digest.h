#pragma once

#include <string>
#include <string_view>

namespace llm_proxy {

// The first `bytes` (at most 32) of a SHA-256, as lower-case hex digits.
std::string sha256_hex(std::string_view text, std::size_t bytes);
std::string hmac_sha256_hex(std::string_view key, std::string_view text, std::size_t bytes);

// 32 hex digits that differ for different texts, and that nobody outside this process can foresee:
// GMAC under a key of its own, thrice as fast as SHA-256.
std::string process_mac_hex(std::string_view text);

}  // namespace llm_proxy
