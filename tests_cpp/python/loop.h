#pragma once

#include "python/py_lane.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace llm_proxy {

// An asyncio loop with a lane, run by the test's own thread.
class TestLoop {
 public:
  TestLoop()
      : asyncio_(PyOwned::steal(PyImport_ImportModule("asyncio"))),
        loop_(PyOwned::steal(PyObject_CallMethod(asyncio_.get(), "new_event_loop", nullptr))),
        lane_(Lane::attach(loop_.get())) {}
  ~TestLoop() {
    lane_->close();
    PyOwned::steal(PyObject_CallMethod(loop_.get(), "close", nullptr));
  }

  Lane& lane() { return *lane_; }
  LaneInbox& inbox() { return *lane_->inbox(); }

  // Runs the loop until stop() has been called on the lane.
  void run() {
    const PyOwned ran = PyOwned::steal(PyObject_CallMethod(loop_.get(), "run_forever", nullptr));
    if (!ran) PyErr_Print();
  }
  // Any thread.
  void stop() {
    inbox().post([loop = loop_.get()](Lane&) {
      PyOwned::steal(PyObject_CallMethod(loop, "stop", nullptr));
    });
  }

 private:
  PyOwned asyncio_, loop_;
  std::shared_ptr<Lane> lane_;
};

// A worker with a thread and a queue, and nothing else.
class TestWorker final : public WorkerPost {
 public:
  TestWorker() : thread_([this] { serve(); }) {}
  ~TestWorker() override {
    post(nullptr);
    thread_.join();
  }

  void post(Callback<void()> work) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
      ++posts_;
    }
    bell_.notify_one();
  }
  std::size_t posts() {
    const std::lock_guard lock(mutex_);
    return posts_;
  }

 private:
  void serve() {
    for (;;) {
      std::unique_lock lock(mutex_);
      bell_.wait(lock, [this] { return !queue_.empty(); });
      Callback<void()> work = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();
      if (!work) return;
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable bell_;
  std::deque<Callback<void()>> queue_;
  std::size_t posts_ = 0;
  std::thread thread_;
};

}  // namespace llm_proxy
