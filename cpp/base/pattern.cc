#include "base/pattern.h"

#include <algorithm>
#include <utility>

namespace llm_proxy {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

// Compiles by recursive descent, a fragment at a time, straight into the program.
class PatternParser {
 public:
  PatternParser(std::string_view text, Pattern& out) : text_(text), out_(out) {}

  Result<void> parse() {
    save(0);
    alternatives(0);
    if (!error_ && at_ < text_.size()) fail("unmatched ')'");
    save(1);
    emit({Pattern::Op::match});
    if (!error_ && out_.program_.size() > Pattern::kMaxProgram) fail("too long once unfolded");
    if (error_) return *std::move(error_);
    return {};
  }

 private:
  using Op = Pattern::Op;
  using Step = Pattern::Step;
  static constexpr int kMaxDepth = 32;
  static constexpr std::uint32_t kMaxRepeat = 100;

  void fail(std::string_view problem) {
    if (error_) return;
    error_ = Error{ErrorKind::malformed_request,
                   "position " + std::to_string(at_ + 1) + ": " + std::string(problem)};
  }
  bool more() const { return !error_ && at_ < text_.size(); }
  bool take(char c) {
    if (!more() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::uint32_t here() const { return static_cast<std::uint32_t>(out_.program_.size()); }
  void emit(Step step) {
    if (out_.program_.size() > Pattern::kMaxProgram) return fail("too long once unfolded");
    out_.program_.push_back(step);
  }
  void save(std::uint32_t slot) { emit({Op::save, slot}); }
  // Puts a step before the fragment that begins at `from`; the fragment's own targets move along.
  void insert(std::uint32_t from, Step step) {
    auto& program = out_.program_;
    for (auto i = from; i < here(); ++i) {
      auto& moved = program[i];
      if (moved.op == Op::split || moved.op == Op::jump) ++moved.a;
      if (moved.op == Op::split) ++moved.b;
    }
    program.insert(program.begin() + from, step);
  }

  void alternatives(int depth) {
    if (depth > kMaxDepth) return fail("nested too deep");
    const auto from = here();
    sequence(depth);
    if (!take('|')) return;
    insert(from, {Op::split, from + 1, here() + 2});
    const auto jump = here();
    emit({Op::jump});
    alternatives(depth + 1);
    if (!error_) out_.program_[jump].a = here();
  }

  void sequence(int depth) {
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
      const auto from = here();
      atom(depth);
      repeat(from);
    }
  }

  void atom(int depth) {
    const char c = text_[at_];
    switch (c) {
      case '^':
        ++at_;
        return emit({Op::begin});
      case '$':
        ++at_;
        return emit({Op::end});
      case '(':
        return group(depth);
      case '[':
        return set();
      case '*':
      case '+':
      case '?':
        return fail("nothing to repeat");
      case '.': {
        ++at_;
        return take_class(Pattern::Class().set());
      }
      case '\\':
        ++at_;
        return take_class(escape());
      default:
        ++at_;
        return take_class(Pattern::Class().set(static_cast<unsigned char>(c)));
    }
  }

  void take_class(Pattern::Class bytes) {
    emit({Op::take, static_cast<std::uint32_t>(out_.classes_.size())});
    out_.classes_.push_back(bytes);
  }

  void group(int depth) {
    ++at_;
    bool captures = true;
    if (take('?')) {
      if (!take(':')) return fail("of '(?…', only '(?:' is known");
      captures = false;
    }
    std::uint32_t slot = 0;
    if (captures) {
      if (out_.groups_ == Pattern::kMaxGroups) return fail("more than nine groups");
      slot = static_cast<std::uint32_t>(++out_.groups_) * 2;
      save(slot);
    }
    alternatives(depth + 1);
    if (!take(')')) return fail("'(' is not closed");
    if (captures) save(slot + 1);
  }

  // Behind a backslash.
  Pattern::Class escape() {
    Pattern::Class out;
    if (!more()) {
      fail("nothing behind the backslash");
      return out;
    }
    const char c = text_[at_];
    const auto range = [&out](char from, char to) {
      for (int i = from; i <= to; ++i) out.set(static_cast<std::size_t>(i));
    };
    switch (c) {
      case 'd':
      case 'D':
        range('0', '9');
        break;
      case 'w':
      case 'W':
        range('0', '9');
        range('a', 'z');
        range('A', 'Z');
        out.set('_');
        break;
      case 's':
      case 'S':
        for (const char space : {' ', '\t', '\n', '\r', '\f', '\v'}) {
          out.set(static_cast<std::size_t>(space));
        }
        break;
      default:
        if (is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
          fail("this escape is not known");
        }
        out.set(static_cast<unsigned char>(c));
    }
    if (c == 'D' || c == 'W' || c == 'S') out.flip();
    ++at_;
    return out;
  }

  void set() {
    ++at_;
    Pattern::Class out;
    const bool inverted = take('^');
    // As its first member, the closing bracket means itself.
    if (take(']')) out.set(']');
    while (!take(']')) {
      if (!more()) return fail("'[' is not closed");
      const bool escaped = take('\\');
      const auto low_at = at_;
      Pattern::Class one;
      if (escaped) {
        one = escape();
      } else {
        one.set(static_cast<unsigned char>(text_[at_++]));
      }
      if (error_) return;
      if (one.count() == 1 && at_ + 1 < text_.size() && text_[at_] == '-' &&
          text_[at_ + 1] != ']') {
        const auto low = static_cast<unsigned char>(text_[low_at]);
        ++at_;
        (void)take('\\');
        if (!more()) return fail("'[' is not closed");
        const auto high = static_cast<unsigned char>(text_[at_++]);
        if (high < low) return fail("a range that ends before it begins");
        for (int i = low; i <= high; ++i) out.set(static_cast<std::size_t>(i));
      } else {
        out |= one;
      }
    }
    take_class(inverted ? ~out : out);
  }

  bool number(std::uint32_t& out) {
    if (!more() || !is_digit(text_[at_])) return false;
    out = 0;
    while (more() && is_digit(text_[at_])) {
      out = std::min(out * 10 + static_cast<std::uint32_t>(text_[at_++] - '0'), kMaxRepeat + 1);
    }
    return true;
  }

  void repeat(std::uint32_t from) {
    if (!more()) return;
    std::uint32_t least = 0;
    std::uint32_t most = 0;
    bool endless = false;
    if (take('*')) {
      endless = true;
    } else if (take('+')) {
      least = 1;
      endless = true;
    } else if (take('?')) {
      most = 1;
    } else if (at_ + 1 < text_.size() && text_[at_] == '{' && is_digit(text_[at_ + 1])) {
      ++at_;
      (void)number(least);
      most = least;
      if (take(',')) endless = !number(most);
      if (!take('}')) return fail("'{' is not closed");
      if (least > kMaxRepeat || most > kMaxRepeat) return fail("repeated more than 100 times");
      if (!endless && most < least) return fail("a range that ends before it begins");
    } else {
      return;
    }
    const bool lazy = take('?');
    if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?')) {
      return fail("nothing to repeat");
    }
    unfold(from, least, most, endless, lazy);
  }

  void unfold(std::uint32_t from, std::uint32_t least, std::uint32_t most, bool endless,
              bool lazy) {
    const std::vector<Step> once(out_.program_.begin() + from, out_.program_.end());
    const auto again = [&] {
      const auto shift = here() - from;
      for (auto step : once) {
        if (step.op == Op::split || step.op == Op::jump) step.a += shift;
        if (step.op == Op::split) step.b += shift;
        emit(step);
      }
    };
    const auto choice = [lazy](std::uint32_t inside, std::uint32_t behind) {
      return lazy ? Step{Op::split, behind, inside} : Step{Op::split, inside, behind};
    };
    out_.program_.resize(from);
    for (std::uint32_t i = 0; i < least && !error_; ++i) again();
    if (endless) {
      const auto head = here();
      emit({Op::split});
      again();
      emit({Op::jump, head});
      if (!error_) out_.program_[head] = choice(head + 1, here());
      return;
    }
    std::vector<std::uint32_t> exits;
    for (std::uint32_t i = least; i < most && !error_; ++i) {
      exits.push_back(here());
      emit({Op::split});
      again();
    }
    if (error_) return;
    for (const auto exit : exits) out_.program_[exit] = choice(exit + 1, here());
  }

  std::string_view text_;
  Pattern& out_;
  std::size_t at_ = 0;
  std::optional<Error> error_;
};

Result<Pattern> Pattern::build(std::string_view text) {
  if (text.size() > kMaxPattern) {
    return Error{ErrorKind::malformed_request, "a pattern may have at most 512 characters"};
  }
  Pattern out;
  if (auto parsed = PatternParser(text, out).parse(); !parsed) return std::move(parsed).error();
  return out;
}

// Backtracking that never visits a step at a position twice: the first way there failed, or we
// would not be here.
std::optional<Pattern::Groups> Pattern::match(std::string_view subject) const {
  if (subject.size() > kMaxSubject) return std::nullopt;
  constexpr auto kNone = std::string_view::npos;
  struct Job {
    std::uint32_t step;
    std::size_t at;
    std::size_t restore = kNone;  // a slot to set back to `at`, instead of a place to go on from
  };
  const auto width = subject.size() + 1;
  std::vector<bool> seen(program_.size() * width);
  std::vector<std::size_t> slots((groups_ + 1) * 2, kNone);
  std::vector<Job> jobs{{0, 0}};
  while (!jobs.empty()) {
    auto [step, at, restore] = jobs.back();
    jobs.pop_back();
    if (restore != kNone) {
      slots[restore] = at;
      continue;
    }
    for (bool alive = true; alive;) {
      const auto mark = step * width + at;
      if (seen[mark]) break;
      seen[mark] = true;
      const auto& now = program_[step];
      switch (now.op) {
        case Op::take:
          alive = at < subject.size() && classes_[now.a][static_cast<unsigned char>(subject[at])];
          ++at;
          ++step;
          break;
        case Op::split:
          jobs.push_back({now.b, at});
          step = now.a;
          break;
        case Op::jump:
          step = now.a;
          break;
        case Op::save:
          jobs.push_back({0, slots[now.a], now.a});
          slots[now.a] = at;
          ++step;
          break;
        case Op::begin:
          alive = at == 0;
          ++step;
          break;
        case Op::end:
          alive = at == subject.size();
          ++step;
          break;
        case Op::match: {
          Groups out(groups_ + 1);
          for (std::size_t i = 0; i <= groups_; ++i) {
            const auto begin = slots[i * 2];
            const auto end = slots[i * 2 + 1];
            if (begin != kNone && end != kNone && begin <= end) {
              out[i] = subject.substr(begin, end - begin);
            }
          }
          return out;
        }
      }
    }
  }
  return std::nullopt;
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
