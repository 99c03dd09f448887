#pragma once

#include <boost/asio/ip/address.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/callback.h"
#include "base/result.h"
#include "base/worker_post.h"

namespace llm_proxy {

using Addresses = std::vector<boost::asio::ip::address>;

// Turns host names into addresses, off the io threads, and remembers them for a while.
//
// One for the whole process, shared by all workers; thread safe (one leaf mutex). Lookups of the
// same name share one getaddrinfo; at most kMaxThreads run at a time, on detached threads that end
// when there is nothing left to look up and touch nothing but the shared state, so that a name
// server that hangs cannot hold up the end of the process.
class Resolver {
 public:
  static constexpr std::size_t kMaxThreads = 4;
  static constexpr std::size_t kMaxCached = 1024;
  using Done = Callback<void(Result<Addresses>)>;

  explicit Resolver(std::chrono::milliseconds ttl);

  // A lookup under way. Destroyed on its worker, at the latest before the worker is: `done` is then
  // not called.
  class Lookup {
   public:
    Lookup() = default;
    Lookup(Lookup&& other) noexcept = default;
    Lookup& operator=(Lookup&& other) noexcept;
    ~Lookup();

   private:
    friend class Resolver;
    struct Waiter;
    std::shared_ptr<Waiter> waiter_;
  };

  // The addresses, if `host` is one itself or is remembered; else empty.
  Addresses known(const std::string& host);
  // Calls `done` on `worker`, later. upstream_unreachable if the name has no address.
  [[nodiscard]] Lookup resolve(const std::string& host, WorkerPost& worker, Done done);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace llm_proxy
