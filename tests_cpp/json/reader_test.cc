#include "json/reader.h"

#include <gtest/gtest.h>

#include <array>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace llm_proxy {
namespace {

bool accepts(std::string_view text) {
  JsonReader json(text);
  return json.skip() && json.finish();
}

TEST(JsonReader, gives_members_as_views_and_skips_what_nobody_takes) {
  JsonReader json(R"( { "model" : "a\"b", "x": {"deep":[1,2,{"y":null}]}, "n": 12, "on": true } )");
  Text model;
  std::int64_t n = 0;
  bool on = false;
  std::string_view key;
  ASSERT_TRUE(json.begin_object());
  while (json.next_key(key)) {
    if (key == "model") json.string(model);
    if (key == "n") json.integer(n);
    if (key == "on") json.boolean(on);
  }
  EXPECT_TRUE(json.finish());
  EXPECT_EQ(model.bytes(), R"(a\"b)");
  EXPECT_EQ(model.decode(), R"(a"b)");
  EXPECT_EQ(n, 12);
  EXPECT_TRUE(on);
}

TEST(JsonReader, names_the_path_of_a_wrong_type) {
  JsonReader json(R"({"messages":[{"role":"user"},{"role":5}]})");
  std::string_view key;
  Text role;
  ASSERT_TRUE(json.begin_object());
  while (json.next_key(key)) {
    ASSERT_TRUE(json.begin_array());
    while (json.next_item()) {
      ASSERT_TRUE(json.begin_object());
      while (json.next_key(key)) json.string(role);
    }
  }
  EXPECT_FALSE(json.finish());
  const Error error = json.error(ErrorKind::malformed_request);
  EXPECT_EQ(error.param, "messages[1].role");
  EXPECT_EQ(error.message, "messages[1].role must be a string (at byte 37).");
}

TEST(JsonReader, decodes_escaped_keys) {
  JsonReader json(R"({"m\u006fdel":1})");
  std::string_view key;
  ASSERT_TRUE(json.begin_object());
  ASSERT_TRUE(json.next_key(key));
  EXPECT_EQ(key, "model");
}

TEST(JsonReader, refuses_and_accepts_as_an_independent_parser_does) {
  const std::vector<std::string> cases{"{}",
                                       "[]",
                                       "1",
                                       "-0",
                                       "01",
                                       "1.",
                                       ".5",
                                       "1e",
                                       "1e5",
                                       "1E+5",
                                       "-",
                                       "+1",
                                       "NaN",
                                       "Infinity",
                                       "nul",
                                       "null",
                                       "true",
                                       "truee",
                                       "\"\"",
                                       "\"a",
                                       "\"\\x\"",
                                       "\"\\u12\"",
                                       "\"\\u12g4\"",
                                       "\"\\u1234\"",
                                       "\"\n\"",
                                       "\"\t\"",
                                       "{\"a\":1,}",
                                       "{\"a\"}",
                                       "{a:1}",
                                       "{\"a\":1 \"b\":2}",
                                       "[1,]",
                                       "[,1]",
                                       "[1 2]",
                                       "[1,2",
                                       "{\"a\":[}",
                                       "[]]",
                                       "{} {}",
                                       " \r\n\t[ 1 , 2 ] ",
                                       "",
                                       " ",
                                       "\xEF\xBB\xBF{}",
                                       "[1e400]",
                                       "123456789012345678901234567890",
                                       "{\"a\":{\"a\":{\"a\":[[[]]]}}}",
                                       "\"\\",
                                       "\"\\u",
                                       "'a'",
                                       "[\"\\/\\b\\f\\n\\r\\t\\\\\\\"\"]",
                                       "/**/1",
                                       "\x01"};
  for (const std::string& text : cases) {
    bool expected = nlohmann::ordered_json::accept(text);
    if (text == "[1e400]") expected = true;  // its value is nobody's business here
    if (text.substr(0, 3) == "\xEF\xBB\xBF") expected = false;  // a byte order mark is no JSON
    EXPECT_EQ(accepts(text), expected) << text;
  }
}

TEST(JsonReader, refuses_every_prefix_of_a_document) {
  const std::string_view whole = R"({"a":["x\u0041\n",-1.5e3,true,false,null,{"b":{}}],"c":""})";
  EXPECT_TRUE(accepts(whole));
  for (std::size_t cut = 0; cut < whole.size(); ++cut)
    EXPECT_FALSE(accepts(whole.substr(0, cut))) << cut;
}

TEST(JsonReader, bounds_the_depth) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(accepts(nested(JsonLimits{}.depth)));
  EXPECT_FALSE(accepts(nested(JsonLimits{}.depth + 1)));
  EXPECT_FALSE(accepts(nested(1'000'000)));
}

bool accepts_within(std::string_view text, JsonLimits limits) {
  JsonReader json(text, limits);
  return json.skip() && json.finish();
}

TEST(JsonReader, refuses_numbers_that_no_double_holds_where_its_owner_says_so) {
  const JsonLimits strict{.finite_numbers = true};
  const auto digits = [](std::size_t count) { return std::string(count, '9'); };
  for (const std::string& text : {std::string("1e999"), std::string("-1E+400"), digits(400),
                                  digits(5000), digits(400) + "e-1", "0." + digits(2000),
                                  "1e" + digits(50), std::string("[1,{\"a\":2e308}]")}) {
    EXPECT_TRUE(accepts_within(text, {})) << text;
    EXPECT_FALSE(accepts_within(text, strict)) << text;
  }
  for (const std::string& text :
       {std::string("1e308"), std::string("1e-999"), std::string("-0.0e0"), digits(300),
        "0." + digits(900), "1e-" + digits(50), std::string("18446744073709551616")}) {
    EXPECT_TRUE(accepts_within(text, strict)) << text;
  }
}

TEST(JsonReader, refuses_half_a_surrogate_pair_where_its_owner_says_so) {
  const JsonLimits strict{.whole_characters = true};
  for (const std::string_view text :
       {R"("\ud800")", R"("\ud83d\u0041")", R"("\ude00\ud83d")", R"("a\udfff")", R"({"\ud800":1})",
        R"("\ud83d")", R"("\ud83d\")"}) {
    EXPECT_FALSE(accepts_within(text, strict)) << text;
  }
  for (const std::string_view text :
       {R"("\ud83d\ude00")", R"("\\ud800")", R"("\u0041\ud7ff\ue000")"}) {
    EXPECT_TRUE(accepts_within(text, strict)) << text;
  }
  EXPECT_TRUE(accepts_within(R"("\ud800")", {}));
}

bool has_unique_members(std::string_view text) {
  JsonReader json(text, {.unique_members = true});
  return json.skip() && json.finish();
}

TEST(JsonReader, refuses_a_member_twice_where_it_is_told_to) {
  for (const std::string_view twice :
       {R"({"a":1,"a":2})", R"({"a":1,"b":{},"a":2})", R"({"model":1,"mod\u0065l":2})",
        R"({"\u0061":1,"a":2})", R"({"\u0061":1,"\u0061":2})", R"([{"x":{"a":1,"a":1}}])",
        R"({"":1,"":2})", R"({"a\/b":1,"a/b":2})", R"({"a":{"b":[{"c":1,"c":2}]},"d":1})"}) {
    EXPECT_FALSE(has_unique_members(twice)) << twice;
    EXPECT_TRUE(accepts(twice)) << twice;
  }
  for (const std::string_view once :
       {R"({"a":1,"b":2})", R"({"a":{"a":{"a":1}}})", R"([{"a":1},{"a":2}])", R"({"a":1,"A":2})",
        R"({"\u0061":{"\u0061":1},"b":{"\u0061":1}})", "{}", "[{},{}]"}) {
    EXPECT_TRUE(has_unique_members(once)) << once;
  }
  JsonReader members(R"({"a":{"x":1},"b":[{"x":1}],"\u0061":2})", {.unique_members = true});
  std::string_view key;
  members.begin_object();
  while (members.next_key(key)) {
  }
  EXPECT_TRUE(members.failed());
}

TEST(JsonReader, finds_a_member_twice_among_many_and_bounds_how_many) {
  const auto object = [](std::size_t count, std::string_view more) {
    std::string out = "{";
    for (std::size_t i = 0; i < count; ++i)
      out += "\"m\\u0041" + std::to_string(i) + "\":{\"a\":1},";
    return out + std::string(more) + "}";
  };
  for (const std::size_t count : {14u, 15u, 16u, 17u, 40u, 5000u}) {
    EXPECT_TRUE(has_unique_members(object(count, "\"x\":1"))) << count;
    EXPECT_FALSE(has_unique_members(object(count, "\"mA7\":1"))) << count;
    EXPECT_FALSE(has_unique_members(object(count, "\"x\":1,\"x\":2"))) << count;
  }
  EXPECT_TRUE(has_unique_members(object(JsonReader::kMaxMembers - 1, "\"x\":1")));
  EXPECT_FALSE(has_unique_members(object(JsonReader::kMaxMembers, "\"x\":1")));
}

TEST(JsonReader, finds_special_bytes_at_every_offset) {
  for (const char special : {'"', '\\', '\x1f', '\n', '\0'}) {
    for (std::size_t at = 0; at < 40; ++at) {
      std::string text = "\"" + std::string(40, 'a') + "\"";
      text[1 + at] = special;
      EXPECT_FALSE(accepts(text)) << static_cast<int>(special) << " at " << at;
    }
  }
  for (std::size_t size = 0; size < 70; ++size)
    EXPECT_TRUE(accepts('"' + std::string(size, '\x7f') + '"'));
}

TEST(JsonReader, reads_integers_in_every_spelling) {
  const auto read = [](std::string_view text) {
    JsonReader json(text);
    std::int64_t out = -1;
    return json.integer(out) && json.finish() ? out : -999;
  };
  EXPECT_EQ(read("12"), 12);
  EXPECT_EQ(read("12.0"), 12);
  EXPECT_EQ(read("1.2e1"), 12);
  EXPECT_EQ(read("9223372036854775807"), 9223372036854775807);
  EXPECT_EQ(read("1e400"), -999);
  EXPECT_EQ(read("\"12\""), -999);
}

// Long strings are read in blocks: whatever stands where, the verdict and the extent are those of a
// reader that looks at one byte after the other.
TEST(JsonReader, reads_long_strings_as_nlohmann_does_wherever_their_escapes_stand) {
  constexpr std::array<std::string_view, 12> kPieces{
      R"(\\)", R"(\")",    R"(\n)",     R"(\/)", R"(\u00e9)", "plain text of some length ",
      "x",     "\xc3\xa9", R"(\\\\\\)", R"(\x)", R"(\u00g0)", "\x01"};
  std::minstd_rand dice(1);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    // The last three pieces are errors: rare, so that whole strings are read too.
    std::string text = "\"";
    const std::size_t length = dice() % 200;
    while (text.size() < length) text += kPieces[dice() % (dice() % 50 == 0 ? 12 : 9)];
    text += dice() % 20 == 0 ? "" : "\"";
    const bool valid = nlohmann::json::accept(text);
    ASSERT_EQ(accepts(text), valid) << text;
    if (!valid) continue;
    ++accepted;
    JsonReader json(text);
    Text out;
    ASSERT_TRUE(json.string(out) && json.finish()) << text;
    ASSERT_EQ(out.bytes(), std::string_view(text).substr(1, text.size() - 2));
  }
  EXPECT_GT(accepted, 5'000);
}

TEST(Compact, drops_white_space_between_tokens_only) {
  std::string out;
  compact_to("{ \"a b\" : [ 1 , \"x \\\" y\\\\\" ] ,\n\t\"c\" : {} }", out);
  EXPECT_EQ(out, R"({"a b":[1,"x \" y\\"],"c":{}})");
}

TEST(Member, gives_the_last_of_duplicates) {
  EXPECT_EQ(member(R"({"a":1,"b":{"a":9},"a": [2] })", "a"), "[2]");
  EXPECT_EQ(member("[]", "a"), "");
  EXPECT_EQ(string_member(R"({"a":"x"})", "a").bytes(), "x");
}

}  // namespace
}  // namespace llm_proxy
