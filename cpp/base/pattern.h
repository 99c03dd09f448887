#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llm_proxy {

// A regular expression over bytes: literals, ".", classes, \d \w \s, groups, "|", "*" "+" "?" and
// "{m,n}" (greedy, or lazy with "?" behind), "^" and "$". No look-around and no back-references
// inside the pattern: what is left is matched in time and memory bounded by the sizes of pattern
// and subject, whatever either holds.
//
// Immutable once built; read on any thread.
class Pattern {
 public:
  static constexpr std::size_t kMaxPattern = 512;
  static constexpr std::size_t kMaxProgram = 4096;
  static constexpr std::size_t kMaxSubject = 4096;
  static constexpr std::size_t kMaxGroups = 9;

  // malformed_request says what is wrong with it and at which position.
  static Result<Pattern> build(std::string_view text);

  // Group 0 is all that matched, from the subject's beginning; a group that took no part is empty.
  using Groups = std::vector<std::string_view>;
  std::optional<Groups> match(std::string_view subject) const;

  std::size_t groups() const { return groups_; }

 private:
  friend class PatternParser;
  using Class = std::bitset<256>;

  enum class Op : std::uint8_t { take, split, jump, save, begin, end, match };
  struct Step {
    Op op;
    std::uint32_t a = 0;  // take: class; split, jump: where to; save: slot
    std::uint32_t b = 0;  // split: the second choice
  };

  std::vector<Step> program_;
  std::vector<Class> classes_;
  std::size_t groups_ = 0;
};

// `replacement` with "\1" to "\9" and "\g<1>" standing for what the groups matched, "\\" for "\".
// malformed_request names a group that `pattern` has not.
Result<void> check_replacement(const Pattern& pattern, std::string_view replacement);
std::string expand_replacement(const Pattern::Groups& groups, std::string_view replacement);

}  // namespace llm_proxy
