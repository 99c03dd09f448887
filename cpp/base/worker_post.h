#pragma once

#include "base/callback.h"

namespace llm_proxy {

// Runs work on one worker, soon and in order. Implemented by the worker; compared by address, so
// that a host posts once per worker for everything it learnt in one turn. May be called on any
// thread while the worker lives.
class WorkerPost {
 public:
  virtual ~WorkerPost() = default;
  virtual void post(Callback<void()> work) = 0;
};

}  // namespace llm_proxy
