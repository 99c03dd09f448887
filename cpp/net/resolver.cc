#include "net/resolver.h"

#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

namespace llm_proxy {
namespace {

using Time = std::chrono::steady_clock::time_point;

Result<Addresses> look_up(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  int failure = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (failure == EAI_NONAME ||
      failure == EAI_BADFLAGS) {  // a machine with loopback only has no "configured" family
    hints.ai_flags = 0;
    failure = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  }
  if (failure != 0) {
    return Error{ErrorKind::upstream_unreachable,
                 "its name cannot be resolved: " + std::string(::gai_strerror(failure)) + "."};
  }
  Addresses addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(entry->ai_addr);
      addresses.emplace_back(boost::asio::ip::address_v4(ntohl(v4->sin_addr.s_addr)));
    } else if (entry->ai_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ai_addr);
      boost::asio::ip::address_v6::bytes_type bytes;
      std::memcpy(bytes.data(), &v6->sin6_addr, bytes.size());
      addresses.emplace_back(boost::asio::ip::address_v6(bytes, v6->sin6_scope_id));
    }
  }
  ::freeaddrinfo(found);
  if (addresses.empty()) {
    return Error{ErrorKind::upstream_unreachable, "its name has no address."};
  }
  return addresses;
}

}  // namespace

// `done` belongs to the worker; the rest to the state's mutex.
struct Resolver::Lookup::Waiter {
  std::weak_ptr<State> state;
  std::string host;
  WorkerPost* worker;
  Done done;
  bool cancelled = false;
};

struct Resolver::State {
  using WaiterPtr = std::shared_ptr<Lookup::Waiter>;
  struct Cached {
    Addresses addresses;
    Time until;
  };

  explicit State(std::chrono::milliseconds ttl) : ttl(ttl) {}

  // The body of a helper thread: one name after another until none is wanted.
  static void serve(const std::shared_ptr<State>& state) {
    for (;;) {
      std::string host;
      {
        const std::lock_guard lock(state->mutex);
        if (state->queue.empty()) {
          --state->threads;
          return;
        }
        host = std::move(state->queue.front());
        state->queue.pop_front();
      }
      state->settle(host, look_up(host));
    }
  }

  void settle(const std::string& host, Result<Addresses> result) {
    const std::lock_guard lock(mutex);
    if (result) {
      if (cache.size() >= kMaxCached) cache.clear();
      cache[host] = {*result, std::chrono::steady_clock::now() + ttl};
    }
    // Posted under the mutex: a waiter that is still here has not been cancelled, so its worker
    // lives.
    for (WaiterPtr& waiter : std::exchange(waiting[host], {})) {
      WorkerPost& worker = *waiter->worker;
      worker.post([waiter = std::move(waiter), result]() mutable {
        if (auto done = std::exchange(waiter->done, nullptr)) done(std::move(result));
      });
    }
    waiting.erase(host);
  }

  const std::chrono::milliseconds ttl;
  std::mutex mutex;
  std::deque<std::string> queue;
  std::unordered_map<std::string, std::vector<WaiterPtr>> waiting;
  std::unordered_map<std::string, Cached> cache;
  std::size_t threads = 0;
};

Resolver::Resolver(std::chrono::milliseconds ttl) : state_(std::make_shared<State>(ttl)) {}

Resolver::Lookup& Resolver::Lookup::operator=(Lookup&& other) noexcept {
  std::swap(waiter_, other.waiter_);
  return *this;
}

Resolver::Lookup::~Lookup() {
  if (!waiter_) return;
  waiter_->done = nullptr;
  const auto state = waiter_->state.lock();
  if (!state) return;
  const std::lock_guard lock(state->mutex);
  if (const auto found = state->waiting.find(waiter_->host); found != state->waiting.end()) {
    std::erase(found->second, waiter_);
  }
}

Addresses Resolver::known(const std::string& host) {
  boost::system::error_code error;
  const auto literal = boost::asio::ip::make_address(host, error);
  if (!error) return {literal};
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->cache.find(host);
  if (found == state_->cache.end() || found->second.until < std::chrono::steady_clock::now())
    return {};
  return found->second.addresses;
}

Resolver::Lookup Resolver::resolve(const std::string& host, WorkerPost& worker, Done done) {
  Lookup lookup;
  lookup.waiter_ =
      std::make_shared<Lookup::Waiter>(Lookup::Waiter{state_, host, &worker, std::move(done)});
  const std::lock_guard lock(state_->mutex);
  const auto [entry, first] = state_->waiting.try_emplace(host);
  entry->second.push_back(lookup.waiter_);
  if (!first) return lookup;
  state_->queue.push_back(host);
  if (state_->threads < kMaxThreads) {
    ++state_->threads;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([state = state_] { State::serve(state); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  return lookup;
}

}  // namespace llm_proxy
