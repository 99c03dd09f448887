#include "base/memory_budget.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

namespace llm_proxy {
namespace {

constexpr std::size_t kAnna = 1;
constexpr std::size_t kBert = 2;
constexpr std::size_t kCarl = 3;

TEST(MemoryBudget, gives_back_what_a_charge_held_when_it_ends) {
  MemoryBudget budget(1000);
  {
    MemoryCharge charge(budget, kAnna);
    EXPECT_FALSE(charge.hold(300));
    EXPECT_EQ(budget.used(), 300u);
    MemoryCharge moved = std::move(charge);
    EXPECT_EQ(budget.used(), 300u);
    EXPECT_FALSE(moved.hold(100));
    EXPECT_EQ(budget.used(), 100u);
    MemoryCharge other(budget, kAnna);
    EXPECT_FALSE(other.hold(50));
    other = std::move(moved);
    EXPECT_EQ(budget.used(), 100u);
  }
  EXPECT_EQ(budget.used(), 0u);
}

TEST(MemoryBudget, leaves_room_for_those_who_hold_nothing) {
  MemoryBudget budget(1000);
  MemoryCharge anna(budget, kAnna), more(budget, kAnna), bert(budget, kBert), carl(budget, kCarl);
  EXPECT_FALSE(anna.hold(500));
  const auto refused = more.hold(1);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::rate_limited);
  EXPECT_TRUE(refused->retry_after);
  EXPECT_FALSE(bert.hold(250));
  EXPECT_TRUE(more.hold(1));
  EXPECT_FALSE(carl.hold(125));
  EXPECT_EQ(budget.used(), 875u);
  EXPECT_EQ(budget.refused(), 2u);
}

TEST(MemoryBudget, says_when_it_is_the_proxy_that_has_none_left) {
  MemoryBudget budget(1000);
  MemoryCharge anna(budget, kAnna), bert(budget, kBert), carl(budget, kCarl);
  EXPECT_FALSE(anna.hold(500));
  EXPECT_FALSE(bert.hold(250));
  const auto refused = carl.hold(300);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::short_of_memory);
  EXPECT_EQ(refused->http_status(), 503);
  EXPECT_TRUE(refused->retry_after);
  anna.release();
  EXPECT_FALSE(carl.hold(300));
}

TEST(MemoryBudget, asks_nobody_to_come_back_for_what_will_never_fit) {
  MemoryBudget budget(1000);
  MemoryCharge charge(budget, kAnna);
  const auto refused = charge.hold(501);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::body_too_large);
  EXPECT_FALSE(refused->retry_after);
  EXPECT_EQ(budget.used(), 0u);
}

TEST(MemoryBudget, a_refused_charge_is_as_it_was) {
  MemoryBudget budget(1000);
  MemoryCharge charge(budget, kAnna), other(budget, kBert);
  EXPECT_FALSE(other.hold(400));
  EXPECT_FALSE(charge.hold(200));
  EXPECT_TRUE(charge.hold(450));
  EXPECT_EQ(charge.held(), 200u);
  EXPECT_EQ(budget.used(), 600u);
}

TEST(MemoryBudget, grows_in_steps) {
  MemoryBudget budget(0);
  MemoryCharge charge(budget, kAnna);
  EXPECT_FALSE(charge.grow_to(100));
  EXPECT_EQ(charge.held(), 100u);
  EXPECT_FALSE(charge.grow_to(100'000));
  EXPECT_EQ(charge.held(), MemoryCharge::kStep);
  EXPECT_FALSE(charge.grow_to(50));
  EXPECT_EQ(charge.held(), MemoryCharge::kStep);
}

TEST(MemoryBudget, nothing_is_refused_without_a_limit_or_a_budget) {
  MemoryBudget budget(0);
  MemoryCharge charge(budget, kAnna);
  EXPECT_FALSE(charge.hold(1ull << 50));
  MemoryCharge none;
  EXPECT_FALSE(none.grow_to(1ull << 50));
}

TEST(MemoryBudget, is_not_exceeded_by_many_at_once) {
  constexpr std::uint64_t kLimit = 10'000;
  MemoryBudget budget(kLimit);
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> granted{0};
  for (std::size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      std::vector<MemoryCharge> held;
      for (int n = 0; n < 1000; ++n) {
        MemoryCharge charge(budget, i);
        if (charge.hold(7)) continue;
        granted += 7;
        held.push_back(std::move(charge));
      }
      EXPECT_LE(granted.load(), kLimit);
      for (const MemoryCharge& charge : held) granted -= charge.held();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(budget.used(), 0u);
}

TEST(MemoryBudget, tells_clients_apart) {
  EXPECT_EQ(MemoryBudget::share_of("a key"), MemoryBudget::share_of("a key"));
  std::vector<bool> seen(MemoryBudget::kShares);
  std::size_t different = 0;
  for (int i = 0; i < 200; ++i) {
    const std::size_t share = MemoryBudget::share_of("client-" + std::to_string(i));
    different += seen[share] ? 0 : 1;
    seen[share] = true;
  }
  EXPECT_GT(different, 150u);
}

}  // namespace
}  // namespace llm_proxy
