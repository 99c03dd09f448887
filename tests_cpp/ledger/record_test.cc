#include "ledger/record.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

ExchangeRecord example() {
  ExchangeRecord record;
  record.began =
      std::chrono::system_clock::time_point(std::chrono::milliseconds(1'795'228'261'007));
  record.client = "127.0.0.1";
  record.method = "POST";
  record.path = "/v1/messages";
  record.status = 200;
  record.frontend = WireFormat::anthropic_messages;
  record.upstream = WireFormat::openai_chat;
  record.model = "claude-sonnet-4-5";
  record.upstream_model = "gpt-4.1";
  record.backend = "openai";
  record.attempts = 2;
  record.stream = true;
  record.usage.input = 12;
  record.usage.output = 34;
  record.duration = std::chrono::microseconds(1'234'567);
  record.request_id = "0123456789abcdef";
  return record;
}

TEST(AccessLine, says_who_asked_what_and_who_answered) {
  std::string line;
  append_access_line(example(), line);
  EXPECT_EQ(line,
            "2026-11-21T02:31:01.007Z 127.0.0.1 POST /v1/messages status=200 "
            "model=claude-sonnet-4-5 backend=openai "
            "upstream_model=gpt-4.1 format=anthropic-messages>openai-chat attempts=2 stream=1 "
            "in=12 out=34 bytes_in=0 "
            "bytes_out=0 seconds=1.234 id=0123456789abcdef");
}

TEST(AccessLine, cannot_be_broken_or_forged_by_what_a_client_sends) {
  auto record = example();
  record.model = "x\nstatus=200 \"y\"\x1b[0m";
  std::string line;
  append_access_line(record, line);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
  EXPECT_NE(line.find(R"(model="x\x0astatus=200 \"y\"\x1b[0m")"), std::string::npos) << line;
}

}  // namespace
}  // namespace llm_proxy
