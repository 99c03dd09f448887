#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

// Hashes, letters and digits, for ids and tool names that have to be made up.
namespace llm_proxy {

inline std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

inline std::uint64_t split_mix(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

inline void append_base62(std::uint64_t state, std::size_t count, std::string& out) {
  constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  while (count > 0) {
    std::uint64_t bits = split_mix(state);
    for (int i = 0; i < 10 && count > 0; ++i, --count, bits /= 62) out += kDigits[bits % 62];
  }
}

inline bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
inline bool is_word(char c) {
  return is_alphanumeric(c) || c == '_' || c == '-';
}
inline bool all_word(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_word);
}

}  // namespace llm_proxy
