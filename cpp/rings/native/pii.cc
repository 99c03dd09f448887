#include "rings/native/pii.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "base/ascii.h"
#include "json/scan.h"
#include "rings/native/digest.h"

namespace llm_proxy {
namespace {

constexpr bool is_upper(char c) {
  return c >= 'A' && c <= 'Z';
}
constexpr bool is_letter(char c) {
  return is_upper(c) || (c >= 'a' && c <= 'z');
}
constexpr bool is_alnum(char c) {
  return is_letter(c) || is_digit(c);
}
constexpr bool is_word(char c) {
  return is_alnum(c) || c == '_';
}
constexpr bool is_capital(char c) {  // of an IBAN
  return is_upper(c) || is_digit(c);
}
constexpr bool is_plain(char c) {
  return static_cast<unsigned char>(c) < 0x80;
}

// ---- can there be anything?

// Where runs of ten decimal digits beyond ASCII begin (Unicode 14; the mathematical ones are five
// runs).
constexpr std::array<char32_t, 64> kDigitRuns{
    0x0660,  0x06f0,  0x07c0,  0x0966,  0x09e6,  0x0a66,  0x0ae6,  0x0b66,  0x0be6,  0x0c66,
    0x0ce6,  0x0d66,  0x0de6,  0x0e50,  0x0ed0,  0x0f20,  0x1040,  0x1090,  0x17e0,  0x1810,
    0x1946,  0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,
    0xa900,  0xa9d0,  0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x11066, 0x110f0,
    0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950,
    0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec,
    0x1d7f6, 0x1e140, 0x1e950, 0x1fbf0};

// No decimal digit beyond ASCII begins with a smaller byte.
constexpr unsigned char kForeignDigits = 0xd9;

// Whether the character at `at` may be a decimal digit of another script. `at` is its first byte.
bool foreign_digit(const char* at, const char* end) {
  const auto lead = static_cast<unsigned char>(*at);
  const auto tail = [&](int i) {
    return end - at > i ? static_cast<char32_t>(static_cast<unsigned char>(at[i]) & 0x3f) : 0;
  };
  char32_t code = 0;
  if (lead >= 0xf0) {
    code = static_cast<char32_t>(lead & 7) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3);
    if (code >= 0x1e2f0 && code < 0x1e2fa) return true;
    // Scripts newer than the table: their digits too are in these planes.
    if (code >= 0x10d40 && code < 0x10d4a) return true;
    if (code >= 0x11000 && code < 0x12000) return true;
    if (code >= 0x16000 && code < 0x17000) return true;
    if (code >= 0x1ccf0 && code < 0x1ccfa) return true;
    if (code >= 0x1e000 && code < 0x1f000) return true;
  } else if (lead >= 0xe0) {
    if (lead >= 0xe2 && lead <= 0xe9) return false;
    code = static_cast<char32_t>(lead & 15) << 12 | tail(1) << 6 | tail(2);
  } else {
    code = static_cast<char32_t>(lead & 31) << 6 | tail(1);
  }
  const auto after = std::ranges::upper_bound(kDigitRuns, code);
  return after != kDigitRuns.begin() && code < *std::prev(after) + 10;
}

// A stretch of digits and what stands between them in numbers: every number lies inside one.
struct Stretch {
  int digits = 0, plus = 0, dots = 0;

  bool promises() const {
    return digits >= 9 || (plus > 0 && digits >= 5) || (digits >= 4 && dots >= 3);
  }
};

constexpr bool in_stretch(char c) {
  return is_digit(c) || c == ' ' || c == '+' || c == '.' || c == '-' || c == '(' || c == ')';
}

// Looks at the stretch around a digit; `at` becomes its end.
bool promising_stretch(const char* begin, const char*& at, const char* end) {
  const char* from = at;
  while (from != begin && in_stretch(from[-1])) --from;
  Stretch stretch;
  for (at = from; at != end && in_stretch(*at); ++at) {
    stretch.digits += is_digit(*at);
    stretch.plus += *at == '+';
    stretch.dots += *at == '.';
    const bool iban = is_digit(*at) && at - begin >= 3 && is_digit(at[-1]) && is_upper(at[-2]) &&
                      is_upper(at[-3]);
    if (iban) return true;
  }
  return stretch.promises();
}

bool begins(const char* at, const char* end, std::string_view word) {
  return static_cast<std::size_t>(end - at) >= word.size() &&
         std::memcmp(at, word.data(), word.size()) == 0;
}

// What one byte says that is no plain letter; `at` moves on behind what has been looked at.
bool promising(const char* begin, const char*& at, const char* end) {
  const char c = *at;
  if (is_digit(c)) return promising_stretch(begin, at, end);
  const char* const here = at++;
  switch (c) {
    case '@':
      return true;
    case '-':
      return here - begin >= 2 && begins(here - 2, end, "sk-");
    case '_':
      return here - begin >= 3 && begins(here - 3, end, "gh");
    case 'A':
      return begins(here, end, "AKIA") || begins(here, end, "AIza");
    case 'x':
      return begins(here, end, "xox");
    default:
      return static_cast<unsigned char>(c) >= kForeignDigits && foreign_digit(here, end);
  }
}

constexpr bool is_hot(char c) {
  return is_digit(c) || static_cast<unsigned char>(c) >= kForeignDigits || c == '@' || c == '-' ||
         c == '_' || c == 'A' || c == 'x';
}

}  // namespace

bool may_hold_pii(std::string_view text) {
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  const char* at = begin;
#if defined(__SSE2__)
  const auto equal = [](__m128i block, char byte) {
    return _mm_cmpeq_epi8(block, _mm_set1_epi8(byte));
  };
  const char* block_at = begin;
  for (; end - block_at >= 16; block_at += 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block_at));
    const __m128i from_zero = _mm_sub_epi8(block, _mm_set1_epi8('0'));
    const __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(from_zero, _mm_set1_epi8(9)), from_zero);
    const __m128i signs = _mm_or_si128(_mm_or_si128(equal(block, '@'), equal(block, '-')),
                                       _mm_or_si128(equal(block, '_'), equal(block, 'A')));
    const __m128i least = _mm_set1_epi8(static_cast<char>(kForeignDigits));
    const __m128i foreign = _mm_cmpeq_epi8(_mm_max_epu8(block, least), block);
    const __m128i letters = _mm_or_si128(foreign, equal(block, 'x'));
    const __m128i hot = _mm_or_si128(_mm_or_si128(digits, signs), letters);
    auto mask = static_cast<unsigned>(_mm_movemask_epi8(hot));
    for (; mask != 0; mask &= mask - 1) {
      const char* const here = block_at + __builtin_ctz(mask);
      if (here < at) continue;  // inside a stretch that has been looked at
      at = here;
      if (promising(begin, at, end)) return true;
    }
  }
  at = std::max(at, block_at);
#endif
  while (at != end) {
    if (!is_hot(*at)) {
      ++at;
    } else if (promising(begin, at, end)) {
      return true;
    }
  }
  return false;
}

namespace {

// ---- what is there?

// A text and a place in it. Beyond its ends stands nothing.
struct Place {
  std::string_view text;
  std::size_t at;

  char peek(std::size_t ahead = 0) const {
    return at + ahead < text.size() ? text[at + ahead] : '\0';
  }
  char before() const { return at > 0 ? text[at - 1] : '\0'; }
  bool take(char c) {
    const bool there = peek() == c && at < text.size();
    at += there;
    return there;
  }
  template <typename Is>
  std::size_t run(Is is, std::size_t most = std::string_view::npos) const {
    std::size_t n = 0;
    while (n < most && at + n < text.size() && is(text[at + n])) ++n;
    return n;
  }
  bool digits(std::size_t count) {
    if (run(is_digit, count) < count) return false;
    at += count;
    return true;
  }
};

using End = std::size_t;
constexpr End kNone = 0;  // no match ends where a text begins

constexpr auto is_key_letter = [](char c) { return is_alnum(c) || c == '_' || c == '-'; };
constexpr auto is_slack_letter = [](char c) { return is_alnum(c) || c == '-'; };
constexpr auto is_mail_letter = [](char c) {
  return is_word(c) || c == '.' || c == '+' || c == '-';
};

// Each of these: where the match that begins at `p` ends, kNone if none does.

End api_key(Place p) {
  if (is_word(p.before())) return kNone;
  struct Row {
    std::string_view prefix;
    bool (*letter)(char);
    std::size_t least, most;
  };
  constexpr auto kAll = std::string_view::npos;
  static constexpr std::array kRows{
      Row{"sk-", is_key_letter, 16, kAll},     Row{"AKIA", is_capital, 16, 16},
      Row{"gho_", is_alnum, 20, kAll},         Row{"ghp_", is_alnum, 20, kAll},
      Row{"ghr_", is_alnum, 20, kAll},         Row{"ghs_", is_alnum, 20, kAll},
      Row{"ghu_", is_alnum, 20, kAll},         Row{"xoxa-", is_slack_letter, 10, kAll},
      Row{"xoxb-", is_slack_letter, 10, kAll}, Row{"xoxp-", is_slack_letter, 10, kAll},
      Row{"xoxr-", is_slack_letter, 10, kAll}, Row{"xoxs-", is_slack_letter, 10, kAll},
      Row{"AIza", is_key_letter, 30, kAll},
  };
  for (const Row& row : kRows) {
    if (!p.text.substr(p.at).starts_with(row.prefix)) continue;
    p.at += row.prefix.size();
    const std::size_t n = p.run(row.letter, row.most);
    return n >= row.least ? p.at + n : kNone;
  }
  return kNone;
}

// What follows an '@'.
End mail_domain(Place p) {
  std::array<std::size_t, 9> starts{p.at};
  std::size_t labels = 0;
  while (labels < 8) {
    const std::size_t n = p.run([](char c) { return is_word(c) || c == '-'; }, 63);
    if (n == 0) break;
    p.at += n;
    if (!p.take('.')) break;
    starts[++labels] = p.at;
  }
  for (; labels > 0; --labels) {
    Place top{p.text, starts[labels]};
    const std::size_t n = top.run(is_letter);
    top.at += n;
    if (n >= 2 && n <= 24 && !is_word(top.peek())) return top.at;
  }
  return kNone;
}

End iban(Place p) {
  if (is_word(p.before()) || p.run(is_upper, 2) < 2) return kNone;
  p.at += 2;
  if (!p.digits(2)) return kNone;
  std::array<std::size_t, 8> ends{};
  std::size_t groups = 0;
  while (groups < 7) {
    Place group = p;
    group.take(' ');
    if (group.run(is_capital, 4) < 4) break;
    p.at = group.at + 4;
    ends[++groups] = p.at;
  }
  const auto ends_here = [&](std::size_t at) { return !is_word(Place{p.text, at}.peek()); };
  for (; groups >= 2; --groups) {
    Place tail{p.text, ends[groups]};
    tail.take(' ');
    for (std::size_t n = tail.run(is_capital, 3); n > 0; --n) {
      if (ends_here(tail.at + n)) return tail.at + n;
    }
    if (ends_here(ends[groups])) return ends[groups];
  }
  return kNone;
}

bool follows_number(char c) {
  return is_word(c) || c == '-';
}

bool precedes_card(char c) {
  return is_word(c) || c == '.' || c == '-';
}

// Digits in groups of these sizes, a blank or a hyphen between them.
template <std::size_t N>
End grouped(Place p, const std::array<std::size_t, N>& sizes) {
  if (precedes_card(p.before())) return kNone;
  for (std::size_t i = 0; i < N; ++i) {
    if (i > 0 && (p.peek() == ' ' || p.peek() == '-')) ++p.at;
    if (!p.digits(sizes[i])) return kNone;
  }
  return follows_number(p.peek()) ? kNone : p.at;
}

End card(Place p) {
  return grouped(p, std::array<std::size_t, 4>{4, 4, 4, 4});
}

End amex(Place p) {
  if (p.peek() != '3' || (p.peek(1) != '4' && p.peek(1) != '7')) return kNone;
  return grouped(p, std::array<std::size_t, 3>{4, 6, 5});
}

End ssn(Place p) {
  if (follows_number(p.before())) return kNone;
  const auto rest = p.text.substr(p.at);
  if (rest.starts_with("000") || rest.starts_with("666") || rest.starts_with("9")) return kNone;
  if (!p.digits(3) || !p.take('-')) return kNone;
  if (p.peek() == '0' && p.peek(1) == '0') return kNone;
  if (!p.digits(2) || !p.take('-')) return kNone;
  if (p.text.substr(p.at).starts_with("0000")) return kNone;
  return p.digits(4) && !follows_number(p.peek()) ? p.at : kNone;
}

// The number of a phone abroad behind its country: groups in every division the pattern allows, the
// first in the order of the pattern. What has failed once is not tried again: at most some three
// hundred steps, whatever the text.
class PhoneGroups {
 public:
  explicit PhoneGroups(std::string_view text, std::size_t from) : text_(text), from_(from) {}

  End match(std::size_t at, std::size_t groups) {
    const std::size_t bit = at - from_;
    if (bit >= 64 || (failed_[groups] >> bit & 1) != 0) return kNone;
    if (groups < 5) {
      if (const End end = group(at, groups); end != kNone) return end;
    }
    if (groups >= 2) {
      Place last{text_, at};
      for (std::size_t n = last.run(is_digit, 4); n >= 2; --n) {
        if (!follows_number(Place{text_, at + n}.peek())) return at + n;
      }
    }
    failed_[groups] |= std::uint64_t{1} << bit;
    return kNone;
  }

 private:
  End group(std::size_t at, std::size_t groups) {
    Place p{text_, at};
    p.take('(');
    for (std::size_t n = p.run(is_digit, 4); n > 0; --n) {
      Place behind{text_, p.at + n};
      const bool closed = behind.take(')');
      if (const End end = separated(behind.at, groups); end != kNone) return end;
      if (!closed) continue;
      if (const End end = separated(behind.at - 1, groups); end != kNone) return end;
    }
    return kNone;
  }

  End separated(std::size_t at, std::size_t groups) {
    const char c = Place{text_, at}.peek();
    if (c == ' ' || c == '.' || c == '-') {
      if (const End end = match(at + 1, groups + 1); end != kNone) return end;
    }
    return match(at, groups + 1);
  }

  const std::string_view text_;
  const std::size_t from_;
  std::array<std::uint64_t, 6> failed_{};
};

bool is_divider(char c) {
  return c == ' ' || c == '.' || c == '-';
}

End phone_abroad(Place p) {
  if (!p.take('+')) return kNone;
  PhoneGroups groups(p.text, p.at);
  for (std::size_t n = p.run(is_digit, 3); n > 0; --n) {
    const std::size_t at = p.at + n;
    if (is_divider(Place{p.text, at}.peek())) {
      if (const End end = groups.match(at + 1, 0); end != kNone) return end;
    }
    if (const End end = groups.match(at, 0); end != kNone) return end;
  }
  return kNone;
}

End phone(Place p) {
  if (is_mail_letter(p.before())) return kNone;
  if (p.peek() == '+') return phone_abroad(p);
  p.take('(');
  if (!p.digits(3)) return kNone;
  p.take(')');
  if (!is_divider(p.peek())) return kNone;
  ++p.at;
  if (!p.digits(3) || !is_divider(p.peek())) return kNone;
  ++p.at;
  return p.digits(4) && !follows_number(p.peek()) ? p.at : kNone;
}

End ip(Place p) {
  if (is_word(p.before()) || p.before() == '.') return kNone;
  for (int part = 0; part < 4; ++part) {
    if (part > 0 && !p.take('.')) return kNone;
    const std::size_t n = p.run(is_digit, 4);
    if (n == 0 || n > 3) return kNone;
    p.at += n;
  }
  const std::size_t more = p.run([](char c) { return is_word(c) || c == '.'; });
  const auto tail = p.text.substr(p.at, more);
  return std::ranges::any_of(tail, is_digit) ? kNone : p.at;
}

// ---- is it real?

bool always(std::string_view) {
  return true;
}

bool luhn(std::string_view text) {
  int total = 0, place = 0;
  for (std::size_t i = text.size(); i-- > 0;) {
    if (!is_digit(text[i])) continue;
    const int value = (text[i] - '0') * (1 + place++ % 2);
    total += value > 9 ? value - 9 : value;
  }
  return total % 10 == 0;
}

bool iban_holds(std::string_view text) {
  std::string compact;
  for (const char c : text) {
    if (c != ' ') compact += c;
  }
  std::rotate(compact.begin(), compact.begin() + 4, compact.end());
  int rest = 0;
  for (const char c : compact) {
    rest = is_digit(c) ? (rest * 10 + (c - '0')) % 97 : (rest * 100 + (c - 'A' + 10)) % 97;
  }
  return rest == 1;
}

bool address_holds(std::string_view text) {
  std::array<int, 4> parts{};
  std::size_t part = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '.') {
      ++part;
      continue;
    }
    const bool first = i == 0 || text[i - 1] == '.';
    if (first && text[i] == '0' && i + 1 < text.size() && text[i + 1] != '.') return false;
    parts[part] = parts[part] * 10 + (text[i] - '0');
    if (parts[part] > 255) return false;
  }
  return parts[0] != 127 && parts != std::array<int, 4>{};
}

struct Rule {
  std::string_view label;
  std::string_view first;  // every match begins with one of these
  End (*match)(Place);
  bool (*holds)(std::string_view);
};

constexpr std::string_view kDigits = "0123456789";
constexpr std::array kRules{
    Rule{"API_KEY", "sAgx", api_key, always},
    Rule{"EMAIL", "@", nullptr, always},  // found from its '@'
    Rule{"IBAN", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", iban, iban_holds},
    Rule{"CARD", kDigits, card, luhn},
    Rule{"AMEX", "3", amex, luhn},
    Rule{"SSN", kDigits, ssn, always},
    Rule{"PHONE", "+(0123456789", phone, always},
    Rule{"IP", kDigits, ip, address_holds},
};

// Which rules a byte may begin a match of, a bit for each.
constexpr std::array<std::uint8_t, 256> kBegins = [] {
  std::array<std::uint8_t, 256> out{};
  for (std::size_t rule = 0; rule < kRules.size(); ++rule) {
    for (const char c : kRules[rule].first) {
      out[static_cast<unsigned char>(c)] |= static_cast<std::uint8_t>(1u << rule);
    }
  }
  return out;
}();

struct Match {
  std::size_t begin, end;
};

std::optional<Match> next_mail(std::string_view text, std::size_t from) {
  for (auto at = text.find('@', from); at != std::string_view::npos; at = text.find('@', at + 1)) {
    std::size_t start = at;
    while (start > from && at - start < 64 && is_mail_letter(text[start - 1])) --start;
    for (; start < at; ++start) {
      const bool after_word = start > 0 && is_word(text[start - 1]);
      if (after_word != is_word(text[start])) break;
    }
    if (start == at) continue;
    if (const End end = mail_domain({text, at + 1}); end != kNone) return Match{start, end};
  }
  return std::nullopt;
}

// The first place from `at` where a rule of numbers or of capitals may begin, or the text's end.
std::size_t next_start(std::string_view text, std::size_t at) {
#if defined(__SSE2__)
  const auto within = [](__m128i block, char first, char last) {
    const __m128i from_first = _mm_sub_epi8(block, _mm_set1_epi8(first));
    return _mm_cmpeq_epi8(_mm_min_epu8(from_first, _mm_set1_epi8(static_cast<char>(last - first))),
                          from_first);
  };
  for (; text.size() - at >= 16; at += 16) {
    const __m128i block = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text.data() + at));
    const __m128i letters = _mm_or_si128(within(block, '0', '9'), within(block, 'A', 'Z'));
    const __m128i signs = _mm_or_si128(_mm_cmpeq_epi8(block, _mm_set1_epi8('+')),
                                       _mm_cmpeq_epi8(block, _mm_set1_epi8('(')));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(_mm_or_si128(letters, signs)));
    if (mask != 0) return at + static_cast<std::size_t>(__builtin_ctz(mask));
  }
#endif
  while (at < text.size() && !is_capital(text[at]) && text[at] != '+' && text[at] != '(') ++at;
  return at;
}

bool may_hold_key(std::string_view text) {
  constexpr std::array<std::string_view, 5> kPieces{"sk-", "AKIA", "AIza", "xox", "gh"};
  return std::ranges::any_of(kPieces, [text](std::string_view piece) {
    return json_detail::find_bytes(text, piece) != text.data() + text.size();
  });
}

std::optional<Match> next_match(std::size_t rule, std::string_view text, std::size_t from) {
  const Rule& now = kRules[rule];
  if (now.match == nullptr) return next_mail(text, from);
  const bool of_keys = now.match == api_key;
  if (of_keys && !may_hold_key(text.substr(from))) return std::nullopt;
  for (std::size_t at = from; at < text.size(); ++at) {
    if (!of_keys) at = next_start(text, at);
    if (at == text.size()) break;
    if ((kBegins[static_cast<unsigned char>(text[at])] >> rule & 1) == 0) continue;
    if (const End end = now.match({text, at}); end != kNone) return Match{at, end};
  }
  return std::nullopt;
}

// Characters beyond ASCII that are surely no letter and no digit: dashes, quotes, bullets, the
// ellipsis (U+2010 to U+2027) and the punctuation of East Asia (U+3001 to U+3004, U+3008 to
// U+3020). Three bytes each.
bool surely_a_sign(std::string_view text, std::size_t at) {
  if (text.size() - at < 3) return false;
  const auto third = static_cast<unsigned char>(text[at + 2]);
  if (text.substr(at, 2) == "\xe2\x80") return third >= 0x90 && third <= 0xa7;
  if (text.substr(at, 2) == "\xe3\x80") {
    return (third >= 0x81 && third <= 0x84) || (third >= 0x88 && third <= 0xa0);
  }
  return false;
}

bool only_plain_and_signs(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (is_plain(text[at])) continue;
    if (!surely_a_sign(text, at)) return false;
    at += 2;
  }
  return true;
}

}  // namespace

std::optional<std::string> PiiMasker::mask(std::string_view text) {
  if (!only_plain_and_signs(text)) return std::nullopt;
  std::string now(text);
  for (std::size_t rule = 0; rule < kRules.size(); ++rule) {
    std::string out;
    std::size_t copied = 0;
    for (auto found = next_match(rule, now, 0); found; found = next_match(rule, now, found->end)) {
      const auto value = std::string_view(now).substr(found->begin, found->end - found->begin);
      if (!kRules[rule].holds(value)) continue;
      if (values_.size() >= kMostValues) return std::nullopt;
      out.append(now, copied, found->begin - copied);
      out += token(kRules[rule].label, value);
      copied = found->end;
    }
    if (copied == 0) continue;
    out.append(now, copied);
    now.swap(out);
  }
  return now;
}

std::string PiiMasker::token(std::string_view label, std::string_view value) {
  std::string source = tenant_;
  (source += '\0').append(label) += '\0';
  source += value;
  std::string token("[PII_");
  token.append(label) += '_';
  token += hmac_sha256_hex(secret_, source, 4) + ']';
  values_.insert_or_assign(token, std::string(value));
  return token;
}

std::string restored(std::string_view text, const Placeholders& values, bool in_json) {
  std::string out;
  PlaceholderRestorer restorer(values);
  restorer.add(text, in_json, out);
  restorer.finish(out);
  return out;
}

}  // namespace llm_proxy
