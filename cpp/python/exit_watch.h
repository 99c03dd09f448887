#pragma once

#include <semaphore.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "python/py_lane.h"

namespace llm_proxy {

// Ends the process when the interpreter does not. Python sees a signal when the code it runs gives
// way; a plugin inside a call of C never does. So the signals that ask the process to stop are
// noted here too: from the first on the process has `grace` to end by itself, a second ends it at
// once. Then standard error is told which plugin was running, and the process ends without the
// interpreter, with status 128 + the signal.
//
// One per process, made on the main thread behind whatever else wants these signals, which keeps
// getting them. It is never taken back: the end of the interpreter is watched as well. Its thread
// never takes the GIL.
class ExitWatch {
 public:
  // Throws std::runtime_error when there is one already, or no thread.
  ExitWatch(const std::vector<int>& signals, std::chrono::milliseconds grace);
  ExitWatch(const ExitWatch&) = delete;
  ExitWatch& operator=(const ExitWatch&) = delete;

  // Whose plugins are named. Any thread.
  void follow(std::shared_ptr<LaneInbox> inbox);

 private:
  void watch();
  [[noreturn]] void end(int signum, const char* why);

  const std::chrono::milliseconds grace_;
  std::mutex mutex_;
  std::shared_ptr<LaneInbox> inbox_;  // guarded by mutex_
};

}  // namespace llm_proxy
