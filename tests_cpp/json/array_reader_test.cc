#include "json/array_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace llm_proxy {
namespace {

std::vector<std::string> elements(JsonArrayReader& reader) {
  std::vector<std::string> found;
  std::string_view element;
  while (reader.next(element)) found.emplace_back(element);
  return found;
}

constexpr std::string_view kStream =
    " [{\"a\":\"}]\\\"\"}\n,\r\n{\"b\":[{},[1]]}\n,\r\n{\"ż\":\"\\\\\"}\n]\n";

TEST(JsonArrayReader, gives_the_same_elements_for_every_cut) {
  JsonArrayReader whole(1000);
  whole.add(kStream);
  const auto want = elements(whole);
  ASSERT_EQ(want.size(), 3u);
  EXPECT_EQ(want[1], "{\"b\":[{},[1]]}");
  EXPECT_TRUE(whole.ended());
  for (std::size_t cut = 0; cut <= kStream.size(); ++cut) {
    JsonArrayReader reader(1000);
    reader.add(kStream.substr(0, cut));
    auto got = elements(reader);
    EXPECT_EQ(reader.ended(), cut >= kStream.size() - 1) << cut;
    reader.add(kStream.substr(cut));
    for (auto& element : elements(reader)) got.push_back(element);
    EXPECT_EQ(got, want) << "cut at " << cut;
    EXPECT_TRUE(reader.ended());
  }
}

TEST(JsonArrayReader, refuses_what_is_no_array_of_objects) {
  for (const std::string_view bytes : {"{\"a\":1}", "[1]", "[{}] x", "<html>"}) {
    JsonArrayReader reader(1000);
    reader.add(bytes);
    elements(reader);
    EXPECT_FALSE(reader.status()) << bytes;
  }
}

TEST(JsonArrayReader, bounds_an_element) {
  JsonArrayReader reader(16);
  reader.add("[{\"a\":\"");
  for (int i = 0; i < 4; ++i) {
    reader.add("12345678");
    elements(reader);
  }
  EXPECT_FALSE(reader.status());
}

}  // namespace
}  // namespace llm_proxy
