#include "net/worker.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>

#include <vector>

#include "tests_cpp/net/harness.h"

namespace llm_proxy {
namespace {

using namespace testing_net;
using std::chrono::milliseconds;

struct WorkerTest : WorkerFixture {};

TEST_F(WorkerTest, runs_posts_in_order_on_its_own_thread) {
  std::vector<int> order;
  Awaited<bool> done;
  for (int i = 0; i < 1000; ++i) {
    worker.post([&order, i] { order.push_back(i); });
  }
  worker.post([&] { done.set(worker.on_this_thread()); });
  EXPECT_TRUE(done.get());
  EXPECT_FALSE(worker.on_this_thread());
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
}

TEST_F(WorkerTest, loses_no_post_of_many_threads) {
  int seen = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) worker.post([&seen] { ++seen; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(on_worker([&seen] { return seen; }), 20'000);
}

TEST_F(WorkerTest, never_runs_a_post_inline) {
  std::string order;
  Awaited<bool> done;
  worker.post([&] {
    worker.post([&] {
      order += "inner";
      done.set(true);
    });
    order += "outer ";
  });
  done.get();
  EXPECT_EQ(order, "outer inner");
}

TEST_F(WorkerTest, looks_at_deadlines_by_itself) {
  Awaited<bool> expired;
  Deadline deadline([&] { expired.set(worker.on_this_thread()); });
  on_worker([&] { worker.deadlines(milliseconds(100)).arm(deadline); });
  clock.advance(milliseconds(100));
  EXPECT_TRUE(expired.get());
}

TEST_F(WorkerTest, blocks_every_signal_in_its_thread) {
  const auto blocked = on_worker([] {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    return std::pair(sigismember(&mask, SIGINT), sigismember(&mask, SIGTERM));
  });
  EXPECT_EQ(blocked, std::pair(1, 1));
  sigset_t mine;
  pthread_sigmask(SIG_SETMASK, nullptr, &mine);
  EXPECT_EQ(sigismember(&mine, SIGINT), 0) << "the maker's mask was not given back";
}

TEST(Worker, destroys_what_was_posted_too_late) {
  const auto held = std::make_shared<int>();
  {
    Worker worker;
    worker.start();
    worker.stop();
    worker.join();
    worker.post([held] {});
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace llm_proxy
