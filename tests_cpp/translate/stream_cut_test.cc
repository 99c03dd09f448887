#include <gtest/gtest.h>

#include "http/sse_reader.h"
#include "support.h"

namespace llm_proxy {
namespace {

constexpr std::string_view kChatStream =
    ": OPENROUTER PROCESSING\r\n\r\n"
    "data: "
    "{\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
    "\"content\":\"zażó\\u0142ć 👩‍👩‍👧\"},\"finish_reason\":null}]}\n\n"
    "data: "
    "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":"
    "{\"name\":\"f\",\"arguments\":\"{\\\"ü\\\":\"}}]},\"finish_reason\":null}]}\r\n\r\n"
    "data: "
    "{\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{"
    "\"arguments\":\"1}\"}}]},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":1,"
    "\"completion_tokens\":2}}\n\n"
    "data: [DONE]\n\n";

constexpr std::string_view kMessagesStream =
    "event: message_start\ndata: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"content\":[],"
    "\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}  }\n\n"
    "event: content_block_start\ndata: "
    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":"
    "\"\"}}\n\n"
    "event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"index\":0,\r\ndata: "
    "\"delta\":{\"type\":\"text_delta\",\"text\":\"漢字 \\ud83d\\ude00\"}}\r\n\r\n"
    "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
    "event: message_delta\ndata: "
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_"
    "tokens\":9}}\n\n"
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

// `text` in the given pieces, through the reader of events and both codecs.
std::string translated(WireFormat from, WireFormat to,
                       const std::vector<std::string_view>& pieces) {
  Request request;
  request.include_usage = true;
  Translation translation;
  auto decoder = codec(from).reply_decoder(translation);
  auto encoder = codec(to).stream_encoder({&request, &translation, 7, "seed"});
  SseReader reader;
  SseEvent event;
  for (const std::string_view piece : pieces) {
    // Memory of its own: what a codec keeps beyond its call shows.
    std::vector<char> bytes(piece.begin(), piece.end());
    std::string_view input(bytes.data(), bytes.size());
    for (;;) {
      Result<bool> got = reader.next(input, event);
      if (!got || !*got) break;
      if (!decoder->on_stream_event(event.event, event.data, *encoder)) return "failed";
    }
  }
  if (Result<bool> got = reader.finish(event); got && *got) {
    if (!decoder->on_stream_event(event.event, event.data, *encoder)) return "failed";
  }
  if (!decoder->on_stream_end(*encoder)) return "failed";
  return encoder->out();
}

TEST(StreamCut, every_cut_gives_the_same_output) {
  const std::vector<std::pair<WireFormat, std::string_view>> sources{
      {WireFormat::openai_chat, kChatStream}, {WireFormat::anthropic_messages, kMessagesStream}};
  for (const auto& [from, text] : sources) {
    for (int format = 0; format < kWireFormatCount; ++format) {
      const auto to = static_cast<WireFormat>(format);
      const std::string whole = translated(from, to, {text});
      ASSERT_NE(whole, "failed");
      for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        EXPECT_EQ(translated(from, to, {text.substr(0, cut), text.substr(cut)}), whole)
            << name(to) << " cut at " << cut;
      }
      std::vector<std::string_view> bytes;
      for (std::size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
      EXPECT_EQ(translated(from, to, bytes), whole);
    }
  }
}

}  // namespace
}  // namespace llm_proxy
