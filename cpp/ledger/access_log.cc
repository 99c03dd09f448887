#include "ledger/access_log.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace llm_proxy {
namespace {

constexpr std::size_t kMaxPending = 4u << 20;
constexpr auto kGather = std::chrono::milliseconds(100);

}  // namespace

AccessLog::~AccessLog() {
  close();
}

Result<void> AccessLog::open(const std::string& path, bool json) {
  json_ = json;
  if (path.empty()) {
    file_ = STDERR_FILENO;
  } else {
    file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (file_ < 0) {
      return Error{ErrorKind::internal, "access log " + path + ": " + std::strerror(errno)};
    }
  }
  // The thread inherits a mask without signals: those belong to the hosting program's main thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  writer_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {};
}

void AccessLog::append(const ExchangeRecord& record) {
  if (file_ < 0) return;
  thread_local std::string line;
  line.clear();
  json_ ? append_access_json(record, line) : append_access_line(record, line);
  line += '\n';
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (pending_.size() + line.size() > kMaxPending) {
      ++dropped_;
      return;
    }
    first = pending_.empty();
    pending_ += line;
  }
  if (first) wake_.notify_one();
}

void AccessLog::close() {
  if (writer_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    writer_.join();
  }
  if (file_ > STDERR_FILENO) ::close(file_);
  file_ = -1;
  stopping_ = false;
}

void AccessLog::run() {
  std::unique_lock lock(mutex_);
  std::string writing;
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !pending_.empty(); });
    // Gather: one write for all lines of a moment, and no wake-up per request.
    if (!stopping_) wake_.wait_for(lock, kGather, [this] { return stopping_; });
    writing.clear();
    writing.swap(pending_);
    const auto dropped = std::exchange(dropped_, 0);
    const bool last = stopping_;
    lock.unlock();
    if (dropped > 0) {
      writing +=
          "access log: " + std::to_string(dropped) + " lines dropped, the log could not keep up\n";
    }
    write_out(writing);
    lock.lock();
    if (last && pending_.empty()) return;
  }
}

void AccessLog::write_out(const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const auto written = ::write(file_, text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // a full disk or a closed pipe loses log lines, never traffic
    done += static_cast<std::size_t>(written);
  }
}

}  // namespace llm_proxy
