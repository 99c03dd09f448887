#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace re2 {
class RE2;
}

namespace llm_proxy {

// The regular expression of a model alias, matched by RE2: time and memory are bounded by the
// sizes of pattern and subject, whatever either holds. RE2's syntax has no look-around and no
// back-references inside the pattern.
//
// Immutable once built; read on any thread. Copies share the compiled program.
class Pattern {
 public:
  static constexpr std::size_t kMaxPattern = 512;   // bytes
  static constexpr std::size_t kMaxSubject = 4096;  // bytes; a longer subject never matches
  static constexpr std::size_t kMaxGroups = 9;

  // Compiles `text`. The error is malformed_request and holds RE2's own words.
  static Result<Pattern> build(std::string_view text);

  // Group 0 is the whole match, which begins where `subject` begins; a group that took no part is
  // empty. The views point into `subject`.
  using Groups = std::vector<std::string_view>;
  std::optional<Groups> match(std::string_view subject) const;

  // How many capturing groups the pattern has, without group 0.
  std::size_t groups() const { return groups_; }

 private:
  std::shared_ptr<const re2::RE2> compiled_;
  std::size_t groups_ = 0;
};

// Checks that every group that `replacement` names exists in `pattern`; the error is
// malformed_request. "\1" to "\9" and "\g<1>" stand for groups, "\\" for a backslash.
Result<void> check_replacement(const Pattern& pattern, std::string_view replacement);
// Returns `replacement` with the texts of `groups` in place of their references.
std::string expand_replacement(const Pattern::Groups& groups, std::string_view replacement);

}  // namespace llm_proxy
