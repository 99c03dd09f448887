#include "base/log.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

namespace llm_proxy {
namespace {

TEST(Log, writes_one_line_per_call_whatever_the_text_holds) {
  const std::string path = testing::TempDir() + "log_test.txt";
  std::remove(path.c_str());
  ASSERT_TRUE(log_to_file(path));
  log(LogLevel::warning, "first\nsecond\r", 42);
  log(LogLevel::debug, "too quiet to be heard");
  log_to_file("");
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str().substr(24), " warning first second 42\n");
  EXPECT_EQ(text.str()[23], 'Z');
}

TEST(Log, writes_objects_where_they_are_wanted) {
  const std::string path = testing::TempDir() + "log_test.json";
  std::remove(path.c_str());
  ASSERT_TRUE(log_to_file(path));
  log_as_json(true);
  log(LogLevel::error, "no \"route\" to C:\\host\n", 7);
  log_as_json(false);
  log_to_file("");
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str().substr(0, 9), R"({"time":")");
  EXPECT_EQ(
      text.str().substr(9 + 24),
      R"(","level":"error","logger":"llm_proxy.engine","message":"no \"route\" to C:\\host 7"})"
      "\n");
}

TEST(Log, says_when_a_file_cannot_be_opened) {
  EXPECT_FALSE(log_to_file("/nonexistent/folder/log"));
}

TEST(LogLimit, passes_one_line_a_second_and_counts_the_others) {
  VirtualClock clock;
  LogLimit limit;
  EXPECT_EQ(limit.pass(clock.now()), 0u);
  for (int i = 0; i < 9; ++i) {
    clock.advance(std::chrono::milliseconds(100));
    EXPECT_EQ(limit.pass(clock.now()), std::nullopt);
  }
  clock.advance(std::chrono::milliseconds(100));
  EXPECT_EQ(limit.pass(clock.now()), 9u);
  EXPECT_EQ(limit.pass(clock.now()), std::nullopt);
}

}  // namespace
}  // namespace llm_proxy
