#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>

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
  auto decoder = format_of(from).reply_decoder(translation);
  auto encoder = format_of(to).stream_encoder({&request, &translation, 7, "seed"});
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

// Messages and Gemini have no other place for a refusal than the text of the answer.
TEST(StreamCut, half_a_refusal_is_not_told_as_half_an_answer) {
  constexpr std::string_view kStart =
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Well.\"}}]}"
      "\n\n"
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"I'm sorry, I \"}}]}\n\n";
  constexpr std::string_view kRest =
      "data: {\"choices\":[{\"index\":0,\"delta\":{\"refusal\":\"can't.\"}}]}\n\n";
  constexpr std::string_view kEnd =
      "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
      "data: [DONE]\n\n";
  struct Way {
    WireFormat to;
    std::string_view text;  // how the format tells a piece of text
  };
  for (const Way& way : {Way{WireFormat::anthropic_messages, R"({"type":"text_delta","text":"@"})"},
                         Way{WireFormat::gemini_generate, R"("parts":[{"text":"@"}])"}}) {
    const auto told = [&](std::string_view text) {
      std::string piece(way.text);
      return piece.replace(piece.find('@'), 1, text);
    };
    Request request;
    Translation translation;
    auto decoder = format_of(WireFormat::openai_chat).reply_decoder(translation);
    auto encoder = format_of(way.to).stream_encoder({&request, &translation, 7, "seed"});
    const auto feed = [&](std::string_view text) {
      for (const test::Frame& frame : test::frames_of(text)) {
        EXPECT_TRUE(decoder->on_stream_event(frame.event, frame.data, *encoder));
      }
    };
    feed(kStart);
    feed(kRest);
    EXPECT_NE(encoder->out().find(told("Well.")), std::string::npos);
    EXPECT_EQ(encoder->out().find("sorry"), std::string::npos) << encoder->out();
    // Broken off here, it stays unsaid.
    encoder->on_event(Error{ErrorKind::upstream_cut, "The stream broke."});
    EXPECT_EQ(encoder->out().find("sorry"), std::string::npos) << encoder->out();

    auto again = format_of(way.to).stream_encoder({&request, &translation, 7, "seed"});
    auto fresh = format_of(WireFormat::openai_chat).reply_decoder(translation);
    for (const std::string_view text : {kStart, kRest, kEnd}) {
      for (const test::Frame& frame : test::frames_of(text)) {
        EXPECT_TRUE(fresh->on_stream_event(frame.event, frame.data, *again));
      }
    }
    EXPECT_TRUE(fresh->on_stream_end(*again));
    const std::size_t answer = again->out().find(told("Well."));
    const std::size_t refusal = again->out().find(told("I'm sorry, I can't."));
    EXPECT_LT(answer, refusal);
    EXPECT_NE(refusal, std::string::npos) << again->out();
  }
}

// The events of `text` in the given pieces, as the reader gives them.
std::string events(const std::vector<std::string_view>& pieces) {
  std::string out;
  SseReader reader;
  SseEvent event;
  const auto add = [&] {
    out.append(event.event).append(1, '\0').append(event.data).append(1, '\0');
  };
  for (std::string_view input : pieces) {
    for (;;) {
      Result<bool> got = reader.next(input, event);
      if (!got || !*got) break;
      add();
    }
  }
  if (Result<bool> got = reader.finish(event); got && *got) add();
  return out;
}

std::vector<std::string_view> cut_at(std::string_view text, std::vector<std::size_t> places) {
  std::sort(places.begin(), places.end());
  std::vector<std::string_view> pieces;
  std::size_t from = 0;
  for (const std::size_t place : places) {
    pieces.push_back(text.substr(from, place - from));
    from = place;
  }
  pieces.push_back(text.substr(from));
  return pieces;
}

// The same stream as other servers would write it.
struct Spelling {
  const char* what;
  std::string (*write)(const std::vector<test::Frame>& frames);
};

std::string written(const std::vector<test::Frame>& frames, std::string_view end,
                    std::string_view before = {}, bool split = false) {
  std::string out;
  for (const test::Frame& frame : frames) {
    out += before;
    if (!frame.event.empty()) out.append("event: ").append(frame.event).append(end);
    out += "data: ";
    bool quoted = false, escaped = false, done = !split;
    for (const char c : frame.data) {
      out += c;
      if (escaped) {
        escaped = false;
        continue;
      }
      escaped = quoted && c == '\\';
      if (c == '"') quoted = !quoted;
      if (done || quoted || c != ',') continue;
      out.append(end).append("data: ");  // a line end between two members is white space
      done = true;
    }
    out.append(end).append(end);
  }
  return out;
}

constexpr std::array kSpellings{
    Spelling{"line feeds", [](const auto& frames) { return written(frames, "\n"); }},
    Spelling{"CRLF", [](const auto& frames) { return written(frames, "\r\n"); }},
    Spelling{"carriage returns", [](const auto& frames) { return written(frames, "\r"); }},
    Spelling{"comments and a retry time",
             [](const auto& frames) { return written(frames, "\n", ": wait\n\nretry: 9\n"); }},
    Spelling{"data in two lines",
             [](const auto& frames) { return written(frames, "\n", {}, true); }},
    Spelling{"a byte order mark",
             [](const auto& frames) { return "\xEF\xBB\xBF" + written(frames, "\n"); }},
    Spelling{"no last blank line",
             [](const auto& frames) {
               std::string text = written(frames, "\n");
               text.resize(text.empty() ? 0 : text.size() - 2);
               return text;
             }},
};

// LLM_PROXY_EVERY_BYTE cuts every recorded stream at every byte (minutes); without it long ones are
// cut at some places, and all are fed byte by byte.
class EveryStream : public testing::TestWithParam<WireFormat> {
 protected:
  static std::vector<test::Record> streams() {
    std::vector<test::Record> records = test::corpus(std::string(name(GetParam())));
    std::erase_if(records, [](const test::Record& record) {
      return !record.is_stream() || record.status() >= 400;
    });
    EXPECT_TRUE(!records.empty() || !test::in_ci()) << "CI needs the corpus";
    return records;
  }
};

TEST_P(EveryStream, comes_out_the_same_however_it_is_cut) {
  constexpr std::size_t kBytesAStream = 300'000;  // that go through the codecs in CI
  constexpr std::size_t kLong = 24'000;           // longer ones: every cut through the reader alone
  const bool every = std::getenv("LLM_PROXY_EVERY_BYTE") != nullptr;
  std::mt19937 random(7);
  std::size_t cuts = 0, wrong = 0;
  for (const test::Record& record : streams()) {
    const std::string text = record.response();
    std::array<std::string, kWireFormatCount> whole;
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < text.size(); ++i) bytes.emplace_back(&text[i], 1);
    for (int format = 0; format < kWireFormatCount; ++format) {
      const auto to = static_cast<WireFormat>(format);
      whole[format] = translated(GetParam(), to, {text});
      EXPECT_EQ(translated(GetParam(), to, bytes), whole[format]) << record.id << name(to);
    }
    const std::string said = events({text});
    const std::size_t step =
        every ? 1 : std::max<std::size_t>(1, text.size() * text.size() / kBytesAStream);
    int format = 0;
    const auto same = [&](const std::vector<std::string_view>& pieces) {
      ++cuts;
      if (every && text.size() > kLong) return events(pieces) == said;
      format = (format + 1) % kWireFormatCount;
      return translated(GetParam(), static_cast<WireFormat>(format), pieces) == whole[format];
    };
    for (std::size_t place = random() % step; place <= text.size(); place += step) {
      if (!same(cut_at(text, {place})) && ++wrong < 10) {
        ADD_FAILURE() << record.id << " cut at " << place;
      }
    }
    for (int triple = 0; triple < (every ? 100 : 4); ++triple) {
      const std::vector<std::size_t> places{
          random() % (text.size() + 1), random() % (text.size() + 1), random() % (text.size() + 1)};
      if (!same(cut_at(text, places)) && ++wrong < 10) {
        ADD_FAILURE() << record.id << " cut at " << testing::PrintToString(places);
      }
    }
  }
  EXPECT_EQ(wrong, 0u);
  std::cout << cuts << " cuts of " << name(GetParam()) << "\n";
}

TEST_P(EveryStream, comes_out_the_same_however_it_is_spelt) {
  for (const test::Record& record : streams()) {
    const std::vector<test::Frame> frames = test::frames_of(record.response());
    for (int format = 0; format < kWireFormatCount; ++format) {
      const auto to = static_cast<WireFormat>(format);
      const std::string whole = translated(GetParam(), to, {record.response()});
      for (const Spelling& spelling : kSpellings) {
        EXPECT_EQ(translated(GetParam(), to, {spelling.write(frames)}), whole)
            << record.id << " with " << spelling.what << " to " << name(to);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Corpus, EveryStream,
                         testing::Values(WireFormat::openai_chat, WireFormat::openai_responses,
                                         WireFormat::anthropic_messages,
                                         WireFormat::gemini_generate),
                         [](const auto& each) {
                           std::string label(name(each.param));
                           std::replace(label.begin(), label.end(), '-', '_');
                           return label;
                         });

}  // namespace
}  // namespace llm_proxy
