#include "routing/pattern.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

// The replacement for a subject; "-" when the pattern does not match it.
std::string rewritten(std::string_view pattern, std::string_view subject,
                      std::string_view replacement = "\\0") {
  const auto built = Pattern::build(pattern);
  if (!built) return "error: " + built.error().message;
  if (auto good = check_replacement(*built, replacement); !good) return good.error().message;
  const auto groups = built->match(subject);
  return groups ? expand_replacement(*groups, replacement) : "-";
}

TEST(Pattern, matches_from_the_beginning_as_regular_expressions_do) {
  struct Case {
    std::string_view pattern, subject, replacement, want;
  };
  for (const auto& [pattern, subject, replacement, want] : {
           Case{"gpt-4", "gpt-4.1", "\\0", "gpt-4"},
           Case{"gpt-4$", "gpt-4.1", "\\0", "-"},
           Case{"^gpt-(.*)$", "gpt-4.1", "openrouter:openai/gpt-\\1", "openrouter:openai/gpt-4.1"},
           Case{"claude-(\\w+)-(\\d+)-(\\d+)", "claude-sonnet-4-5", "anthropic/claude-\\1-\\2.\\3",
                "anthropic/claude-sonnet-4.5"},
           Case{"(a|ab)(c|bcd)(d*)", "abcd", "\\1,\\2,\\3", "a,bcd,"},
           Case{"(?:o[1-9]|gpt-5)(-mini)?$", "o3", "x\\1y", "xy"},
           Case{"(?:o[1-9]|gpt-5)(-mini)?$", "gpt-5-mini", "x\\1y", "x-miniy"},
           Case{"(.*?)-(.*)", "a-b-c", "\\1|\\2", "a|b-c"},
           Case{"(.*)-(.*)", "a-b-c", "\\g<1>|\\2", "a-b|c"},
           Case{"a{2,3}", "aaaa", "\\0", "aaa"},
           Case{"a{2}", "a", "\\0", "-"},
           Case{"a{2,}b", "aaaab", "\\0", "aaaab"},
           Case{"[^/]+/(.+)", "qwen/qwen3:free", "\\1", "qwen3:free"},
           Case{"[]a-c\\-]+", "]b-d", "\\0", "]b-"},
           Case{"(x*)*y", "xxxy", "[\\1]", "[xxx]"},
           Case{"", "anything", "<\\0>", "<>"},
           Case{"a|", "b", "<\\0>", "<>"},
           Case{"\\.\\S\\W", ".a-", "\\\\", "\\"},
       }) {
    EXPECT_EQ(rewritten(pattern, subject, replacement), want) << pattern << " on " << subject;
  }
}

TEST(Pattern, says_what_is_wrong) {
  for (const std::string_view wrong : {"a(b", "a)b", "a[b", "*a", "a**", "(?=a)", "(a)\\1", "[z-a]",
                                       "a{9,3}", "((a{100}){100}){100}"}) {
    EXPECT_TRUE(rewritten(wrong, "x").starts_with("error: not a regular expression: ")) << wrong;
  }
  EXPECT_NE(rewritten("a(b", "x").find("missing )"), std::string::npos);
  EXPECT_EQ(rewritten("(a)", "a", "\\2"), "\\2 stands for nothing: the pattern has 1 groups");
  EXPECT_EQ(rewritten("()()()()()()()()()()", "x"), "error: the pattern has more than 9 groups");
  EXPECT_EQ(rewritten(std::string(513, 'a'), "x"), "error: the pattern is longer than 512 bytes");
}

TEST(Pattern, never_matches_a_subject_beyond_its_bound) {
  EXPECT_EQ(rewritten("a*", std::string(4096, 'a'), "x"), "x");
  EXPECT_EQ(rewritten("a*", std::string(4097, 'a'), "x"), "-");
}

TEST(Pattern, needs_bounded_time_where_backtracking_would_never_end) {
  const std::string subject(2000, 'a');
  EXPECT_EQ(rewritten("(a+)+$", subject + "b"), "-");
  EXPECT_EQ(rewritten("(a|aa|a*)*c", subject), "-");
  EXPECT_EQ(rewritten("(.*)(.*)(.*)(.*)x", subject), "-");
}

}  // namespace
}  // namespace llm_proxy
