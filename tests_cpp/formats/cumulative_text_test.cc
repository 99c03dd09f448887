#include "formats/cumulative_text.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace llm_proxy {
namespace {

// What is passed on of these chunks of one kind, "|" between them.
std::string passed(PartKind kind, const std::vector<std::string>& chunks) {
  class Sink final : public EventSink {
   public:
    void on_event(const Event& event) override {
      if (const auto* delta = std::get_if<PartDelta>(&event)) said += delta->text.decode() + "|";
    }
    std::string said;
  } sink;
  CumulativeText filter(sink);
  PartStart start;
  start.kind = kind;
  filter.on_event(start);
  for (const auto& chunk : chunks) filter.on_event(PartDelta{0, Text::plain(chunk)});
  filter.on_event(PartEnd{0});
  return sink.said;
}

TEST(CumulativeText, passes_on_only_what_is_new) {
  for (const auto& [chunks, want] :
       std::initializer_list<std::pair<std::vector<std::string>, std::string>>{
           {{"H", "Hel", "Hello", "Hello", "Hello."}, "H|el|lo|.|"},
           {{"\n", "\nHel", "\nHello"}, "\n|\nHel|lo|"},
           {{"Hel", "lo", "Hello"}, "Hel|lo|Hello|"},  // pieces, whatever comes later
           {{"ha", "ha", "haha"}, "ha|ha|haha|"},      // likewise
           {{"caf\xc3\xa9", "caf\xc3\xa9 \xe2\x98\x95"}, "caf\xc3\xa9| \xe2\x98\x95|"},
           {{"one"}, "one|"},
           {{}, ""}}) {
    EXPECT_EQ(passed(PartKind::text, chunks), want);
  }
}

TEST(CumulativeText, leaves_out_blanks_in_front_of_thinking_alone) {
  EXPECT_EQ(passed(PartKind::thinking, {" ", "\n", "Well", ", ", "\n", "yes"}), "Well|, |\n|yes|");
  EXPECT_EQ(passed(PartKind::thinking, {" ", " Well", " Well, yes"}), " Well|, yes|");
  EXPECT_EQ(passed(PartKind::thinking, {" "}), "");
  EXPECT_EQ(passed(PartKind::text, {" ", "Well"}), " |Well|");
}

TEST(CumulativeText, leaves_arguments_of_calls_alone) {
  EXPECT_EQ(passed(PartKind::tool_call, {"{", "{\"a\":", "{\"a\":1}"}), "{|{\"a\":|{\"a\":1}|");
}

}  // namespace
}  // namespace llm_proxy
