#include "python/exit_watch.h"

#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <stdexcept>
#include <string>

namespace llm_proxy {
namespace {

// What the signal handler touches: it may do no more than this.
constexpr int kSignals = 65;
std::array<struct sigaction, kSignals> before{};
std::atomic<int> last_signal{0};
sem_t told;
std::atomic<bool> made{false};

void on_signal(int signum, siginfo_t* info, void* context) {
  const int error = errno;
  last_signal.store(signum, std::memory_order_relaxed);
  sem_post(&told);
  const struct sigaction& next = before[static_cast<std::size_t>(signum)];
  if ((next.sa_flags & SA_SIGINFO) != 0) {
    if (next.sa_sigaction != nullptr) next.sa_sigaction(signum, info, context);
  } else if (next.sa_handler != SIG_DFL && next.sa_handler != SIG_IGN) {
    next.sa_handler(signum);
  }
  errno = error;
}

// Waits for a signal; false when `until` has passed first; null: it waits for ever.
bool wait_for_signal(const std::chrono::steady_clock::time_point* until) {
  for (;;) {
    int got = 0;
    if (until == nullptr) {
      got = sem_wait(&told);
    } else {
      const auto at = until->time_since_epoch();
      const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(at);
      const timespec limit{seconds.count(), static_cast<long>((at - seconds).count())};
      got = sem_clockwait(&told, CLOCK_MONOTONIC, &limit);
    }
    if (got == 0) return true;
    if (errno != EINTR) return false;
  }
}

}  // namespace

ExitWatch::ExitWatch(const std::vector<int>& signals, std::chrono::milliseconds grace)
    : grace_(grace) {
  if (made.exchange(true)) throw std::runtime_error("the process has its exit watch already");
  if (sem_init(&told, 0, 0) != 0) throw std::runtime_error("no semaphore for the exit watch");
  // Signals go to other threads: this one must not be the one they interrupt.
  sigset_t all, mask;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &mask);
  std::thread thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  thread.detach();
  for (const int signum : signals) {
    if (signum <= 0 || signum >= kSignals) continue;
    auto& place = before[static_cast<std::size_t>(signum)];
    if (sigaction(signum, nullptr, &place) != 0) continue;
    struct sigaction own = place;
    own.sa_flags |= SA_SIGINFO;
    own.sa_sigaction = &on_signal;
    sigaction(signum, &own, nullptr);
  }
}

void ExitWatch::follow(std::shared_ptr<LaneInbox> inbox) {
  const std::lock_guard lock(mutex_);
  inbox_ = std::move(inbox);
}

void ExitWatch::watch() {
  if (!wait_for_signal(nullptr)) return;
  const int first = last_signal.load(std::memory_order_relaxed);
  const auto until = std::chrono::steady_clock::now() + grace_;
  if (wait_for_signal(&until)) {
    end(last_signal.load(std::memory_order_relaxed), "a second signal has come");
  }
  end(first, "it has not stopped in time");
}

void ExitWatch::end(int signum, const char* why) {
  std::string text = "llm-proxy: ending at once, for ";
  text += why;
  LaneInbox::Running running;
  {
    const std::lock_guard lock(mutex_);
    if (inbox_) running = inbox_->running();
  }
  if (running.name != nullptr) {
    text += ": the ring plugin '";
    text += running.name;
    text += running.within_limit ? "' is running" : "' is running and does not give way";
  }
  text += ".\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
  ::_exit(128 + signum);
}

}  // namespace llm_proxy
