#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/callback.h"
#include "base/clock.h"
#include "base/deadline_list.h"
#include "base/inbox.h"
#include "base/worker_post.h"
#include "net/stream_lane.h"

namespace llm_proxy {

using IoContext = boost::asio::io_context;
using IoExecutor = IoContext::executor_type;

struct WorkerOptions {
  int index = 0;
  const Clock* clock = nullptr;        // outlives the worker; null: the machine's
  std::chrono::milliseconds tick{50};  // how often deadlines are looked at
};

// One io thread and its event loop. Everything that lives on a worker is touched on its thread
// only.
//
// Owned by the server, which destroys what lives on the worker before the worker. Its thread has
// all signals blocked. Before start() the constructing thread may set up what will live here
// (listeners).
//
//   created ─► running ─► stopped (join)
class Worker final : public WorkerPost {
 public:
  static constexpr std::size_t kScratchBytes = 64 << 10;

  explicit Worker(WorkerOptions options = {});
  // Stops and joins.
  ~Worker() override;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start();
  // Ends the loop after the handler that runs now. Any thread.
  void stop();
  // Waits for the thread. Not on the worker.
  void join();

  // Runs `work` on the worker, in order. Any thread, while the worker lives; never inline. Work
  // posted after stop() is destroyed with the worker, without being run.
  void post(Callback<void()> work) override;

  bool on_this_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
  int index() const { return options_.index; }
  const Clock& clock() const { return *options_.clock; }
  TimePoint now() const { return clock().now(); }

  // On the worker: the list of deadlines of one duration. The reference lives as long as the
  // worker: keep it.
  DeadlineList& deadlines(std::chrono::milliseconds after) { return deadlines_.list(after); }
  // On the worker: runs what is due. The ticker does this; a test with a virtual clock may.
  void check_deadlines() { deadlines_.expire(); }

  // On the worker: runs `work` behind everything that is ready now.
  void at_turn_end(Callback<void()> work);
  // On the worker.
  StreamLane& stream_lane() { return stream_lane_; }

  // On the worker: 64 KB that belong to whichever handler runs now.
  std::span<char> scratch() { return {scratch_.get(), kScratchBytes}; }

  // For the net folder.
  IoContext& io() { return io_; }

 private:
  void run();
  void drain_inbox();
  void arm_ticker();
  void end_turn();

  WorkerOptions options_;
  IoContext io_{1};
  Inbox<Callback<void()>> inbox_;
  std::vector<Callback<void()>> draining_;
  boost::asio::basic_waitable_timer<std::chrono::steady_clock,
                                    boost::asio::wait_traits<std::chrono::steady_clock>, IoExecutor>
      ticker_;
  DeadlineSet deadlines_;
  bool ticking_ = false;
  std::vector<Callback<void()>> turn_end_;  // of what the lane gathers
  StreamLane stream_lane_;
  std::unique_ptr<char[]> scratch_;
  std::thread thread_;
};

}  // namespace llm_proxy
