#include "base/nearest.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

const std::vector<std::string_view> kNames{"backend", "model",   "models",
                                           "openai",  "gpt-4.1", "max"};

TEST(Nearest, is_the_name_with_the_fewest_changes) {
  for (const auto& [typed, want] :
       std::initializer_list<std::pair<std::string_view, std::string_view>>{
           {"backend", "backend"},
           {"Backend", "backend"},
           {"bakcend", "backend"},  // two letters swapped count once
           {"opnai", "openai"},
           {"gtp-4.1", "gpt-4.1"},
           {"modle", "model"},
           {"modelss", "models"},
           {"mix", "max"},
           {"mx", "max"},
           {"m", ""},
           {"claude", ""},
           {"", ""},
       }) {
    EXPECT_EQ(nearest(typed, kNames), want) << typed;
  }
}

TEST(Nearest, takes_no_time_for_what_is_long) {
  const std::string longest(100, 'a');
  const std::string too_long(101, 'a');
  EXPECT_EQ(nearest(longest, {longest}), longest);
  EXPECT_EQ(nearest(too_long, {too_long}), "");
}

TEST(DidYouMean, asks_only_where_a_name_is_near) {
  EXPECT_EQ(did_you_mean("opnai", kNames), ": did you mean 'openai'?");
  EXPECT_EQ(did_you_mean("claude", kNames), "");
}

}  // namespace
}  // namespace llm_proxy
