#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace llm_proxy::json_detail {

// True for a byte that ends a run of plain string bytes: quote, backslash or a control character.
inline bool is_special(unsigned char byte) {
  return byte < 0x20 || byte == '"' || byte == '\\';
}

// The first special byte of [at, end), or `end`. Sixteen bytes at a step where the machine can.
inline const char* find_special(const char* at, const char* end) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  const __m128i control = _mm_set1_epi8(0x1f);
  while (end - at >= 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i hit =
        _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(block, quote), _mm_cmpeq_epi8(block, backslash)),
                     _mm_cmpeq_epi8(_mm_max_epu8(block, control), control));
    const int mask = _mm_movemask_epi8(hit);
    if (mask != 0) return at + __builtin_ctz(static_cast<unsigned>(mask));
    at += 16;
  }
#else
  constexpr std::uint64_t kOnes = 0x0101010101010101u, kHighs = 0x8080808080808080u;
  const auto zero_byte = [](std::uint64_t v) { return (v - kOnes) & ~v & kHighs; };
  while (end - at >= 8) {
    std::uint64_t block;
    std::memcpy(&block, at, 8);
    const std::uint64_t hit = zero_byte(block ^ (kOnes * '"')) | zero_byte(block ^ (kOnes * '\\')) |
                              ((block - kOnes * 0x20) & ~block & kHighs);
    if (hit != 0) break;
    at += 8;
  }
#endif
  while (at != end && !is_special(static_cast<unsigned char>(*at))) ++at;
  return at;
}

// The first `needle` (two bytes or more) of `text`, or its end. For short texts searched very
// often: compares first and last byte of the needle at sixteen places at once.
inline const char* find_bytes(std::string_view text, std::string_view needle) {
  const char* at = text.data();
  const char* const end = at + text.size();
  const std::size_t last = needle.size() - 1;
#if defined(__SSE2__)
  const __m128i first_byte = _mm_set1_epi8(needle[0]);
  const __m128i last_byte = _mm_set1_epi8(needle[last]);
  while (end - at >= static_cast<std::ptrdiff_t>(16 + last)) {
    const __m128i here = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i there = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + last));
    auto mask = static_cast<unsigned>(_mm_movemask_epi8(
        _mm_and_si128(_mm_cmpeq_epi8(here, first_byte), _mm_cmpeq_epi8(there, last_byte))));
    for (; mask != 0; mask &= mask - 1) {
      const char* const found = at + __builtin_ctz(mask);
      if (std::memcmp(found, needle.data(), needle.size()) == 0) return found;
    }
    at += 16;
  }
#endif
  const std::string_view rest(at, static_cast<std::size_t>(end - at));
  const std::size_t found = rest.find(needle);
  return found == std::string_view::npos ? end : rest.data() + found;
}

}  // namespace llm_proxy::json_detail
