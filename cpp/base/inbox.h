#pragma once

#include <mutex>
#include <utility>
#include <vector>

namespace llm_proxy {

// What other threads leave for one thread: many push, one takes everything at once.
//
// The mutex is a leaf, held for a push or a swap only. Order of pushes is kept. Unbounded by
// itself: whoever pushes is bounded (an exchange has at most a few messages under way).
template <typename T>
class Inbox {
 public:
  // True if the inbox was empty: the owner must then be woken, once for all that follows.
  bool push(T item) {
    const std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
    return items_.size() == 1;
  }

  // Swaps what is there with `out`, which is cleared first: its capacity is used for the next
  // round.
  void take(std::vector<T>& out) {
    out.clear();
    const std::lock_guard lock(mutex_);
    out.swap(items_);
  }

 private:
  std::mutex mutex_;
  std::vector<T> items_;
};

}  // namespace llm_proxy
