#include "http/sse_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "http/sse_writer.h"

namespace llm_proxy {
namespace {

using Events = std::vector<std::pair<std::string, std::string>>;

constexpr std::size_t kLimit = 64;

// The events of `pieces`; an error ends them with {"!", ""}.
Events events_of(const std::vector<std::string_view>& pieces) {
  SseReader reader(kLimit);
  Events events;
  SseEvent event;
  for (const std::string_view piece : pieces) {
    // A copy that is overwritten afterwards: nothing may be kept in the input.
    std::string storage(piece);
    std::string_view input = storage;
    for (;;) {
      const auto got = reader.next(input, event);
      if (!got) {
        events.emplace_back("!", "");
        return events;
      }
      if (!*got) break;
      events.emplace_back(event.event, event.data);
    }
    EXPECT_TRUE(input.empty());
    storage.assign(storage.size(), '#');
  }
  const auto got = reader.finish(event);
  if (!got) events.emplace_back("!", "");
  if (got && *got) events.emplace_back(event.event, event.data);
  return events;
}

struct Stream {
  const char* what;
  std::string bytes;
  Events events;
};

const std::vector<Stream>& streams() {
  static const std::vector<Stream> all{
      {"LF", "data: a\n\ndata: b\n\n", {{"", "a"}, {"", "b"}}},
      {"CRLF", "data: a\r\n\r\ndata: b\r\n\r\n", {{"", "a"}, {"", "b"}}},
      {"CR", "data: a\r\rdata: b\r\r", {{"", "a"}, {"", "b"}}},
      {"mixed ends", "data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", {{"", "a"}, {"", "b"}, {"", "c"}}},
      {"named", "event: ping\ndata: {}\n\n", {{"ping", "{}"}}},
      {"name after data", "data: {}\nevent: late\n\ndata: x\n\n", {{"late", "{}"}, {"", "x"}}},
      {"name twice", "event: a\nevent: b\ndata: x\n\n", {{"b", "x"}}},
      {"name without data", "event: ping\n\ndata: x\n\n", {{"", "x"}}},
      {"many lines", "data: a\ndata: b\ndata:\ndata: c\n\n", {{"", "a\nb\n\nc"}}},
      {"empty data", "data:\n\ndata\n\n", {{"", ""}, {"", ""}}},
      {"one space is dropped", "data:  a\n\ndata:b\n\n", {{"", " a"}, {"", "b"}}},
      {"comments", ": ping\n\n:\ndata: a\n: in between\ndata: b\n\n", {{"", "a\nb"}}},
      {"other fields", "id: 1\nretry: 5\nnonsense\ndata: a\ndatax: b\n\n", {{"", "a"}}},
      {"BOM",
       "\xEF\xBB\xBF"
       "data: a\n\n",
       {{"", "a"}}},
      {"half a BOM",
       "\xEF\xBB"
       "data: a\n\ndata: b\n\n",
       {{"", "b"}}},
      {"BOM later",
       "data: a\n\n\xEF\xBB\xBF"
       "data: b\n\n",
       {{"", "a"}}},
      {"no blank line at the end", "data: a\n\ndata: b\n", {{"", "a"}, {"", "b"}}},
      {"no line end at the end", "data: a\n\ndata: b", {{"", "a"}, {"", "b"}}},
      {"CR at the end", "data: a\r", {{"", "a"}}},
      {"blank lines", "\n\n\r\n\r\rdata: a\n\n\n\n", {{"", "a"}}},
      {"nothing", "", {}},
      {"too much in a line",
       "data: ok\n\ndata: " + std::string(kLimit, 'x') + "\n\n",
       {{"", "ok"}, {"!", ""}}},
      {"too much in lines",
       "data: 0123456789012345678901234567\ndata: 01234567890123456789012345678901234\n\n",
       {{"!", ""}}},
      {"just enough",
       "data: " + std::string(kLimit - 6, 'x') + "\n\ndata: y\n\n",
       {{"", std::string(kLimit - 6, 'x')}, {"", "y"}}},
      {"UTF-8", "data: \xE2\x82\xAC\xF0\x9F\x98\x80\n\n", {{"", "\xE2\x82\xAC\xF0\x9F\x98\x80"}}},
  };
  return all;
}

TEST(SseReader, finds_the_events_of_every_dialect) {
  for (const Stream& stream : streams())
    EXPECT_EQ(events_of({stream.bytes}), stream.events) << stream.what;
}

TEST(SseReader, gives_the_same_events_for_every_pair_of_cuts) {
  for (const Stream& stream : streams()) {
    const std::string_view whole = stream.bytes;
    for (std::size_t first = 0; first <= whole.size(); ++first) {
      for (std::size_t second = first; second <= whole.size(); ++second) {
        ASSERT_EQ(events_of({whole.substr(0, first), whole.substr(first, second - first),
                             whole.substr(second)}),
                  stream.events)
            << stream.what << " cut at " << first << " and " << second;
      }
    }
  }
}

TEST(SseReader, gives_the_same_events_byte_by_byte) {
  for (const Stream& stream : streams()) {
    std::vector<std::string_view> bytes;
    for (std::size_t i = 0; i < stream.bytes.size(); ++i)
      bytes.push_back(std::string_view(stream.bytes).substr(i, 1));
    EXPECT_EQ(events_of(bytes), stream.events) << stream.what;
  }
}

TEST(SseReader, copies_nothing_of_an_event_that_lies_whole_in_the_input) {
  const std::string text = "event: e\ndata: abc\n\n";
  std::string_view input = text;
  SseReader reader;
  SseEvent event;
  ASSERT_TRUE(*reader.next(input, event));
  EXPECT_EQ(event.data.data(), text.data() + text.find("abc"));
  EXPECT_EQ(event.event.data(), text.data() + 7);
}

// How many bytes of `piece`, again and again, a reader of `limit` bytes takes before it fails.
std::size_t taken_of_endless(std::string_view piece, std::size_t limit) {
  SseReader reader(limit);
  std::size_t taken = 0;
  SseEvent event;
  while (taken <= 4 * limit) {
    std::string_view input = piece;
    const auto got = reader.next(input, event);
    taken += piece.size() - input.size();
    if (!got) {
      EXPECT_EQ(got.error().kind, ErrorKind::upstream_too_large);
      break;
    }
    EXPECT_FALSE(*got) << piece;
  }
  return taken;
}

TEST(SseReader, fails_whatever_comes_without_end_instead_of_an_event) {
  constexpr std::size_t kLimit = 10'000;
  for (const std::string_view piece :
       {": comment\n", ": comment\n\n", "id: 1\n", "id: 1\n\n", "retry: 1\n\n", "event: e\n",
        "event: e\n\n", "data: x\n", "data\n", "unknown: x\n", "\n", "\r", "\r\n", "x", ":",
        "data: x"}) {
    EXPECT_LE(taken_of_endless(piece, kLimit), 3 * kLimit) << piece;
  }
}

TEST(SseReader, begins_to_count_anew_with_each_event) {
  SseReader reader(100);
  SseEvent event;
  for (int i = 0; i < 1000; ++i) {
    std::string_view input = ": some comment or other\n\nid: 1\ndata: x\n\n";
    ASSERT_TRUE(*reader.next(input, event));
    ASSERT_FALSE(*reader.next(input, event));
  }
}

TEST(SseReader, tells_whether_an_event_has_begun) {
  SseReader reader;
  SseEvent event;
  const auto after = [&](std::string_view input) {
    while (*reader.next(input, event)) {
    }
    return reader.between_events();
  };
  EXPECT_TRUE(reader.between_events());
  EXPECT_TRUE(after(": comment\n\n"));
  EXPECT_FALSE(after("id: 1"));
  EXPECT_FALSE(after("\n"));
  EXPECT_TRUE(after("\n"));
  EXPECT_FALSE(after("data: x\n"));
  EXPECT_TRUE(after("\n"));
}

TEST(SseWriter, writes_what_the_reader_reads) {
  std::string text;
  append_sse_event(text, "delta", "{\"a\":1}");
  append_sse_event(text, "", "two\nlines\r\nand\rmore\n");
  append_sse_comment(text, "keep-alive");
  append_sse_event(text, "", "");
  EXPECT_EQ(events_of({text}),
            (Events{{"delta", "{\"a\":1}"}, {"", "two\nlines\nand\nmore\n"}, {"", ""}}));
}

TEST(SseWriter, lets_no_name_start_a_line) {
  std::string text;
  append_sse_event(text, "a\ndata: forged", "x");
  append_sse_comment(text, "c\ndata: forged\n\n");
  EXPECT_EQ(events_of({text}), (Events{{"a", "x"}}));
}

}  // namespace
}  // namespace llm_proxy
