#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "base/callback.h"
#include "base/clock.h"

namespace llm_proxy {

class DeadlineList;
class DeadlineSet;

// One thing that may take too long: armed in one list at a time, restarted for the price of a list
// splice.
//
// A member of whatever it guards; never moved. Lives on the thread of its lists. `on_expired` runs
// at most once per arming and finds the deadline disarmed; it may arm it again or destroy its
// owner.
class Deadline {
 public:
  explicit Deadline(Callback<void()> on_expired) : on_expired_(std::move(on_expired)) {}
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline() { disarm(); }

  void disarm();
  bool armed() const { return list_ != nullptr; }

 private:
  friend class DeadlineList;
  friend class DeadlineSet;

  DeadlineList* list_ = nullptr;
  Deadline* previous_ = nullptr;
  Deadline* next_ = nullptr;
  TimePoint since_{};
  Callback<void()> on_expired_;
};

// All deadlines of one duration, oldest first: expiry looks at the front only.
class DeadlineList {
 public:
  DeadlineList(DeadlineSet& set, std::chrono::milliseconds after) : set_(set), after_(after) {}
  DeadlineList(const DeadlineList&) = delete;
  DeadlineList& operator=(const DeadlineList&) = delete;
  ~DeadlineList();

  // (Re)starts a deadline from now, wherever it was armed before. O(1).
  void arm(Deadline& deadline);

  std::chrono::milliseconds after() const { return after_; }
  bool empty() const { return first_ == nullptr; }

 private:
  friend class Deadline;
  friend class DeadlineSet;
  void append(Deadline& deadline);
  void remove(Deadline& deadline);

  DeadlineSet& set_;
  const std::chrono::milliseconds after_;
  Deadline* first_ = nullptr;
  Deadline* last_ = nullptr;
};

// The deadline lists of one worker, one per duration, and the knowledge whether a ticker is needed
// at all.
//
// Owned by the worker, used on its thread. A duration that is asked for the first time gets a list
// that lives as long as the set; there are as many as different values in the configuration.
class DeadlineSet {
 public:
  // `on_first` runs when a deadline is armed while none was: time to start the ticker.
  DeadlineSet(const Clock& clock, Callback<void()> on_first)
      : clock_(clock), on_first_(std::move(on_first)) {}

  DeadlineList& list(std::chrono::milliseconds after);

  // Runs what is due by now. A deadline armed meanwhile waits for the next call.
  void expire();

  bool empty() const { return armed_ == 0; }

 private:
  friend class Deadline;
  friend class DeadlineList;

  const Clock& clock_;
  Callback<void()> on_first_;
  std::vector<std::unique_ptr<DeadlineList>> lists_;
  std::size_t armed_ = 0;
};

}  // namespace llm_proxy
