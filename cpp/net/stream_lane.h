#pragma once

#include <sys/epoll.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>

#include "base/callback.h"

namespace llm_proxy {

// Where upstream sockets wait for the next event of their stream while many streams are open.
//
// By itself the loop wakes up, and arms a socket anew, for every event of every stream. From kCrowd
// streams on, their sockets wait here instead: in an epoll set of their own that the loop sees as
// one descriptor. If events then come so fast that a pause would gather several, the set is looked
// at once a pause and not once an event. What that costs: an event in the middle of a stream may
// wait for kPause. Nothing else ever waits here: neither a request, nor the head and the first
// output of a reply, nor anything that is said to a client.
//
// Owned by its Worker; lives on it.
//
//   idle ─► watching (the loop waits for the set) ─► gathering ─► watching | resting | idle
//                                   resting (a pause) ─► gathering
class StreamLane {
 public:
  static constexpr std::size_t kCrowd = 32;
  static constexpr std::chrono::microseconds kPause{400};

  // A socket that waits. Called once its bytes or its end are there, as long as they are not taken
  // and it is in the lane.
  class Member {
   public:
    virtual void on_lane_ready() = 0;

   protected:
    ~Member() = default;
  };

  using IoExecutor = boost::asio::io_context::executor_type;

  StreamLane(const IoExecutor& executor, Callback<void()> on_gathered);
  ~StreamLane();
  StreamLane(const StreamLane&) = delete;
  StreamLane& operator=(const StreamLane&) = delete;

  // A stream of this worker has begun; has ended.
  void opened() { ++streams_; }
  void ended() { --streams_; }
  bool crowded() const { return streams_ >= kCrowd; }

  // False: the system has no room for it. `member` stays until removed; its stream removes it when
  // it leaves the lane or closes. A member that was gathered and not yet called is struck out then.
  bool add(int fd, Member& member);
  void remove(int fd, Member& member);
  std::size_t members() const { return members_; }

  // Members are being called: when all have been, `on_gathered` is.
  bool gathering() const { return gathering_; }

 private:
  enum class State : std::uint8_t { idle, watching, resting };

  bool make_set();
  void wait();
  void watch();
  void unwatch();
  void rest();
  void gather();
  void note(std::size_t events);

  using Clock = std::chrono::steady_clock;

  Callback<void()> on_gathered_;
  boost::asio::posix::basic_stream_descriptor<IoExecutor> set_;  // open: the loop may wait for it
  boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, IoExecutor> pause_;
  struct Descriptor {
    ~Descriptor();
    int fd = -1;
  } own_;  // the set, whether the loop knows it or not
  State state_ = State::idle;
  bool gathering_ = false;
  std::size_t streams_ = 0;
  std::size_t members_ = 0;
  std::array<epoll_event, 128> ready_;
  std::size_t next_ = 0, ready_count_ = 0;  // of ready_, while gathering
  Clock::time_point last_;                  // when the set was looked at
  double events_ = 0, seconds_ = 0;         // of late, fading
};

}  // namespace llm_proxy
