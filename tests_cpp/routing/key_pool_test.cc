#include "routing/key_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <set>
#include <string>

#include "base/log.h"

namespace llm_proxy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class KeyPoolTest : public testing::Test {
 protected:
  explicit KeyPoolTest(std::size_t keys = 3) {
    backends_.resize(1);
    backends_[0].name = "up";
    for (std::size_t i = 0; i < keys; ++i) backends_[0].keys.push_back("sk-" + std::to_string(i));
    publish();
  }

  void publish() { pool_ = availability_.pools(backends_).front(); }
  TimePoint now() const { return clock_.now(); }
  TimePoint in(milliseconds time) const { return now() + time; }

  // The key asked, or -1.
  int ask(std::string_view model = "m") {
    const auto pick = pool_->pick(model, now());
    if (!pick.ready) return -1;
    pool_->answered(pick, model);
    return static_cast<int>(pick.key);
  }
  void limit(seconds time, std::string_view model = {}) {
    const auto pick = pool_->pick("m", now());
    ASSERT_TRUE(pick.ready);
    pool_->key_failed(pick, model, in(time), ErrorKind::rate_limited, now());
  }
  void refuse(seconds time) {
    const auto pick = pool_->pick("m", now());
    ASSERT_TRUE(pick.ready);
    pool_->key_failed(pick, {}, in(time), ErrorKind::unauthenticated, now());
  }
  // Ends with the breaker open.
  void break_it() {
    for (int i = 0; i < Breaker::Limits().failure_threshold; ++i) {
      const auto pick = pool_->pick("m", now());
      ASSERT_TRUE(pick.ready);
      pool_->instance_failed(pick, std::nullopt, now());
    }
  }

  // When each key is free again, as the pool itself shows it.
  std::vector<TimePoint> rests() const {
    std::vector<TimePoint> out;
    for (const auto& key : pool_->health(now()).keys) {
      out.push_back(key.why ? in(key.left) : TimePoint());
    }
    return out;
  }

  VirtualClock clock_;
  std::vector<Backend> backends_;
  Availability availability_;
  std::shared_ptr<KeyPool> pool_;
};

TEST_F(KeyPoolTest, takes_turns_among_the_keys_that_do_not_rest) {
  EXPECT_EQ(ask(), 0);
  EXPECT_EQ(ask(), 1);
  limit(seconds(60));  // key 2
  EXPECT_EQ(ask(), 0);
  EXPECT_EQ(ask(), 1);
  EXPECT_EQ(ask(), 0);
  clock_.advance(seconds(60));
  const std::set<int> seen{ask(), ask(), ask()};
  EXPECT_EQ(seen.size(), 3u);
}

TEST_F(KeyPoolTest, fills_the_first_key_before_it_takes_the_next) {
  backends_[0].key_policy = Backend::KeyPolicy::fill_first;
  publish();
  EXPECT_EQ(ask(), 0);
  EXPECT_EQ(ask(), 0);
  limit(seconds(5));
  EXPECT_EQ(ask(), 1);
  clock_.advance(seconds(5));
  EXPECT_EQ(ask(), 0);
}

TEST_F(KeyPoolTest, takes_the_key_whose_last_limit_is_longest_ago) {
  backends_[0].key_policy = Backend::KeyPolicy::least_recently_limited;
  publish();
  limit(seconds(1));  // 0
  clock_.advance(seconds(2));
  limit(seconds(1));  // 1
  clock_.advance(seconds(2));
  EXPECT_EQ(ask(), 2);
  limit(seconds(60));  // 2
  EXPECT_EQ(ask(), 0);
}

TEST_F(KeyPoolTest, rests_a_key_for_the_model_it_was_limited_for) {
  for (int i = 0; i < 3; ++i) limit(seconds(60), "m");
  EXPECT_EQ(ask("m"), -1);
  EXPECT_NE(ask("other"), -1);
}

TEST_F(KeyPoolTest, logs_when_a_key_begins_to_rest_and_when_it_is_asked_again) {
  const std::string path = testing::TempDir() + "key_pool_test.txt";
  std::remove(path.c_str());
  ASSERT_TRUE(log_to_file(path));
  limit(seconds(60), "m");
  limit(seconds(60), "m");
  limit(seconds(60), "m");
  EXPECT_EQ(ask("m"), -1);
  EXPECT_EQ(ask("other"), 0);
  clock_.advance(seconds(60));
  EXPECT_NE(ask("m"), -1);
  refuse(seconds(300));
  log_to_file("");
  std::ifstream file(path);
  std::string said;
  for (std::string line; std::getline(file, line);) said += line.substr(24) + "\n";
  EXPECT_EQ(said,
            " warning backend up: key 1 of 3 rests for 60 s for model m: rate_limited\n"
            " warning backend up: key 2 of 3 rests for 60 s for model m: rate_limited\n"
            " warning backend up: key 3 of 3 rests for 60 s for model m: rate_limited\n"
            " warning backend up: key 2 of 3 is asked again, its rest is over\n"
            " warning backend up: key 3 of 3 is asked again, its rest is over\n"
            " warning backend up: key 3 of 3 rests for 300 s: unauthenticated\n");
}

TEST_F(KeyPoolTest, names_the_soonest_limited_key_when_none_is_free) {
  limit(seconds(9));
  limit(seconds(4));
  refuse(seconds(1));
  const auto pick = pool_->pick("m", now());
  EXPECT_FALSE(pick.ready);
  EXPECT_TRUE(pick.strict);
  EXPECT_EQ(pick.until, in(seconds(4)));
}

TEST_F(KeyPoolTest, asks_a_refused_key_as_the_last_resort_but_never_a_limited_one) {
  limit(seconds(60));
  limit(seconds(60));
  refuse(seconds(300));
  const auto pick = pool_->last_resort("m", now());
  ASSERT_TRUE(pick.ready);
  EXPECT_EQ(pick.key, 2u);
  pool_->answered(pick, "m");
  EXPECT_EQ(ask(), 2) << "it works again";
  EXPECT_EQ(ask("m"), 2) << "the others still rest";
}

TEST_F(KeyPoolTest, keeps_a_limit_although_an_earlier_request_is_answered_later) {
  const auto slow = pool_->pick("m", now());
  const auto limited = pool_->pick("m", now());
  ASSERT_NE(slow.key, limited.key);
  pool_->key_failed(slow, {}, in(seconds(60)), ErrorKind::rate_limited, now());
  pool_->answered(slow, "m");
  for (int i = 0; i < 6; ++i) EXPECT_NE(ask(), static_cast<int>(slow.key));
}

TEST_F(KeyPoolTest, opens_after_failures_in_a_row_and_sends_one_probe_when_the_time_has_come) {
  break_it();
  EXPECT_EQ(ask(), -1);
  clock_.advance(Breaker::Limits().open_cooldown_seconds);
  const auto probe = pool_->pick("m", now());
  ASSERT_TRUE(probe.ready);
  EXPECT_TRUE(probe.probe);
  EXPECT_FALSE(pool_->pick("m", now()).ready) << "one probe at a time";
  pool_->answered(probe, "m");
  EXPECT_NE(ask(), -1);
}

TEST_F(KeyPoolTest, asks_again_within_thirty_seconds_however_long_it_was_down) {
  break_it();
  for (int outage = 0; outage < 20; ++outage) {
    milliseconds waited{0};
    auto probe = pool_->pick("m", now());
    for (; !probe.ready; probe = pool_->pick("m", now())) {
      clock_.advance(milliseconds(500));
      waited += milliseconds(500);
      ASSERT_LE(waited, seconds(30));
    }
    pool_->instance_failed(probe, std::nullopt, now());
  }
}

TEST_F(KeyPoolTest, lets_the_next_request_probe_when_the_client_of_a_probe_has_left) {
  break_it();
  clock_.advance(Breaker::Limits().open_cooldown_seconds);
  const auto probe = pool_->pick("m", now());
  pool_->abandoned(probe);
  EXPECT_TRUE(pool_->pick("m", now()).probe);
}

TEST_F(KeyPoolTest, does_not_open_while_answers_come_in_between) {
  for (int i = 0; i < 50; ++i) {
    const auto pick = pool_->pick("m", now());
    ASSERT_TRUE(pick.ready);
    pool_->instance_failed(pick, std::nullopt, now());
    if (i % 3 == 2) ask();
  }
}

TEST_F(KeyPoolTest, leaves_an_instance_alone_as_long_as_its_retry_after_says) {
  const auto pick = pool_->pick("m", now());
  pool_->instance_failed(pick, in(seconds(7)), now());
  const auto blocked = pool_->pick("m", now());
  EXPECT_FALSE(blocked.ready);
  EXPECT_TRUE(blocked.strict);
  EXPECT_FALSE(pool_->last_resort("m", now()).ready);
  clock_.advance(seconds(7));
  EXPECT_NE(ask(), -1);
}

TEST_F(KeyPoolTest, remembers_over_a_reload_what_it_knew_of_each_key) {
  limit(seconds(60));  // sk-0
  backends_[0].keys = {"sk-new", "sk-0"};
  publish();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(ask(), 0) << "sk-0 still rests";
  backends_[0].base_url = "http://another.host/v1";
  publish();
  EXPECT_EQ((std::set<int>{ask(), ask()}), (std::set<int>{0, 1})) << "another host, another limit";
}

TEST_F(KeyPoolTest, remembers_a_bounded_number_of_models) {
  for (int i = 0; i < 100; ++i) {
    const auto pick = pool_->pick("m", now());
    pool_->key_failed(pick, "model-" + std::to_string(i), in(seconds(60 + i)),
                      ErrorKind::rate_limited, now());
  }
  for (const auto& key : pool_->health(now()).keys) {
    EXPECT_LE(key.models.size(), CoolDowns::kMaxModels);
    EXPECT_GT(key.models.size(), 0u);
  }
}

TEST_F(KeyPoolTest, shows_what_rests_how_long_and_why) {
  limit(seconds(9));
  refuse(seconds(300));
  limit(seconds(4), "m");
  clock_.advance(seconds(1));
  const auto health = pool_->health(now());
  EXPECT_EQ(health.name, "up");
  EXPECT_EQ(health.breaker, Breaker::State::closed);
  ASSERT_EQ(health.keys.size(), 3u);
  EXPECT_EQ(health.keys[0].why, ErrorKind::rate_limited);
  EXPECT_EQ(health.keys[0].left, seconds(8));
  EXPECT_EQ(health.keys[1].why, ErrorKind::unauthenticated);
  EXPECT_FALSE(health.keys[2].why);
  ASSERT_EQ(health.keys[2].models.size(), 1u);
  EXPECT_EQ(health.keys[2].models[0].left, seconds(3));
  EXPECT_EQ(health.keys[2].asked, 1u);
  EXPECT_EQ(health.keys[2].failed, 1u);
}

TEST_F(KeyPoolTest, gives_an_instance_without_keys_one_nameless_one) {
  backends_[0].keys.clear();
  backends_[0].name = "ollama";
  publish();
  EXPECT_EQ(pool_->size(), 1u);
  EXPECT_EQ(ask(), 0);
}

TEST_F(KeyPoolTest, forgets_every_rest_when_the_user_says_so) {
  for (int i = 0; i < 3; ++i) limit(seconds(3600));
  EXPECT_EQ(ask(), -1);
  pool_->reactivate();
  EXPECT_NE(ask(), -1);
  break_it();
  pool_->reactivate();
  EXPECT_NE(ask(), -1);
  const auto pick = pool_->pick("m", now());
  pool_->instance_failed(pick, in(seconds(600)), now());
  EXPECT_EQ(ask(), -1);
  pool_->reactivate();
  EXPECT_NE(ask(), -1);
}

TEST_F(KeyPoolTest, knows_one_server_under_two_formats_by_one_state) {
  backends_.push_back(backends_[0]);
  backends_[1].format = WireFormat::anthropic_messages;
  backends_[1].only_models = {"m"};
  const auto pools = availability_.pools(backends_);
  const auto pick = pools[0]->pick("m", now());
  pools[0]->key_failed(pick, {}, in(seconds(60)), ErrorKind::rate_limited, now());
  for (int i = 0; i < 6; ++i) EXPECT_NE(pools[1]->pick("m", now()).key, pick.key);
}

// Whatever comes in whatever order: a key that nothing was said against is asked, one that rests is
// not, and everything is as new after the longest rest.
TEST_F(KeyPoolTest, blocks_no_healthy_key_and_ends_every_rest_whatever_happens) {
  constexpr seconds kLongest{120};
  std::uint64_t seed = 42;
  const auto random = [&seed](std::uint64_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (seed >> 33) % below;
  };
  for (const auto policy : {Backend::KeyPolicy::round_robin, Backend::KeyPolicy::fill_first,
                            Backend::KeyPolicy::least_recently_limited}) {
    backends_[0].key_policy = policy;
    publish();
    std::vector<TimePoint> free_at(3, TimePoint());
    int served = 0;
    for (int step = 0; step < 20'000; ++step) {
      clock_.advance(milliseconds(random(4000)));
      const auto pick = pool_->pick("m", now());
      const bool healthy = std::any_of(free_at.begin(), free_at.end(),
                                       [this](TimePoint free) { return free <= now(); });
      ASSERT_EQ(pick.ready, healthy) << "step " << step;
      if (!pick.ready) continue;
      ++served;
      ASSERT_LE(free_at[pick.key], now()) << "a key is asked before its time";
      const auto rest = milliseconds(1 + random(kLongest.count() * 1000));
      switch (random(6)) {
        case 0:
          pool_->key_failed(pick, {}, in(rest), ErrorKind::rate_limited, now());
          free_at[pick.key] = in(rest);
          break;
        case 1:
          pool_->key_failed(pick, {}, in(rest), ErrorKind::unauthenticated, now());
          free_at[pick.key] = in(rest);
          break;
        case 2:
          pool_->key_failed(pick, "another model", in(rest), ErrorKind::rate_limited, now());
          break;
        case 3:
          pool_->abandoned(pick);
          break;
        case 4:
          pool_->instance_failed(pick, std::nullopt, now());
          pool_->answered(pool_->last_resort("m", now()), "m");  // never five in a row
          // An answer ends a refusal of the key that gave it, so nothing is known of that one.
          free_at = rests();
          break;
        default:
          pool_->answered(pick, "m");
          free_at = rests();
      }
    }
    EXPECT_GT(served, 2000);
    clock_.advance(kLongest);
    const auto health = pool_->health(now());
    for (const auto& key : health.keys) {
      EXPECT_FALSE(key.why);
      EXPECT_TRUE(key.models.empty());
    }
    std::set<int> asked;
    for (int i = 0; i < 6; ++i) asked.insert(ask());
    EXPECT_EQ(asked.size(), policy == Backend::KeyPolicy::round_robin ? 3u : 1u);
    EXPECT_EQ(asked.count(-1), 0u);
  }
}

// A provider that comes and goes: asked while it is up, spared while it is down, found again within
// thirty seconds each time.
TEST_F(KeyPoolTest, finds_a_flapping_upstream_again_every_time) {
  for (int round = 0; round < 50; ++round) {
    auto wasted = 0;
    for (int second = 0; second < 60; ++second, clock_.advance(seconds(1))) {
      const auto pick = pool_->pick("m", now());
      if (!pick.ready) continue;
      ++wasted;
      pool_->instance_failed(pick, std::nullopt, now());
    }
    EXPECT_LE(wasted, Breaker::Limits().failure_threshold + 6) << "round " << round;
    auto waited = 0;
    while (ask() < 0) {
      clock_.advance(seconds(1));
      ASSERT_LE(++waited, 30) << "round " << round;
    }
    for (int i = 0; i < 10; ++i) EXPECT_GE(ask(), 0);
  }
}

}  // namespace
}  // namespace llm_proxy
