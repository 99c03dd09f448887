#include "routing/failure_table.h"

#include <gtest/gtest.h>

namespace llm_proxy {
namespace {

using std::chrono::seconds;

Error said(int status, std::string message = "no", std::string code = {}) {
  Error error{kind_of_status(status), std::move(message), status};
  error.code = std::move(code);
  return error;
}

TEST(FailureTable, says_whose_fault_it_is_and_what_comes_next) {
  struct Case {
    Error error;
    FaultScope scope;
    NextStep step;
    seconds cool_down;
  };
  const Case cases[] = {
      {said(400), FaultScope::nobody, NextStep::surface, seconds(0)},
      {said(400, "content filtering policy", "content_policy_violation"), FaultScope::nobody,
       NextStep::surface, seconds(0)},
      {said(401), FaultScope::key, NextStep::another_key, seconds(300)},
      {said(402), FaultScope::key, NextStep::another_key, seconds(300)},
      {said(403), FaultScope::key, NextStep::another_key, seconds(300)},
      {said(404), FaultScope::nobody, NextStep::next_leg, seconds(0)},
      {said(413), FaultScope::nobody, NextStep::surface, seconds(0)},
      {said(422), FaultScope::nobody, NextStep::surface, seconds(0)},
      {said(429), FaultScope::key, NextStep::another_key, seconds(60)},
      {said(429, "no money", "insufficient_quota"), FaultScope::key, NextStep::another_key,
       seconds(300)},
      {said(500), FaultScope::instance, NextStep::retry, seconds(0)},
      {said(502), FaultScope::instance, NextStep::retry, seconds(0)},
      {said(503), FaultScope::instance, NextStep::retry, seconds(0)},
      {said(504), FaultScope::instance, NextStep::next_leg, seconds(0)},
      {said(529), FaultScope::instance, NextStep::retry, seconds(0)},
      {Error{ErrorKind::upstream_cut, ""}, FaultScope::instance, NextStep::retry, seconds(0)},
      {Error{ErrorKind::upstream_unreachable, ""}, FaultScope::instance, NextStep::retry,
       seconds(0)},
  };
  for (const auto& [error, scope, step, cool_down] : cases) {
    const auto rule = rule_of(error);
    EXPECT_EQ(rule.scope, scope) << error.status << name(error.kind);
    EXPECT_EQ(rule.step, step) << error.status << name(error.kind);
    EXPECT_EQ(rule.cool_down, cool_down) << error.status << name(error.kind);
  }
}

TEST(FailureTable, asks_nobody_else_for_a_plugins_own_mistake) {
  Error error{ErrorKind::internal, "the backend has failed"};
  EXPECT_EQ(rule_of(error).step, NextStep::retry);
  error.code = kBackendBug;
  EXPECT_EQ(rule_of(error).step, NextStep::surface);
  EXPECT_EQ(rule_of(error).scope, FaultScope::nobody);
}

TEST(FailureTable, knows_a_prompt_that_is_too_long_in_every_providers_words) {
  for (const auto* words : {
           "This model's maximum context length is 128000 tokens",
           "prompt is too long: 210000 tokens > 200000 maximum",
           "input length and `max_tokens` exceed context limit: too many tokens",
           "The input token count (1200000) exceeds the maximum number of tokens allowed "
           "(1048576).",
           "Requested tokens exceed context window of 4096",
       }) {
    EXPECT_TRUE(is_context_overflow(said(400, words))) << words;
    EXPECT_EQ(rule_of(said(400, words)).step, NextStep::next_leg) << words;
  }
  EXPECT_TRUE(is_context_overflow(said(400, "no", "context_length_exceeded")));
  EXPECT_TRUE(is_context_overflow(said(413, "prompt is too long")));
  EXPECT_FALSE(is_context_overflow(said(400, "messages.0: unexpected field")));
  EXPECT_FALSE(is_context_overflow(said(429, "too many tokens per minute")));
}

TEST(FailureTable, rests_a_key_for_one_model_only_when_the_body_says_so) {
  EXPECT_TRUE(blames_model(said(429, "Rate limit reached for gpt-4.1"), "gpt-4.1"));
  EXPECT_TRUE(blames_model(said(403, "Key not allowed for this model"), "gpt-4.1"));
  EXPECT_TRUE(blames_model(said(429, "Too many requests"), "gpt-4.1"));
  EXPECT_FALSE(blames_model(said(429, "This account makes too many requests"), "gpt-4.1"));
  EXPECT_FALSE(blames_model(said(429, "Limit of your organization reached"), "gpt-4.1"));
  EXPECT_FALSE(blames_model(said(403, "Not allowed"), "gpt-4.1"));
  EXPECT_FALSE(blames_model(said(401, "no such model or key"), "gpt-4.1"));
}

}  // namespace
}  // namespace llm_proxy
