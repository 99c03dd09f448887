#include "net/socks5.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace llm_proxy {
namespace {

using namespace std::string_literals;

// What is said in answer to each of `heard`, one after the other; the error's words at the end.
std::vector<std::string> talk(Socks5& socks, const std::vector<std::string>& heard) {
  std::vector<std::string> said{socks.begin()};
  for (const std::string& bytes : heard) {
    auto answer = socks.feed(bytes);
    if (!answer) {
      said.push_back("error: " + answer.error().message);
      break;
    }
    said.push_back(*std::move(answer));
  }
  return said;
}

TEST(Socks5, asks_for_a_name_without_a_password) {
  Socks5 socks({"api.test", 443}, "", "");
  EXPECT_EQ(talk(socks, {"\5\0"s, "\5\0\0\1\177\0\0\1\4\070"s}),
            (std::vector<std::string>{"\5\1\0"s, "\5\1\0\3\10api.test\1\273"s, ""}));
  EXPECT_TRUE(socks.done());
}

TEST(Socks5, logs_in_with_user_and_password) {
  Socks5 socks({"10.0.0.1", 80}, "me", "secret");
  EXPECT_EQ(
      talk(socks, {"\5\2"s, "\1\0"s, "\5\0\0\3\3abc\0\0"s}),
      (std::vector<std::string>{"\5\2\0\2"s, "\1\2me\6secret"s, "\5\1\0\1\12\0\0\1\0\120"s, ""}));
  EXPECT_TRUE(socks.done());
}

TEST(Socks5, an_ipv6_address_goes_as_one) {
  Socks5 socks({"fd00::1", 1}, "", "");
  EXPECT_EQ(talk(socks, {"\5\0"s})[1], "\5\1\0\4\375\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1"s);
}

TEST(Socks5, is_done_however_the_answer_is_cut) {
  const std::string whole = "\5\0\0\4"s + std::string(16, 'x') + "\0\1"s;
  Socks5 socks({"api.test", 443}, "", "");
  ASSERT_TRUE(socks.feed("\5"s));
  ASSERT_TRUE(socks.feed("\0"s));
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_FALSE(socks.done());
    ASSERT_TRUE(socks.feed(whole.substr(i, 1)));
  }
  EXPECT_TRUE(socks.done());
}

TEST(Socks5, says_what_the_proxy_refuses) {
  struct Case {
    std::vector<std::string> heard;
    std::string user, words;
  };
  for (const Case& each : {
           Case{{"HTTP/1.1 400"}, "", "speaks before its turn"},
           Case{{"HT"}, "", "does not speak SOCKS5"},
           Case{{"\5\377"s}, "", "wants a user and a password"},
           Case{{"\5\377"s}, "me", "takes no user and password"},
           Case{{"\5\2"s, "\1\1"s}, "me", "refuses the user or the password"},
           Case{{"\5\0"s, "\5\5\0\1\0\0\0\0\0\0"s}, "", "connection refused"},
           Case{{"\5\0"s, "\5\2\0\1\0\0\0\0\0\0"s}, "", "not allowed by its rules"},
           Case{{"\5\0"s, "\5\0\0\1\0\0\0\0\0\0HTTP/1.1 200"s}, "", "before its turn"},
           Case{{"\5\0"s, std::string(300, 'x')}, "", "more than SOCKS5 has words for"},
       }) {
    Socks5 socks({"api.test", 443}, each.user, "secret");
    const auto said = talk(socks, each.heard).back();
    EXPECT_NE(said.find(each.words), std::string::npos) << said;
    EXPECT_EQ(said.find("secret"), std::string::npos) << said;
    EXPECT_FALSE(socks.done());
  }
}

}  // namespace
}  // namespace llm_proxy
