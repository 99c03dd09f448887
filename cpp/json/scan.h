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

// From a backslash inside a string: past plain bytes and two-byte escapes, in blocks of 64. Stops
// at a byte that needs a closer look (the closing quote, a control character, the backslash of any
// other escape) or where no whole block is left; never between a backslash and what it escapes.
inline const char* skip_escapes(const char* at, const char* end) {
#if defined(__SSE2__)
  constexpr std::uint64_t kOdd = 0xaaaaaaaaaaaaaaaaULL;
  std::uint64_t carried = 0;  // 1: the byte at `at` is escaped by the one before it
  for (; end - at >= 64; at += 64) {
    __m128i block[4];
    for (int i = 0; i < 4; ++i) {
      block[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at) + i);
    }
    const auto where = [&block](auto&& test) {
      std::uint64_t bits = 0;
      for (int i = 3; i >= 0; --i) {
        bits = bits << 16 | static_cast<std::uint16_t>(_mm_movemask_epi8(test(block[i])));
      }
      return bits;
    };
    const auto equal = [](__m128i bytes, char byte) {
      return _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte));
    };
    const auto either = [](__m128i left, __m128i right) { return _mm_or_si128(left, right); };
    const std::uint64_t quotes = where([&](__m128i b) { return equal(b, '"'); });
    const std::uint64_t backslashes = where([&](__m128i b) { return equal(b, '\\'); });
    const std::uint64_t controls =
        where([&](__m128i b) { return equal(_mm_max_epu8(b, _mm_set1_epi8(0x1f)), 0x1f); });
    std::uint64_t escaped = carried;
    std::uint64_t wrong = 0;
    if (backslashes != 0) {
      // Of a run of backslashes every other one escapes; the subtraction finds where runs end
      // (simdjson's way).
      const std::uint64_t may_escape = backslashes & ~carried;
      const std::uint64_t ends = ((may_escape << 1 | kOdd) - may_escape) ^ kOdd;
      escaped = ends ^ (backslashes | carried);
      carried = (ends & backslashes) >> 63;
    } else {
      carried = 0;
    }
    if (escaped != 0) {
      const std::uint64_t letters = where([&](__m128i b) {
        return either(
            either(either(equal(b, 'n'), equal(b, 't')), either(equal(b, 'r'), equal(b, '/'))),
            either(equal(b, 'b'), equal(b, 'f')));
      });
      wrong = escaped & ~(letters | quotes | backslashes);
    }
    const std::uint64_t stops = (quotes & ~escaped) | controls | wrong;
    if (stops != 0) {
      const int first = __builtin_ctzll(stops);
      return at + first - static_cast<int>(escaped >> first & 1);
    }
  }
  return at - carried;
#else
  return at;
#endif
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
