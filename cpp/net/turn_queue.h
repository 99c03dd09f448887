#pragma once

#include <deque>

#include "base/callback.h"

namespace llm_proxy {

class Worker;

// Long work of a worker in slices: one slice a turn of its loop, one task after the other, so that
// every other connection of the worker is served in between.
//
// Owned by the worker's context; lives on the worker.
class TurnQueue {
 public:
  // Does one slice of its work. True: there is more, call it again when its turn comes.
  using Slice = Callback<bool()>;

  explicit TurnQueue(Worker& worker) : worker_(worker) {}
  TurnQueue(const TurnQueue&) = delete;
  TurnQueue& operator=(const TurnQueue&) = delete;

  // Never calls `slice` from within.
  void add(Slice slice);
  std::size_t size() const { return tasks_.size(); }

 private:
  void post();
  void run_one();

  Worker& worker_;
  std::deque<Slice> tasks_;
  bool posted_ = false;
};

}  // namespace llm_proxy
