#include "base/inbox.h"

#include <gtest/gtest.h>

#include <thread>

namespace llm_proxy {
namespace {

TEST(Inbox, asks_for_a_wake_up_only_when_it_was_empty) {
  Inbox<int> inbox;
  EXPECT_TRUE(inbox.push(1));
  EXPECT_FALSE(inbox.push(2));
  std::vector<int> taken;
  inbox.take(taken);
  EXPECT_EQ(taken, (std::vector<int>{1, 2}));
  EXPECT_TRUE(inbox.push(3));
}

TEST(Inbox, loses_nothing_between_threads) {
  Inbox<int> inbox;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&inbox] {
      for (int i = 0; i < 1000; ++i) inbox.push(i);
    });
  }
  std::size_t seen = 0;
  std::vector<int> taken;
  while (seen < 4000) {
    inbox.take(taken);
    seen += taken.size();
  }
  for (std::thread& thread : threads) thread.join();
  inbox.take(taken);
  EXPECT_EQ(seen, 4000u);
  EXPECT_TRUE(taken.empty());
}

}  // namespace
}  // namespace llm_proxy
