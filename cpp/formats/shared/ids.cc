#include "formats/shared/ids.h"

#include <algorithm>

#include "formats/shared/words.h"

namespace llm_proxy {

std::string made_id(std::string_view prefix, std::string_view seed, std::uint64_t position) {
  std::string id(prefix);
  append_base62(hash_of(seed, position * 0x9e3779b97f4a7c15u), 24, id);
  return id;
}

std::string mapped_id(Text id, const IdRule& rule) {
  std::string plain = id.decode();
  const bool fits =
      !plain.empty() && plain.size() <= rule.max_length && (!rule.word_only || all_word(plain)) &&
      (!rule.nine_alphanumeric ||
       (plain.size() == 9 && std::all_of(plain.begin(), plain.end(), is_alphanumeric)));
  if (fits) return plain;
  std::string mapped(rule.nine_alphanumeric ? std::string_view() : rule.prefix);
  append_base62(hash_of(plain, 0), rule.nine_alphanumeric ? 9 : 24, mapped);
  return mapped;
}

}  // namespace llm_proxy
