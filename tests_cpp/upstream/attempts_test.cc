#include "upstream/attempts.h"

#include <gtest/gtest.h>

#include <functional>

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Error said(int status, std::optional<milliseconds> retry_after = std::nullopt) {
  Error error{kind_of_status(status), "upstream says " + std::to_string(status), status};
  error.retry_after = retry_after;
  return error;
}
Error silence() {
  return {ErrorKind::upstream_timeout, "silent"};
}

// A route of backends whose keys stand behind their names: {"a", 2} is a leg with two keys.
class AttemptsTest : public testing::Test {
 protected:
  struct LegOf {
    std::string name;
    int keys = 1;
  };
  // What an upstream says to a key; nothing: an answer.
  using Script = std::function<std::optional<Error>(const std::string& leg, std::size_t key)>;

  void route(std::vector<LegOf> legs) {
    backends_.clear();
    for (const auto& [name, keys] : legs) {
      auto& backend = backends_.emplace_back();
      backend.name = name;
      for (int i = 0; i < keys; ++i) backend.keys.push_back(name + std::to_string(i));
    }
    pools_ = availability_.pools(backends_);
  }

  // One request, to its end. "a0 a0 ~ b0 ok": keys asked, waits, outcome.
  std::string run(const Script& upstream) {
    Attempts attempts(policy_, clock_.now());
    for (const auto& pool : pools_) attempts.add({pool.get(), "m", personal_});
    std::string out;
    waited_ = milliseconds(0);
    for (int i = 0; i < 100; ++i) {
      const auto step = attempts.next(clock_.now());
      if (step.what == Attempts::Step::What::give_up) {
        refusal_ = attempts.refusal(clock_.now());
        return out + std::to_string(refusal_.http_status());
      }
      if (step.what == Attempts::Step::What::wait) {
        out += "~ ";
        const auto time = std::chrono::ceil<milliseconds>(step.until - clock_.now());
        EXPECT_GT(time.count(), 0);
        waited_ += time;
        clock_.advance(time);
        continue;
      }
      const auto& backend = backends_[step.leg];
      out += backend.keys[step.key] + " ";
      if (auto error = upstream(backend.name, step.key)) {
        attempts.failed(*error, clock_.now());
      } else {
        attempts.answered();
        return out + "ok";
      }
    }
    return out + "endless";
  }
  static Script always(Error error, std::string leg = "a") {
    return [=](const std::string& name, std::size_t) -> std::optional<Error> {
      return name == leg || leg.empty() ? std::optional(error) : std::nullopt;
    };
  }
  static Script once(Error error) {
    return [error, first = true](const std::string&, std::size_t) mutable -> std::optional<Error> {
      return std::exchange(first, false) ? std::optional(error) : std::nullopt;
    };
  }

  VirtualClock clock_;
  FailurePolicy policy_;
  bool personal_ = false;
  std::vector<Backend> backends_;
  Availability availability_;
  std::vector<std::shared_ptr<KeyPool>> pools_;
  milliseconds waited_{0};
  Error refusal_;
};

TEST_F(AttemptsTest, does_with_each_failure_of_the_first_leg_what_the_table_says) {
  struct Case {
    Error error;
    std::string expected;
  };
  for (const auto& [error, expected] : {
           Case{said(400), "a0 400"},
           Case{said(401), "a0 b0 ok"},
           Case{said(402), "a0 b0 ok"},
           Case{said(403), "a0 b0 ok"},
           Case{said(404), "a0 b0 ok"},
           Case{said(413), "a0 413"},
           Case{said(422), "a0 422"},
           Case{said(429), "a0 b0 ok"},
           Case{said(429, seconds(60)), "a0 b0 ok"},
           Case{said(429, seconds(2)), "a0 ~ a0 ~ a0 b0 ok"},
           Case{said(500), "a0 ~ a0 ~ a0 b0 ok"},
           Case{said(503), "a0 ~ a0 ~ a0 b0 ok"},
           Case{said(503, seconds(60)), "a0 b0 ok"},
           Case{said(503, seconds(2)), "a0 ~ a0 ~ a0 b0 ok"},
           Case{said(529), "a0 ~ a0 ~ a0 b0 ok"},
           Case{silence(), "a0 b0 ok"},
       }) {
    availability_ = {};
    route({{"a"}, {"b"}});
    EXPECT_EQ(run(always(error)), expected) << error.message;
    EXPECT_LE(waited_, seconds(5)) << error.message;
  }
}

TEST_F(AttemptsTest, asks_the_same_leg_again_after_a_passing_failure) {
  route({{"a"}, {"b"}});
  EXPECT_EQ(run(once(said(500))), "a0 ~ a0 ok");
  EXPECT_LE(waited_, milliseconds(300));
  EXPECT_EQ(run(once(said(429, seconds(2)))), "a0 ~ a0 ok");
  EXPECT_GE(waited_, seconds(2));
}

TEST_F(AttemptsTest, takes_every_other_key_before_the_next_leg) {
  for (const int status : {401, 402, 403, 429}) {
    availability_ = {};
    route({{"a", 3}, {"b"}});
    EXPECT_EQ(run(always(said(status))), "a0 a1 a2 b0 ok") << status;
    EXPECT_EQ(run(always(said(status))), "b0 ok") << status << ": none is asked before its time";
  }
}

TEST_F(AttemptsTest, never_blocks_a_healthy_key_for_the_fault_of_another) {
  route({{"a", 3}});
  const Script bad = [](const std::string&, std::size_t key) -> std::optional<Error> {
    return key == 1 ? std::optional(said(401)) : std::nullopt;
  };
  int asked = 0;
  for (int i = 0; i < 30; ++i) {
    const auto did = run(bad);
    EXPECT_TRUE(did.ends_with("ok")) << did;
    asked += did.find("a1") != std::string::npos;
  }
  EXPECT_EQ(asked, 1);
}

TEST_F(AttemptsTest, keeps_the_time_a_provider_named_for_the_next_request_too) {
  route({{"a"}, {"b"}});
  EXPECT_EQ(run(always(said(429, seconds(30)))), "a0 b0 ok");
  clock_.advance(milliseconds(29'000));
  EXPECT_EQ(run(always(said(500), "none")), "b0 ok");
  clock_.advance(milliseconds(1'000));
  EXPECT_EQ(run(always(said(500), "none")), "a0 ok");
}

TEST_F(AttemptsTest, tells_the_soonest_time_when_everybody_is_limited) {
  route({{"a", 2}, {"b"}});
  const Script limited = [](const std::string& leg, std::size_t key) -> std::optional<Error> {
    return said(429, seconds(leg == "b" ? 60 : key == 0 ? 50 : 40));
  };
  EXPECT_EQ(run(limited), "a0 a1 b0 429");
  EXPECT_EQ(refusal_.retry_after, seconds(40));
  clock_.advance(seconds(10));
  EXPECT_EQ(run(limited), "429") << "nobody is asked";
  EXPECT_EQ(refusal_.retry_after, seconds(30));
}

TEST_F(AttemptsTest, waits_in_silence_when_nobody_else_is_free_and_the_time_is_short) {
  route({{"a"}});
  EXPECT_EQ(run(once(said(429, seconds(4)))), "a0 ~ a0 ok");
  EXPECT_GE(waited_, seconds(4));
  availability_ = {};
  route({{"a"}});
  EXPECT_EQ(run(once(said(429, seconds(6)))), "a0 429");
}

TEST_F(AttemptsTest, sends_a_prompt_that_is_too_long_to_the_next_leg_and_rests_nobody) {
  route({{"a"}, {"b"}});
  auto error = said(400);
  error.code = "context_length_exceeded";
  EXPECT_EQ(run(always(error)), "a0 b0 ok");
  EXPECT_EQ(run(always(error, "none")), "a0 ok");
  route({{"a", 3}});
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(run(always(error)).ends_with("400"));
  EXPECT_EQ(run(always(error, "none")).substr(3), "ok");
}

TEST_F(AttemptsTest, serves_from_the_fallback_through_an_outage_and_returns_soon_after) {
  route({{"a"}, {"b"}});
  int attempts_on_a = 0;
  bool down = true;
  const Script flapping = [&](const std::string& leg, std::size_t) -> std::optional<Error> {
    if (leg != "a") return std::nullopt;
    ++attempts_on_a;
    return down ? std::optional(said(503)) : std::nullopt;
  };
  for (int i = 0; i < 60; ++i) {
    const int before = attempts_on_a;
    EXPECT_TRUE(run(flapping).ends_with("b0 ok"));
    EXPECT_LE(attempts_on_a - before, 3);
    clock_.advance(seconds(1));
  }
  EXPECT_LE(attempts_on_a, 20) << "the breaker keeps requests away";
  down = false;
  milliseconds until_back{0};
  while (run(flapping) != "a0 ok") {
    clock_.advance(seconds(1));
    until_back += seconds(1);
    ASSERT_LE(until_back, seconds(30));
  }
}

TEST_F(AttemptsTest, asks_the_only_provider_once_even_with_its_breaker_open) {
  route({{"a"}});
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(run(always(said(503))).ends_with("503"));
  EXPECT_EQ(run(always(said(503))), "a0 503") << "no retries while it seems down";
  EXPECT_EQ(run(always(said(503), "none")), "a0 ok") << "and no lock-out when it is back";
}

TEST_F(AttemptsTest, asks_a_refused_key_once_more_when_there_is_no_other) {
  route({{"a"}});
  EXPECT_EQ(run(always(said(401))), "a0 401");
  EXPECT_EQ(run(always(said(401))), "a0 401");
  EXPECT_EQ(run(always(said(401), "none")), "a0 ok");
  EXPECT_EQ(run(always(said(401), "none")), "a0 ok");
}

TEST_F(AttemptsTest, rests_nothing_for_failures_of_the_clients_own_credentials) {
  route({{"a"}});
  personal_ = true;
  EXPECT_EQ(run(always(said(429, seconds(60)))), "a0 429");
  EXPECT_EQ(refusal_.retry_after, seconds(60));
  EXPECT_EQ(run(always(said(429), "none")), "a0 ok");
}

TEST_F(AttemptsTest, counts_nothing_against_anybody_when_the_client_leaves) {
  route({{"a"}});
  for (int i = 0; i < 20; ++i) {
    Attempts attempts(policy_, clock_.now());
    attempts.add({pools_[0].get(), "m", false});
    ASSERT_EQ(attempts.next(clock_.now()).what, Attempts::Step::What::ask);
    attempts.abandoned();
  }
  EXPECT_EQ(run(always(said(500), "none")), "a0 ok");
  EXPECT_EQ(pools_[0]->health(clock_.now()).keys[0].failed, 0u);
}

TEST_F(AttemptsTest, begins_no_attempt_after_its_budget) {
  route({{"a"}, {"b"}});
  const Script slow = [&](const std::string&, std::size_t) -> std::optional<Error> {
    clock_.advance(seconds(100));
    return silence();
  };
  EXPECT_EQ(run(slow), "a0 504");
}

TEST_F(AttemptsTest, makes_one_attempt_when_failure_handling_is_switched_off) {
  policy_.enabled = false;
  route({{"a", 2}, {"b"}});
  EXPECT_EQ(run(always(said(503))), "a0 503");
  EXPECT_EQ(run(always(said(429))), "a1 429");
  for (int i = 0; i < 20; ++i) (void)run(always(said(i % 2 == 0 ? 429 : 503), ""));
  EXPECT_EQ(run([](const std::string&, std::size_t) { return std::nullopt; }).substr(3), "ok")
      << "nobody rests for what others heard";
}

TEST_F(AttemptsTest, ends_however_many_keys_and_legs_fail) {
  route({{"a", 40}, {"b", 40}, {"c", 40}});
  const auto did = run(always(said(401), ""));
  EXPECT_LE(std::count(did.begin(), did.end(), ' '), Attempts::kMostAttempts);
}

}  // namespace
}  // namespace llm_proxy
