#include "formats/body_edits.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

TEST(BodyEdits, leave_a_body_alone_that_no_quirk_is_about) {
  EXPECT_FALSE(edits_body(Quirks{}));
  Quirks codec_only;
  codec_only.developer_role = codec_only.nine_char_ids = true;
  EXPECT_FALSE(edits_body(codec_only));
}

TEST(BodyEdits, do_not_write_a_member_twice) {
  Quirks quirks;
  quirks.max_tokens = true;
  EXPECT_EQ(edited_body(R"({"max_completion_tokens":1,"a":{},"max_tokens":2})", quirks),
            R"({"a":{},"max_tokens":2})");
}

TEST(BodyEdits, leave_numbers_they_do_not_understand_to_the_server) {
  Quirks quirks;
  quirks.token_floor = true;
  for (const auto* value : {"1e2", "null", "\"5\"", "99999999999999999999", "5.5"}) {
    const auto body = std::string(R"({"max_tokens":)") + value + "}";
    EXPECT_EQ(edited_body(body, quirks), body);
  }
}

TEST(BodyEdits, keep_messages_of_odd_shapes) {
  Quirks quirks;
  quirks.system_role = quirks.reasoning_everywhere = true;
  for (const auto* messages : {"[]", "null", "7", "[1,\"a\",null,[]]", "{}"}) {
    const auto body = std::string(R"({"messages":)") + messages + "}";
    EXPECT_EQ(edited_body(body, quirks), body);
  }
}

}  // namespace
}  // namespace llm_proxy
