#include "upstream/hosted_keys.h"

#include <gtest/gtest.h>

#include <utility>

namespace llm_proxy {
namespace {

constexpr std::int64_t kNow = 1'000'000;

class AtOnce final : public WorkerPost {
 public:
  void post(Callback<void()> work) override { work(); }
};

// Answers when told to.
class Host final : public BackendHost {
 public:
  std::shared_ptr<HostedCall> call(HostedRequest, std::shared_ptr<HostedSink>,
                                   WorkerPost&) override {
    return nullptr;
  }
  void models(WorkerPost&, std::function<void(std::vector<HostedModels>)>) override {}
  void key(std::string instance, std::string refused, WorkerPost&,
           std::function<void(const Result<HostedKey>&)> done) override {
    asked.push_back(instance + "/" + refused);
    done_ = std::move(done);
  }
  void answer(Result<HostedKey> key) { std::exchange(done_, nullptr)(key); }

  std::vector<std::string> asked;

 private:
  std::function<void(const Result<HostedKey>&)> done_;
};

class HostedKeysTest : public testing::Test {
 protected:
  void ask() {
    keys.ask(host, "b", worker, [this](const Result<HostedKey>& key) {
      got.push_back(key ? key->value : key.error().message);
    });
  }

  AtOnce worker;
  Host host;
  HostedKeys keys;
  std::vector<std::string> got;
};

TEST_F(HostedKeysTest, asks_once_for_all_who_wait_and_keeps_the_key_until_it_expires) {
  EXPECT_EQ(keys.held(host, "b", kNow), nullptr);
  ask();
  ask();
  EXPECT_EQ(host.asked, std::vector<std::string>{"b/"});
  host.answer(HostedKey{"k1", kNow + 60'000});
  EXPECT_EQ(got, (std::vector<std::string>{"k1", "k1"}));
  ASSERT_NE(keys.held(host, "b", kNow), nullptr);
  EXPECT_EQ(*keys.held(host, "b", kNow + 49'999), "k1");
  EXPECT_EQ(keys.held(host, "b", kNow + 50'000), nullptr) << "too near its end";
  EXPECT_EQ(keys.held(host, "c", kNow), nullptr);
}

TEST_F(HostedKeysTest, tells_the_host_which_key_was_refused_and_only_once_for_many_refusals) {
  ask();
  host.answer(HostedKey{"k1", kNow + 60'000});
  keys.refused(host, "b", "k1");
  EXPECT_EQ(keys.held(host, "b", kNow), nullptr);
  ask();
  host.answer(HostedKey{"k2", kNow + 60'000});
  keys.refused(host, "b", "k1");  // late: sent before the renewal
  EXPECT_EQ(*keys.held(host, "b", kNow), "k2");
  EXPECT_EQ(host.asked, (std::vector<std::string>{"b/", "b/k1"}));
}

TEST_F(HostedKeysTest, uses_a_key_without_an_end_only_for_those_who_wait) {
  ask();
  host.answer(HostedKey{"once", 0});
  EXPECT_EQ(got, std::vector<std::string>{"once"});
  EXPECT_EQ(keys.held(host, "b", kNow), nullptr);
}

TEST_F(HostedKeysTest, hands_a_failure_to_all_who_wait_and_asks_again_next_time) {
  ask();
  ask();
  host.answer(Error{ErrorKind::unauthenticated, "log in again"});
  EXPECT_EQ(got, (std::vector<std::string>{"log in again", "log in again"}));
  ask();
  EXPECT_EQ(host.asked.size(), 2u);
}

TEST_F(HostedKeysTest, answers_who_waited_when_the_configuration_changed_meanwhile) {
  ask();
  keys.clear();
  host.answer(HostedKey{"old", kNow + 60'000});
  EXPECT_EQ(got, std::vector<std::string>{"old"});
  EXPECT_EQ(keys.held(host, "b", kNow), nullptr);
}

TEST_F(HostedKeysTest, keeps_apart_what_hosts_before_and_after_a_reload_lend) {
  Host after;
  keys.clear();
  ask();  // an exchange that began before
  host.answer(HostedKey{"old", kNow + 60'000});
  EXPECT_EQ(keys.held(after, "b", kNow), nullptr);
  EXPECT_EQ(*keys.held(host, "b", kNow), "old");
}

TEST_F(HostedKeysTest, lets_one_who_is_answered_ask_again) {
  keys.ask(host, "b", worker, [this](const Result<HostedKey>&) { ask(); });
  host.answer(HostedKey{"k1", 0});
  host.answer(HostedKey{"k2", 0});
  EXPECT_EQ(got, std::vector<std::string>{"k2"});
}

}  // namespace
}  // namespace llm_proxy
