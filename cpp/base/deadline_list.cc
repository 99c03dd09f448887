#include "base/deadline_list.h"

#include <algorithm>
#include <utility>

namespace llm_proxy {

void Deadline::disarm() {
  if (list_ != nullptr) list_->remove(*this);
}

DeadlineList::~DeadlineList() {
  while (first_ != nullptr) remove(*first_);
}

void DeadlineList::arm(Deadline& deadline) {
  deadline.disarm();
  deadline.since_ = set_.clock_.now();
  append(deadline);
  if (set_.armed_++ == 0) set_.on_first_();
}

void DeadlineList::append(Deadline& deadline) {
  deadline.list_ = this;
  deadline.previous_ = last_;
  deadline.next_ = nullptr;
  (last_ != nullptr ? last_->next_ : first_) = &deadline;
  last_ = &deadline;
}

void DeadlineList::remove(Deadline& deadline) {
  (deadline.previous_ != nullptr ? deadline.previous_->next_ : first_) = deadline.next_;
  (deadline.next_ != nullptr ? deadline.next_->previous_ : last_) = deadline.previous_;
  deadline.list_ = nullptr;
  --set_.armed_;
}

DeadlineList& DeadlineSet::list(std::chrono::milliseconds after) {
  after = std::max(after, std::chrono::milliseconds(1));
  for (const auto& list : lists_) {
    if (list->after() == after) return *list;
  }
  return *lists_.emplace_back(std::make_unique<DeadlineList>(*this, after));
}

void DeadlineSet::expire() {
  const TimePoint now = clock_.now();
  for (std::size_t i = 0; i < lists_.size(); ++i) {  // by index: a callback may ask for a new list
    DeadlineList& list = *lists_[i];
    while (list.first_ != nullptr && list.first_->since_ + list.after_ <= now) {
      Deadline& due = *list.first_;
      list.remove(due);
      due.on_expired_();
    }
  }
}

}  // namespace llm_proxy
