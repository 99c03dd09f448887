#include "json/writer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "json/splice.h"

namespace llm_proxy {
namespace {

TEST(JsonWriter, puts_commas_where_they_belong) {
  std::string out = "data: ";
  JsonWriter json(out);
  json.begin_object().member("a", std::int64_t{1}).key("b").begin_array();
  json.string("x").begin_object().end_object().boolean(true).null().raw("[]").end_array();
  json.key("c").begin_object().member("d", "e").end_object();
  json.optional("none", Text()).end_object();
  EXPECT_EQ(out, R"(data: {"a":1,"b":["x",{},true,null,[]],"c":{"d":"e"}})");
}

TEST(JsonWriter, escapes_what_must_be_and_nothing_else) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  all += "zażółć 漢字 👩‍👩‍👧";
  std::string out;
  JsonWriter(out).string(all);
  EXPECT_EQ(nlohmann::ordered_json::parse(out).get<std::string>(), all);
  EXPECT_NE(out.find("漢字"), std::string::npos);
}

TEST(Text, decodes_as_an_independent_parser_does) {
  for (const std::string escaped :
       {R"(a\n\t\"\\\/\b\f\r)", R"(\u0041\u00e9\u6f22\ud83d\ude00)", R"(\u0000)", "plain"}) {
    EXPECT_EQ(Text::escaped(escaped).decode(),
              nlohmann::ordered_json::parse('"' + escaped + '"').get<std::string>());
  }
  EXPECT_EQ(Text::escaped(R"(\ud83dx)").decode(), "\xEF\xBF\xBDx");
  EXPECT_EQ(Text::escaped(R"(\ude00)").decode(), "\xEF\xBF\xBD");
  EXPECT_EQ(Text::escaped(R"(\ud83d\u0041)").decode(),
            "\xEF\xBF\xBD"
            "A");
  EXPECT_TRUE(Text::escaped(R"(\u0041)") == "A");
  EXPECT_FALSE(Text::plain(R"(\u0041)") == "A");
}

TEST(Splice, replaces_and_inserts_in_order) {
  const Splice splices[] = {{0, 0, "<"}, {1, 3, "X"}, {2, 4, "overlaps"}, {5, 5, ">"}};
  EXPECT_EQ(spliced("abcde", splices), "<aXde>");
}

}  // namespace
}  // namespace llm_proxy
