#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

// Hashes, letters and digits, for ids and tool names that have to be made up.
namespace llm_proxy {

// 128 bits, so that an id made of a request's id is as hard to guess as that one.
struct Hash {
  std::uint64_t high, low;
};

// FNV-1a of 128 bits.
inline Hash hash_of(std::string_view bytes, std::uint64_t seed) {
  __extension__ typedef unsigned __int128 Wide;
  constexpr Wide kPrime = (Wide{0x1000000u} << 64) + 0x13bu;
  Wide hash = ((Wide{0x6c62272e07bb0142u} << 64) + 0x62b821756295c58du) ^ seed;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * kPrime;
  return {static_cast<std::uint64_t>(hash >> 64), static_cast<std::uint64_t>(hash)};
}

inline std::uint64_t split_mix(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

// Up to 33 digits, of which the first 22 hold all bits of the hash: 11 hold 64.
inline void append_base62(Hash hash, std::size_t count, std::string& out) {
  constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::uint64_t both = hash.high ^ hash.low;
  for (std::uint64_t* const state : {&hash.low, &hash.high, &both}) {
    std::uint64_t bits = split_mix(*state);
    for (int i = 0; i < 11 && count > 0; ++i, --count, bits /= 62) out += kDigits[bits % 62];
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
