#include "json/merge.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

TEST(Merge, sets_members_and_leaves_every_other_byte) {
  struct Case {
    std::string_view base, over, want;
  };
  for (const auto& [base, over, want] : {
           Case{R"({"a": 1, "b":2 })", R"({"a":3})", R"({"a": 3, "b":2 })"},
           Case{R"({"a":1})", R"({"b":"x","c":[]})", R"({"a":1,"b":"x","c":[]})"},
           Case{R"({})", R"({"b":1,"c":2})", R"({"b":1,"c":2})"},
           Case{R"({"a":{"x":1,"y":{"z":1}}})", R"({"a":{"y":{"w":2},"v":3}})",
                R"({"a":{"x":1,"y":{"z":1,"w":2},"v":3}})"},
           Case{R"({"t":{"type":"enabled","budget":9}})", R"({"t":{"type":"disabled"}})",
                R"({"t":{"type":"disabled"}})"},
           Case{R"({"a":1,"a":2})", R"({"a":3})", R"({"a":1,"a":3})"},
           Case{R"({"a":"}"} )", R"({"b":1})", R"({"a":"}","b":1} )"},
       }) {
    EXPECT_EQ(merged(base, over), want);
  }
}

TEST(Difference, has_what_is_new_or_otherwise) {
  EXPECT_EQ(difference(R"({"a":1,"b":{"c":1}})", R"({"a":1,"b":{"c":2},"d":null})"),
            R"({"b":{"c":2},"d":null})");
  EXPECT_EQ(difference(R"({"a":1})", R"({"a":1})"), "{}");
}

}  // namespace
}  // namespace llm_proxy
