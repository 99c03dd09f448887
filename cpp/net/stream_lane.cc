#include "net/stream_lane.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "base/log.h"

namespace llm_proxy {
namespace {

constexpr double kFading = 0.95;      // of what was seen, with each look
constexpr double kWorthAPause = 1.5;  // events that a pause gathers

// As in the loop: out of memory, or a defect, costs one event; the others go on.
template <typename Work>
void guarded(Work work) {
  try {
    work();
  } catch (const std::exception& failure) {
    log(LogLevel::error, "stream lane: ", failure.what());
  }
}

}  // namespace

StreamLane::Descriptor::~Descriptor() {
  if (fd >= 0) ::close(fd);
}

StreamLane::StreamLane(const IoExecutor& executor, Callback<void()> on_gathered)
    : on_gathered_(std::move(on_gathered)), set_(executor), pause_(executor) {}

// One of the two owners of the descriptor lets go of it, so that it is closed once.
StreamLane::~StreamLane() {
  unwatch();
}

bool StreamLane::make_set() {
  if (own_.fd < 0) own_.fd = ::epoll_create1(EPOLL_CLOEXEC);
  return own_.fd >= 0;
}

bool StreamLane::add(int fd, Member& member) {
  if (!make_set()) return false;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &member;
  if (::epoll_ctl(own_.fd, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  ++members_;
  if (state_ == State::idle && !gathering_) watch();
  return true;
}

void StreamLane::remove(int fd, Member& member) {
  epoll_event none{};
  ::epoll_ctl(own_.fd, EPOLL_CTL_DEL, fd, &none);
  --members_;
  for (std::size_t i = next_; i < ready_count_; ++i) {
    if (ready_[i].data.ptr == &member) ready_[i].data.ptr = nullptr;
  }
}

void StreamLane::wait() {
  if (members_ == 0) {
    unwatch();
    state_ = State::idle;
  } else if (members_ >= kCrowd && seconds_ > 0 &&
             events_ / seconds_ * std::chrono::duration<double>(kPause).count() >= kWorthAPause) {
    rest();
  } else {
    watch();
  }
}

void StreamLane::watch() {
  state_ = State::watching;
  if (!set_.is_open()) {
    boost::system::error_code error;
    set_.assign(own_.fd, error);
    if (error) return rest();  // the loop has no room for it: then by the clock
  }
  set_.async_wait(set_.wait_read, [this](const boost::system::error_code& error) {
    if (!error && state_ == State::watching) gather();
  });
}

// Otherwise the loop would wake up for what the lane does not want to know yet.
void StreamLane::unwatch() {
  if (set_.is_open()) set_.release();
}

void StreamLane::rest() {
  unwatch();
  state_ = State::resting;
  pause_.expires_after(kPause);
  pause_.async_wait([this](const boost::system::error_code& error) {
    if (!error) gather();
  });
}

void StreamLane::gather() {
  const int count = ::epoll_wait(own_.fd, ready_.data(), static_cast<int>(ready_.size()), 0);
  ready_count_ = count > 0 ? static_cast<std::size_t>(count) : 0;
  note(ready_count_);
  gathering_ = true;
  for (next_ = 0; next_ < ready_count_;) {
    auto* member = static_cast<Member*>(ready_[next_++].data.ptr);
    if (member != nullptr) guarded([member] { member->on_lane_ready(); });
  }
  next_ = ready_count_ = 0;
  guarded([this] { on_gathered_(); });
  gathering_ = false;
  wait();
}

void StreamLane::note(std::size_t events) {
  const auto now = Clock::now();
  const std::chrono::duration<double> passed = now - std::exchange(last_, now);
  events_ = events_ * kFading + static_cast<double>(events);
  seconds_ = seconds_ * kFading + std::min(passed.count(), 1.0);
}

}  // namespace llm_proxy
