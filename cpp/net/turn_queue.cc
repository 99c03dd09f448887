#include "net/turn_queue.h"

#include <utility>

#include "net/worker.h"

namespace llm_proxy {

void TurnQueue::add(Slice slice) {
  tasks_.push_back(std::move(slice));
  post();
}

void TurnQueue::post() {
  if (tasks_.empty() || std::exchange(posted_, true)) return;
  worker_.post([this] { run_one(); });
}

void TurnQueue::run_one() {
  posted_ = false;
  Slice slice = std::move(tasks_.front());
  tasks_.pop_front();
  post();  // before the slice, which may throw: the others go on
  if (!slice()) return;
  tasks_.push_back(std::move(slice));
  post();
}

}  // namespace llm_proxy
