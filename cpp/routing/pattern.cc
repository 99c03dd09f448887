#include "routing/pattern.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/ascii.h"

namespace llm_proxy {

Result<Pattern> Pattern::build(std::string_view text) {
  const auto refuse = [](std::string why) {
    return Error{ErrorKind::malformed_request, std::move(why)};
  };
  if (text.size() > kMaxPattern) {
    return refuse("the pattern is longer than " + std::to_string(kMaxPattern) + " bytes");
  }
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto compiled = std::make_shared<const RE2>(re2::StringPiece(text.data(), text.size()), options);
  if (!compiled->ok()) return refuse("not a regular expression: " + compiled->error());
  const auto groups = static_cast<std::size_t>(compiled->NumberOfCapturingGroups());
  if (groups > kMaxGroups) {
    return refuse("the pattern has more than " + std::to_string(kMaxGroups) + " groups");
  }
  Pattern out;
  out.compiled_ = std::move(compiled);
  out.groups_ = groups;
  return out;
}

std::optional<Pattern::Groups> Pattern::match(std::string_view subject) const {
  if (subject.size() > kMaxSubject) return std::nullopt;
  std::array<re2::StringPiece, kMaxGroups + 1> found;
  const re2::StringPiece text(subject.data(), subject.size());
  if (!compiled_->Match(text, 0, text.size(), RE2::ANCHOR_START, found.data(),
                        static_cast<int>(groups_) + 1)) {
    return std::nullopt;
  }
  Groups out(groups_ + 1);
  for (std::size_t i = 0; i <= groups_; ++i) {
    if (found[i].data() != nullptr) out[i] = {found[i].data(), found[i].size()};
  }
  return out;
}

namespace {

// Calls `literal` with pieces of text and `group` with numbers.
template <typename Literal, typename Group>
void each_piece(std::string_view replacement, Literal literal, Group group) {
  for (std::size_t i = 0; i < replacement.size(); ++i) {
    const auto next = i + 1 < replacement.size() ? replacement[i + 1] : '\0';
    if (replacement[i] != '\\' || next == '\0') {
      literal(replacement.substr(i, 1));
    } else if (is_digit(next)) {
      group(static_cast<std::size_t>(next - '0'));
      ++i;
    } else if (const auto named = replacement.substr(i + 1);
               named.size() >= 4 && named.starts_with("g<") && is_digit(named[2]) &&
               named[3] == '>') {
      group(static_cast<std::size_t>(named[2] - '0'));
      i += 4;
    } else {
      literal(replacement.substr(i + 1, 1));
      ++i;
    }
  }
}

}  // namespace

Result<void> check_replacement(const Pattern& pattern, std::string_view replacement) {
  std::size_t most = 0;
  each_piece(
      replacement, [](auto) {}, [&most](std::size_t n) { most = std::max(most, n); });
  if (most <= pattern.groups()) return {};
  return Error{ErrorKind::malformed_request, "\\" + std::to_string(most) +
                                                 " stands for nothing: the pattern has " +
                                                 std::to_string(pattern.groups()) + " groups"};
}

std::string expand_replacement(const Pattern::Groups& groups, std::string_view replacement) {
  std::string out;
  each_piece(
      replacement, [&out](std::string_view piece) { out += piece; },
      [&](std::size_t n) {
        if (n < groups.size()) out += groups[n];
      });
  return out;
}

}  // namespace llm_proxy
