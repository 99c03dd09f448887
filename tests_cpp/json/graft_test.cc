#include "json/graft.h"

#include <gtest/gtest.h>

#include <string>

namespace llm_proxy {
namespace {

struct Case {
  const char* what;
  const char *source, *before, *after;
  const char* expected;  // null: there is no place for the edit
};

constexpr Case kCases[] = {
    {"nothing edited: as it stands", R"({ "a" : 1.0 })", R"({"b":2})", R"({"b":2})",
     R"({ "a" : 1.0 })"},
    {"a value", R"({"a":1,"b":1e2,"c":true})", R"({"a":1})", R"({"a":2})",
     R"({"a":2,"b":1e2,"c":true})"},
    {"a value under another name in the paraphrase too", R"({"m":"x","k":[1]})",
     R"({"m":"x","q":0})", R"({"m":"y","q":0})", R"({"m":"y","k":[1]})"},
    {"an added member", R"({"a":1})", R"({"a":1})", R"({"a":1,"b":2})", R"({"a":1,"b":2})"},
    {"a removed member", R"({"a":1,"b":2})", R"({"a":1,"b":2})", R"({"a":1})", R"({"a":1})"},
    {"a text beside what the paraphrase leaves out",
     R"([{"type":"thinking","s":"sig"},{"type":"text","text":"ann","cache":{}}])",
     R"([{"type":"text","text":"ann"}])", R"([{"type":"text","text":"X"}])",
     R"([{"type":"thinking","s":"sig"},{"type":"text","text":"X","cache":{}}])"},
    {"an item taken out between items it does not know",
     R"([{"name":"a","x":1},{"server":1},{"name":"b","x":2}])", R"([{"name":"a"},{"name":"b"}])",
     R"([{"name":"b"}])", R"([{"server":1},{"name":"b","x":2}])"},
    {"an item put in front", R"([{"role":"user","content":"q","id":7}])",
     R"([{"role":"user","content":"q"}])",
     R"([{"role":"system","content":"s"},{"role":"user","content":"q"}])",
     R"([{"role":"system","content":"s"},{"role":"user","content":"q","id":7}])"},
    {"parts said as one text",
     R"({"content":[{"type":"text","text":"ann","cache":1}],"role":"user"})",
     R"({"role":"user","content":"ann"})", R"({"role":"user","content":"X"})",
     R"({"content":[{"type":"text","text":"X","cache":1}],"role":"user"})"},
    {"a text said as parts", R"([{"role":"user","content":"ann"}])",
     R"([{"role":"user","content":[{"text":"ann"}]}])",
     R"([{"role":"user","content":[{"text":"X"}]}])", R"([{"role":"user","content":"X"}])"},
    {"texts said as one, with what is between them",
     R"({"c":[{"text":"a b"},{"call":1},{"text":" ann","cache":1},{"text":"."}]})",
     R"({"c":[{"text":"a b ann."}]})", R"({"c":[{"text":"a b X."}]})",
     R"({"c":[{"text":"a b"},{"call":1},{"text":" X","cache":1},{"text":"."}]})"},
    {"a text with escapes, said as one of several", R"(["\n","\"q\" \u00e9"])", R"("\n\"q\" é")",
     R"("\n\"z\" é")", R"(["\n","\"z\" é"])"},
    {"an item that alone can be meant", R"({"c":[{"p":[{"t":"x","s":1}],"k":1}]})",
     R"({"c":[{"p":[{"t":"x"},{"t":"","s":"wrapped"}]}]})",
     R"({"c":[{"p":[{"t":"y"},{"t":"","s":"wrapped"}]}]})",
     R"({"c":[{"p":[{"t":"y","s":1}],"k":1}]})"},
    {"an id that is made up", R"([{"id":"a","t":"x","k":1}])", R"([{"id":"b","t":"x"}])",
     R"([{"id":"b","t":"y"}])", R"([{"id":"a","t":"y","k":1}])"},
    {"the second of two equal texts", R"([{"t":"a","k":1},{"t":"a","k":2}])",
     R"([{"t":"a"},{"t":"a"}])", R"([{"t":"a"},{"t":"b"}])",
     R"([{"t":"a","k":1},{"t":"b","k":2}])"},
    {"what source says elsewhere, untouched", R"({"s":"sys","m":[{"r":"u","c":"q","k":1}]})",
     R"({"m":[{"r":"s","c":"sys"},{"r":"u","c":"q"}]})",
     R"({"m":[{"r":"s","c":"sys"},{"r":"u","c":"X"}]})",
     R"({"s":"sys","m":[{"r":"u","c":"X","k":1}]})"},
    {"what source says elsewhere, edited", R"({"s":"sys","m":[{"r":"u","c":"q"}]})",
     R"({"m":[{"r":"s","c":"sys"},{"r":"u","c":"q"}]})",
     R"({"m":[{"r":"s","c":"X"},{"r":"u","c":"q"}]})", nullptr},
    {"escapes", R"({"a":"\u00e9\n","b":"\u00e9"})", R"({"a":"é\n"})", R"({"a":"\"é"})",
     R"({"a":"\"é","b":"\u00e9"})"},
    {"no JSON", R"({"a":)", R"({"a":1})", R"({"a":2})", nullptr},
};

TEST(Graft, carries_the_edit_and_leaves_the_rest_as_it_stands) {
  for (const Case& c : kCases) {
    const auto made = graft(c.source, c.before, c.after);
    EXPECT_EQ(made.has_value(), c.expected != nullptr) << c.what;
    EXPECT_EQ(made.value_or(""), c.expected != nullptr ? c.expected : "") << c.what;
  }
}

TEST(Graft, gives_up_where_finding_takes_too_long) {
  std::string before = "[", after = "[", source = "[";
  for (int i = 0; i < 3000; ++i) {
    before += (i ? "," : "") + std::string(R"({"a":)") + std::to_string(i) + "}";
    after += (i ? "," : "") + std::string(R"({"b":)") + std::to_string(i) + "}";
    source += (i ? "," : "") + std::string(R"({"a":)") + std::to_string(-i - 1) + "}";
  }
  EXPECT_FALSE(graft(source + "]", before + "]", after + "]").has_value());
}

TEST(Graft, survives_any_depth) {
  const std::string deep = std::string(400, '[') + "1" + std::string(400, ']');
  const std::string other = std::string(400, '[') + "2" + std::string(400, ']');
  EXPECT_EQ(graft(deep, deep, other), other);
  EXPECT_EQ(graft(deep, other, other), deep);
}

}  // namespace
}  // namespace llm_proxy
