#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/callback.h"
#include "base/deadline_list.h"
#include "base/result.h"
#include "net/byte_stream.h"
#include "net/endpoint.h"
#include "net/upstream_environment.h"

namespace llm_proxy {

class Worker;

// How many connections a pool has; read from any thread.
struct UpstreamCounters {
  std::atomic<std::uint64_t> open{0};  // idle ones included
  std::atomic<std::uint64_t> idle{0};
};

// A connection to an upstream, ours alone until released to the pool or destroyed, which closes it.
// Lives on its worker.
class Connection {
 public:
  Connection(StreamPtr stream, std::string key, std::shared_ptr<UpstreamCounters> counters);
  Connection(Connection&&) noexcept = default;
  Connection& operator=(Connection&&) noexcept;
  ~Connection();

  ByteStream& stream() { return *stream_; }
  // Carried a request before: if it dies before the first reply byte, the upstream may simply have
  // closed it.
  bool reused() const { return reused_; }
  // The peer is an HTTP proxy that wants `GET http://host/path`, and this as Proxy-Authorization
  // unless empty.
  bool absolute_form() const { return absolute_form_; }
  std::string_view proxy_authorization() const { return proxy_authorization_; }

 private:
  friend class UpstreamPool;
  friend class UpstreamConnect;

  StreamPtr stream_;
  std::string key_;  // the endpoint's
  std::shared_ptr<UpstreamCounters> counters_;
  std::string proxy_authorization_;
  bool reused_ = false;
  bool absolute_form_ = false;
};

// A connect under way. Destroying it cancels the connect: its handler is not called.
class UpstreamConnect;
struct UpstreamConnectCloser {
  void operator()(UpstreamConnect* connect) const;
};
using ConnectTicket = std::unique_ptr<UpstreamConnect, UpstreamConnectCloser>;

// One worker's connections to upstreams: opens them, keeps the idle ones, hands out the one used
// last.
//
// Owned by the worker's part of the server; lives on the worker; destroyed there, or after the
// worker was joined. An idle connection keeps a read pending: one that the peer closes, or that
// says anything while nobody asked, is dropped and never handed out.
class UpstreamPool {
 public:
  using OnConnected = Callback<void(Result<Connection>)>;

  UpstreamPool(Worker& worker, std::shared_ptr<const UpstreamEnvironment> environment);
  ~UpstreamPool();
  UpstreamPool(const UpstreamPool&) = delete;
  UpstreamPool& operator=(const UpstreamPool&) = delete;

  // An idle connection, if there is one: no system call but the one that sees whether it is still
  // good.
  std::optional<Connection> take_idle(const Endpoint& endpoint);

  // Opens a fresh connection: name, each address in turn, proxy, TLS, all within `timeout`. `done`
  // is called later, never from within: with upstream_unreachable or upstream_timeout if it fails,
  // a message that names host, port and cause. Destroy the ticket at the latest in `done` or with
  // its owner.
  [[nodiscard]] ConnectTicket connect(const Endpoint& endpoint, std::chrono::milliseconds timeout,
                                      OnConnected done);

  // Gives a connection back after a reply that ended where it should, with nothing after it and
  // nothing pending.
  void release(Connection connection);

  // Closes the idle ones: at drain.
  void close_idle();

  const UpstreamCounters& counters() const { return *counters_; }

 private:
  struct Idle;
  using IdleList = std::list<Idle>;
  void drop(Idle& idle);

  Worker& worker_;
  const std::shared_ptr<const UpstreamEnvironment> environment_;
  const std::shared_ptr<UpstreamCounters> counters_;
  std::unordered_map<std::string, IdleList> idle_;
};

}  // namespace llm_proxy
