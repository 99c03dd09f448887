#include "routing/selector.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

// A selector as it was understood: "failover a b{temperature=0.2}[weight=2]".
std::string understood(std::string_view text) {
  const auto parsed = parse_selector(text);
  if (!parsed) return parsed.error().code + " " + parsed.error().message;
  static constexpr std::string_view kWords[] = {"single", "failover", "weighted", "race"};
  std::string out(kWords[static_cast<std::size_t>(parsed->how)]);
  for (const auto& leg : parsed->legs) {
    out.append(" ").append(leg.target);
    if (!leg.params.empty()) out += "{" + describe(leg.params) + "}";
    if (leg.weight != 1) out += "[weight=" + std::to_string(leg.weight) + "]";
    if (leg.first) out += "[first]";
    if (leg.max_context != 0) out += "[max_context=" + std::to_string(leg.max_context) + "]";
    if (leg.handicap.count() != 0) out += "[handicap=" + std::to_string(leg.handicap.count()) + "]";
    if (leg.ttft_timeout.count() != 0) {
      out += "[ttft=" + std::to_string(leg.ttft_timeout.count()) + "]";
    }
  }
  for (const auto& name : parsed->ignored) out += " ignored:" + name;
  return out;
}

TEST(Selector, reads_every_form_of_the_grammar) {
  for (const auto& [text, want] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"gpt-4.1", "single gpt-4.1"},
           {"openai:gpt-4.1", "single openai:gpt-4.1"},
           {"openai.2:gpt-4.1", "single openai.2:gpt-4.1"},
           {"openrouter:qwen/qwen3:free", "single openrouter:qwen/qwen3:free"},
           {"qwen/qwen3:free?temperature=0.2", "single qwen/qwen3:free{temperature=0.2}"},
           {"a:m?top_p=0.5&top_k=40", "single a:m{top_p=0.5, top_k=40}"},
           {"m?reasoning_effort=x%68igh&verbosity=low",
            "single m{reasoning_effort=xhigh, verbosity=low}"},
           {"m?reasoning-effort=none", "single m{reasoning_effort=none}"},
           {"m?temperature=1&temperature=2", "single m{temperature=2}"},
           {"m?temperature=0&colour=red", "single m{temperature=0} ignored:colour"},
           {"m?", "single m"},
           {"a:x|b:y|z", "failover a:x b:y z"},
           {"a:x?temperature=0|b:y?top_p=1", "failover a:x{temperature=0} b:y{top_p=1}"},
           {"[weight=3]a:x^b:y", "weighted a:x[weight=3] b:y"},
           {"[weight=3,first]a:x^[weight=2]b:y", "weighted a:x[weight=3][first] b:y[weight=2]"},
           {"[weight=3][first=no]a^b", "weighted a[weight=3] b"},
           {"[max_context=8000]a|b", "failover a[max_context=8000] b"},
           {"[handicap=1.5]a![ttft_timeout=20]b!c", "race a[handicap=1500] b[ttft=20000] c"},
           {"[ttft_timeout=5]a", "single a[ttft=5000]"},
           {"m?temperature=0%7C",
            "INVALID_LEAF model, character 3: temperature must be a number "
            "from 0 to 2, not '0|'"},
       }) {
    EXPECT_EQ(understood(text), want) << text;
  }
}

TEST(Selector, names_the_place_and_what_would_be_valid) {
  for (const auto& [text, want] : std::initializer_list<std::pair<std::string_view, std::string>>{
           {"",
            "INVALID_LEAF model, character 1: a model is missing; write model, backend:model "
            "or backend.instance:model"},
           {"a:x|",
            "INVALID_LEAF model, character 5: a model is missing; write model, "
            "backend:model or backend.instance:model"},
           {"openai:",
            "INVALID_LEAF model, character 8: a model is missing; write model, "
            "backend:model or backend.instance:model"},
           {"{affinity=moon}a",
            "SYNTAX_ERROR model, character 1: '{' begins {affinity=session} or {affinity=client}"},
           {"{affinity=session",
            "SYNTAX_ERROR model, character 1: '{' begins {affinity=session} or {affinity=client}"},
           {"a|{affinity=session}b",
            "INVALID_LEAF model, character 3: a model holds no blanks and no brackets"},
           {"a || b", "INVALID_LEAF model, character 2: a model holds no blanks and no brackets"},
           {"a|b^c",
            "UNSUPPORTED_CONSTRUCT model, character 4: '^' cannot be mixed with '|': use "
            "one of |, ^ and ! throughout"},
           {"[weight=0]a^b",
            "INVALID_WEIGHT model, character 2: weight must be a whole number of "
            "at least 1, not '0'"},
           {"[weight=2]a|b",
            "INVALID_WEIGHT model, character 2: [weight] means something between '^' only"},
           {"a|[max_context=-1]b",
            "INVALID_MAX_CONTEXT model, character 4: max_context must be a "
            "whole number of tokens, not '-1'"},
           {"[handicap=soon]a!b",
            "INVALID_HANDICAP model, character 2: handicap must be a number "
            "of seconds from 0 to 3600, not 'soon'"},
           {"a![ttft_timeout=1e3]b",
            "INVALID_TTFT_TIMEOUT model, character 4: ttft_timeout must "
            "be a number of seconds from 0 to 3600, not '1e3'"},
           {"[first]a^[first]b", "SYNTAX_ERROR model, character 1: at most one leg can be [first]"},
           {"[weigth=2]a^b",
            "SYNTAX_ERROR model, character 2: no annotation is called 'weigth'; "
            "there are: weight, first, max_context, handicap, ttft_timeout"},
           {"[weight=2 a", "SYNTAX_ERROR model, character 1: '[' is not closed"},
           {"[weight=2] a^b",
            "INVALID_LEAF model, character 11: a model holds no blanks and no brackets"},
           {"[thinker]a^b",
            "UNSUPPORTED_CONSTRUCT model, character 2: [thinker] is not supported; "
            "there are: weight, first, max_context, handicap, ttft_timeout"},
           {"m?temperature",
            "SYNTAX_ERROR model, character 3: a parameter is written name=value, "
            "not 'temperature'"},
           {"m?temperature=hot",
            "INVALID_LEAF model, character 3: temperature must be a number "
            "from 0 to 2, not 'hot'"},
           {"m?top_p=1&reasoning_effort=huge",
            "INVALID_LEAF model, character 11: reasoning_effort must be none, low, medium, high, "
            "xhigh or max, not 'huge'"},
           {"m?verbosity=%zz",
            "SYNTAX_ERROR model, character 13: '%' must be followed by two hexadecimal digits"},
       }) {
    EXPECT_EQ(understood(text), want) << text;
  }
}

TEST(Selector, is_bounded) {
  EXPECT_EQ(understood(std::string(2049, 'a')),
            "SYNTAX_ERROR model, character 2049: a model may have at most 2048 characters");
  std::string legs = "m";
  for (int i = 1; i < 16; ++i) legs += "|m";
  EXPECT_EQ(understood(legs).substr(0, 8), "failover");
  EXPECT_EQ(understood(legs + "|m"),
            "UNSUPPORTED_CONSTRUCT model, character 33: a selector may have at most 16 legs");
}

TEST(Selector, survives_any_bytes) {
  std::uint32_t random = 1;
  constexpr std::string_view kBytes = "[]|^!?&=%:/.,a1 weightfirst";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = 0; i < round % 24; ++i) {
      random = random * 1664525u + 1013904223u;
      text += kBytes[(random >> 8) % kBytes.size()];
    }
    const auto parsed = parse_selector(text);
    if (!parsed) {
      EXPECT_FALSE(parsed.error().message.empty());
    } else {
      EXPECT_FALSE(parsed->legs.empty()) << text;
    }
  }
}

}  // namespace
}  // namespace llm_proxy
