#include "base/callback.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>

namespace llm_proxy {
namespace {

TEST(Callback, calls_what_it_was_given_and_returns_its_answer) {
  Callback<int(int)> twice = [](int n) { return 2 * n; };
  EXPECT_EQ(twice(21), 42);
}

TEST(Callback, carries_move_only_captures_small_and_large) {
  auto small = std::make_unique<int>(7);
  Callback<int()> inside = [small = std::move(small)] { return *small; };
  std::array<char, 200> bulk{};
  bulk[199] = 'x';
  Callback<char()> outside = [bulk] { return bulk[199]; };
  Callback<int()> moved = std::move(inside);
  Callback<char()> moved_too = std::move(outside);
  EXPECT_FALSE(inside);
  EXPECT_FALSE(outside);
  EXPECT_EQ(moved(), 7);
  EXPECT_EQ(moved_too(), 'x');
}

TEST(Callback, destroys_its_captures_exactly_once) {
  const auto counted = std::make_shared<int>();
  {
    Callback<void()> first = [counted] {};
    Callback<void()> second = std::move(first);
    EXPECT_EQ(counted.use_count(), 2);
    second = nullptr;
    EXPECT_EQ(counted.use_count(), 1);
    second = [counted, bulk = std::array<char, 100>{}] {};
    first = std::move(second);
    EXPECT_EQ(counted.use_count(), 2);
  }
  EXPECT_EQ(counted.use_count(), 1);
}

TEST(Callback, passes_arguments_through_without_copies) {
  Callback<std::unique_ptr<int>(std::unique_ptr<int>)> same = [](std::unique_ptr<int> p) {
    return p;
  };
  EXPECT_EQ(*same(std::make_unique<int>(3)), 3);
}

}  // namespace
}  // namespace llm_proxy
