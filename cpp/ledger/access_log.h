#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"
#include "ledger/record.h"

namespace llm_proxy {

// The access log: one line an exchange, written by a thread of its own so that traffic never waits
// for a disk.
//
// Owned by the Server. `append` is called on any worker; the lines of about a tenth of a second go
// out together. When the writer cannot keep up, lines beyond 4 MiB are dropped and their number is
// written instead.
class AccessLog {
 public:
  AccessLog() = default;
  ~AccessLog();  // writes what is left
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;

  // `path` empty: standard error. `json`: an object a line. An error names the file and the cause.
  Result<void> open(const std::string& path, bool json = false);
  void append(const ExchangeRecord& record);
  void close();

 private:
  void run();
  void write_out(const std::string& text);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::string pending_;
  std::uint64_t dropped_ = 0;
  bool stopping_ = false;
  std::thread writer_;
  int file_ = -1;
  bool json_ = false;
};

}  // namespace llm_proxy
