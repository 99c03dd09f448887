#include "net/worker.h"

#include <pthread.h>
#include <signal.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <exception>

#include "base/log.h"

namespace llm_proxy {
namespace {

const Clock& machine_clock() {
  static const SteadyClock clock;
  return clock;
}

}  // namespace

Worker::Worker(WorkerOptions options)
    : options_(options),
      ticker_(io_.get_executor()),
      deadlines_(options.clock != nullptr ? *options.clock : machine_clock(),
                 [this] { arm_ticker(); }),
      stream_lane_(io_.get_executor(), [this] { end_turn(); }),
      scratch_(new char[kScratchBytes]) {
  if (options_.clock == nullptr) options_.clock = &machine_clock();
}

Worker::~Worker() {
  stop();
  join();
}

void Worker::start() {
  // The thread inherits the mask of its maker: signals belong to the host's main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Worker::stop() {
  io_.stop();
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::post(Callback<void()> work) {
  if (inbox_.push(std::move(work))) boost::asio::post(io_, [this] { drain_inbox(); });
}

void Worker::run() {
  pthread_setname_np(pthread_self(), ("io-" + std::to_string(options_.index)).c_str());
  const auto guard = boost::asio::make_work_guard(io_);
  while (!io_.stopped()) {
    try {
      io_.run();
    } catch (const std::exception&
                 failure) {  // out of memory, or a defect: one handler is lost, the rest go on
      log(LogLevel::error, "io worker ", options_.index, ": ", failure.what());
    }
  }
}

void Worker::drain_inbox() {
  inbox_.take(draining_);
  for (Callback<void()>& work : draining_) work();
  draining_.clear();
}

void Worker::at_turn_end(Callback<void()> work) {
  if (stream_lane_.gathering()) {
    turn_end_.push_back(std::move(work));
  } else {
    post(std::move(work));
  }
}

void Worker::end_turn() {
  for (Callback<void()>& work : turn_end_) work();
  turn_end_.clear();
}

void Worker::arm_ticker() {
  if (ticking_) return;
  ticking_ = true;
  ticker_.expires_after(options_.tick);
  ticker_.async_wait([this](const boost::system::error_code& error) {
    ticking_ = false;
    if (error) return;
    deadlines_.expire();
    if (!deadlines_.empty()) arm_ticker();
  });
}

}  // namespace llm_proxy
