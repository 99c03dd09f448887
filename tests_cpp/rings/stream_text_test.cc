#include "rings/stream_text.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace llm_proxy {
namespace {

const Placeholders kValues{{"[PII_EMAIL_1a2b3c4d]", "ann@example.org"}, {"[Q]", "say \"x\"\n"}};

std::string restored(std::string_view text, std::size_t every, bool in_json = false) {
  PlaceholderRestorer restorer(kValues);
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += every) {
    restorer.add(text.substr(at, every), in_json, out);
  }
  restorer.finish(out);
  return out;
}

TEST(PlaceholderRestorer, puts_back_the_same_for_every_cut) {
  constexpr std::string_view kText =
      "to [PII_EMAIL_1a2b3c4d], [[PII_EMAIL_1a2b3c4d]] [PII_EMAIL_00000000] [PII_EMAIL_1a[Q] [";
  constexpr std::string_view kWanted =
      "to ann@example.org, [ann@example.org] [PII_EMAIL_00000000] [PII_EMAIL_1asay \"x\"\n [";
  for (std::size_t every = 1; every <= kText.size(); ++every) {
    EXPECT_EQ(restored(kText, every), kWanted) << every;
  }
}

TEST(PlaceholderRestorer, holds_back_only_what_may_become_a_placeholder) {
  PlaceholderRestorer restorer(kValues);
  std::string out;
  restorer.add("see [link", false, out);
  EXPECT_EQ(out, "see [link");
  restorer.add("](x) [PII_EM", false, out);
  EXPECT_EQ(out, "see [link](x) ");
  restorer.add("PHASIS", false, out);
  EXPECT_EQ(out, "see [link](x) [PII_EMPHASIS");
}

TEST(PlaceholderRestorer, writes_values_into_json_as_json) {
  EXPECT_EQ(restored("{\"a\":\"[Q]\"}", 3, true), "{\"a\":\"say \\\"x\\\"\\n\"}");
}

LoopDetector::Found found(std::string_view text, std::size_t every) {
  LoopDetector detector;
  auto out = LoopDetector::Found::nothing;
  for (std::size_t at = 0; at < text.size(); at += every) {
    out = detector.add(text.substr(at, every));
  }
  return out;
}

TEST(LoopDetector, finds_the_same_for_every_cut) {
  using Found = LoopDetector::Found;
  std::string sixteen, fifteen, huge;
  for (int i = 0; i < 16; ++i) sixteen += "word ";
  for (int i = 0; i < 15; ++i) fifteen += "word ";
  for (int i = 0; i < 40; ++i) huge += std::string(300, 'x') + " ";
  struct Case {
    std::string text;
    Found wanted;
  };
  for (const Case& c :
       {Case{sixteen, Found::loop}, Case{fifteen + "other word ", Found::nothing},
        Case{std::string(60, ' '), Found::nothing}, Case{huge, Found::nothing},
        Case{std::string(30, '\n'), Found::stutter}, Case{std::string(29, '\n'), Found::nothing},
        Case{std::string(19, '\n') + "a" + std::string(19, '\n'), Found::nothing}}) {
    for (const std::size_t every : {1u, 2u, 7u, 1000u}) {
      EXPECT_EQ(found(c.text, every), c.wanted) << c.text.substr(0, 20) << " by " << every;
    }
  }
}

}  // namespace
}  // namespace llm_proxy
