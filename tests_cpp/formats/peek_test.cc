#include <gtest/gtest.h>

#include "formats/format.h"

namespace llm_proxy {
namespace {

TEST(Peek, refuses_what_two_readers_could_take_differently) {
  for (const std::string_view body :
       {R"({"model":"a","model":"b"})", R"({"model":"a","mod\u0065l":"b"})", R"({"Model":"a"})",
        R"({"model":"a","MODEL":"b"})", R"({"x":{"y":[{"z":1,"z":2}]}})",
        R"({"stream_options":{"include_usage":true,"include_usage":false}})",
        R"({"generationConfig":{},"generation_config":{}})",
        R"({"generation_config":{"maxOutputTokens":1,"max_output_tokens":2}})"}) {
    EXPECT_FALSE(peek_request(body)) << body;
  }
  for (const std::string_view body :
       {R"({"model":"a","x":{"model":"b","Model":"c"}})", R"({"generation_config":{}})",
        R"({"modelName":"a","models":["b"]})"}) {
    EXPECT_TRUE(peek_request(body)) << body;
  }
}

TEST(Peek, finds_what_is_spliced) {
  const std::string body =
      R"({"stream":true, "x":{"model":"no"},"stream_options":{"include_usage":false},"model": "b\u0041"})";
  const Result<RequestPeek> peek = peek_request(body);
  ASSERT_TRUE(peek);
  EXPECT_EQ(peek->model, "bA");
  EXPECT_EQ(body.substr(peek->model_begin, peek->model_end - peek->model_begin), R"("b\u0041")");
  EXPECT_TRUE(peek->stream);
  EXPECT_EQ(peek->include_usage, false);
  EXPECT_EQ(body.substr(peek->stream_options_begin,
                        peek->stream_options_end - peek->stream_options_begin),
            R"({"include_usage":false})");
  EXPECT_EQ(body[peek->object_begin], '"');
}

TEST(Peek, refuses_a_member_that_is_given_twice) {
  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += "\"m" + std::to_string(i) + "\":0,";
  for (const std::string& body :
       {std::string(R"({"model":"a","model":"b"})"),
        std::string(R"({"mod\u0065l":"a","model":"a"})"),
        std::string(R"({"messages":[],"stream":true,"messages":[]})"),
        std::string(R"({"stream_options":{"include_usage":true,"include_usage":false}})"),
        many + R"("m3":1})"}) {
    const Result<RequestPeek> peek = peek_request(body);
    ASSERT_FALSE(peek) << body;
    EXPECT_EQ(peek.error().kind, ErrorKind::malformed_request);
    EXPECT_NE(peek.error().message.find("' twice"), std::string::npos);
  }
  EXPECT_TRUE(peek_request(many + R"("n":{"a":1},"o":{"a":1}})"));
}

TEST(Peek, refuses_what_is_not_one_json_object) {
  for (const std::string body : {"", "[]", "\xEF\xBB\xBF{}", "{} x", "{\"a\":NaN}",
                                 "{\"a\":\"\xff\"}", "{\"model\":5}", "{\"a\":\"\\x\"}"}) {
    const Result<RequestPeek> peek = peek_request(body);
    ASSERT_FALSE(peek) << body;
    EXPECT_EQ(peek.error().kind, ErrorKind::malformed_request);
  }
}

}  // namespace
}  // namespace llm_proxy
