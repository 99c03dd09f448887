#include "python/py_lane.h"

#include <gtest/gtest.h>

#include <atomic>

#include "tests_cpp/python/loop.h"

namespace llm_proxy {
namespace {

TEST(Lane, runs_what_other_threads_submit_in_order) {
  TestLoop loop;
  std::vector<int> seen;
  std::thread other([&] {
    for (int i = 0; i < 1000; ++i) loop.inbox().post([&seen, i](Lane&) { seen.push_back(i); });
    loop.stop();
  });
  loop.run();
  other.join();
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], i);
}

TEST(Lane, answers_each_worker_once_for_a_whole_batch) {
  TestLoop loop;
  TestWorker first, second;
  std::atomic<int> answered{0};
  for (int i = 0; i < 100; ++i) {
    loop.inbox().post([&](Lane& lane) {
      for (TestWorker* worker : {&first, &second}) {
        lane.reply(*worker, [&] {
          if (++answered == 200) loop.stop();
        });
      }
    });
  }
  loop.run();
  EXPECT_EQ(answered, 200);
  EXPECT_EQ(first.posts(), 1u);
  EXPECT_EQ(second.posts(), 1u);
}

TEST(Lane, leaves_turns_to_the_loop_when_there_is_much_to_do) {
  TestLoop loop;
  int done = 0;
  for (int i = 0; i < 10 * Lane::kJobsPerDrain; ++i) loop.inbox().post([&](Lane&) { ++done; });
  loop.stop();
  loop.run();
  EXPECT_EQ(done, 10 * Lane::kJobsPerDrain);
  EXPECT_GE(loop.lane().counters().drains, 10u);
}

TEST(Lane, survives_work_that_leaves_a_python_error_or_throws) {
  TestLoop loop;
  bool reached = false;
  PyRun_SimpleString("import sys; sys.unraisablehook = lambda _: None");
  loop.inbox().post([](Lane&) { PyErr_SetString(PyExc_KeyError, "left"); });
  loop.inbox().post([](Lane&) { throw std::runtime_error("thrown"); });
  loop.inbox().post([&](Lane&) { reached = true; });
  loop.stop();
  loop.run();
  PyRun_SimpleString("sys.unraisablehook = sys.__unraisablehook__");
  EXPECT_TRUE(reached);
}

TEST(Lane, refuses_work_once_closed) {
  TestLoop loop;
  loop.lane().close();
  EXPECT_FALSE(loop.inbox().post([](Lane&) { FAIL(); }));
}

TEST(Lane, says_how_long_work_has_waited) {
  TestLoop loop;
  EXPECT_EQ(loop.inbox().lag().count(), 0);
  loop.inbox().post([](Lane&) {});
  EXPECT_GT(loop.inbox().lag().count(), 0);
  loop.stop();
  loop.run();
  EXPECT_EQ(loop.inbox().lag().count(), 0);
}

TEST(PyRef, dropped_on_another_thread_is_released_on_the_lane) {
  TestLoop loop;
  PyObject* object = PyList_New(0);
  PyRef ref = loop.lane().ref(PyOwned::share(object));
  ASSERT_EQ(Py_REFCNT(object), 2);
  std::thread([dropped = std::move(ref)] {}).join();
  EXPECT_EQ(Py_REFCNT(object), 2);
  loop.stop();
  loop.run();
  EXPECT_EQ(Py_REFCNT(object), 1);
  Py_DECREF(object);
}

struct CountedDeadline final : LaneDeadline {
  explicit CountedDeadline(std::function<void()> f) : then(std::move(f)) {}
  void on_deadline() override { then(); }
  std::function<void()> then;
};

TEST(LaneDeadline, is_called_in_the_order_of_time_and_not_when_disarmed) {
  TestLoop loop;
  std::vector<std::string> seen;
  CountedDeadline late([&] {
    seen.emplace_back("late");
    loop.stop();
  });
  CountedDeadline early([&] { seen.emplace_back("early"); });
  CountedDeadline never([&] { seen.emplace_back("never"); });
  const auto now = std::chrono::steady_clock::now();
  loop.lane().arm(late, now + std::chrono::milliseconds(2));
  loop.lane().arm(early, now + std::chrono::milliseconds(1));
  loop.lane().arm(never, now);
  loop.lane().disarm(never);
  loop.run();
  EXPECT_EQ(seen, (std::vector<std::string>{"early", "late"}));
}

}  // namespace
}  // namespace llm_proxy
