#include "net/turn_queue.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "tests_cpp/net/harness.h"

namespace llm_proxy {
namespace {

using testing_net::Awaited;
using testing_net::WorkerFixture;

struct TurnQueueTest : WorkerFixture {
  TurnQueue queue{worker};
};

TEST_F(TurnQueueTest, gives_each_task_one_slice_after_the_other) {
  std::string order;
  Awaited<bool> done;
  on_worker([&] {
    const auto task = [&](char name, int slices) {
      queue.add([&, name, slices]() mutable {
        order += name;
        if (--slices > 0) return true;
        if (queue.size() == 0) done.set(true);
        return false;
      });
    };
    task('a', 3);
    task('b', 1);
    task('c', 2);
    EXPECT_EQ(order, "");  // never from within
  });
  done.get();
  EXPECT_EQ(order, "abcaca");
}

TEST_F(TurnQueueTest, lets_what_is_posted_meanwhile_run_between_two_slices) {
  std::string order;
  Awaited<bool> done;
  on_worker([&] {
    queue.add([&, slices = 3]() mutable {
      order += 's';
      worker.post([&] { order += 'p'; });
      if (--slices > 0) return true;
      worker.post([&] { done.set(true); });
      return false;
    });
  });
  done.get();
  EXPECT_EQ(order, "spspsp");
}

TEST_F(TurnQueueTest, a_task_that_throws_stops_nobody_else) {
  Awaited<bool> done;
  on_worker([&] {
    queue.add([]() -> bool { throw std::runtime_error("defect"); });
    queue.add([&] {
      done.set(true);
      return false;
    });
  });
  EXPECT_TRUE(done.get());
}

}  // namespace
}  // namespace llm_proxy
