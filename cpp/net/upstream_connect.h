#pragma once

#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "base/deadline_list.h"
#include "http/head.h"
#include "net/resolver.h"
#include "net/socket_stream.h"
#include "net/socks5.h"
#include "net/upstream_pool.h"
#include "net/worker.h"

namespace llm_proxy {

struct ProxyHop;
class TlsStream;

// One attempt to get a connection to an upstream, from its name to the end of the TLS handshake.
//
// Kept alive by its ticket and by the handlers under way; lives on the pool's worker.
//
//   resolving ─► connecting (each address in turn) ─► tunnelling (through a proxy) ─► handshaking
//   ─► settled
//        └────────────────┴──────────────────────────────────┴──────────────────────────┴─► settled
//        (Error)
class UpstreamConnect
    : public boost::intrusive_ref_counter<UpstreamConnect, boost::thread_unsafe_counter> {
 public:
  UpstreamConnect(Worker& worker, std::shared_ptr<const UpstreamEnvironment> environment,
                  std::shared_ptr<UpstreamCounters> counters, Endpoint endpoint,
                  std::chrono::milliseconds timeout, UpstreamPool::OnConnected done);

  void start();
  void cancel();

 private:
  using Self = boost::intrusive_ptr<UpstreamConnect>;

  void dial();
  void on_resolved(Result<Addresses> addresses);
  void try_next_address();
  void on_connected(const ErrorCode& error);
  void on_attempt_expired();
  void open_tunnel();
  void open_socks(std::string host);
  void say(const std::string& bytes);
  void read_tunnel_reply();
  void on_tunnel_head(const ReplyHead& head, std::size_t length);
  void on_tunnel_reply(const ErrorCode& error, std::string_view bytes);
  void on_socks_reply(std::string_view bytes);
  void on_tunnel_open();
  void start_handshake(Socket socket, const Tcp::endpoint& peer);
  void on_handshake(const std::string& failure);
  void on_expired();

  void succeed(StreamPtr stream);
  void fail(ErrorKind kind, std::string message);
  void settle(Result<Connection> result);
  void stop();

  Worker& worker_;
  const std::shared_ptr<const UpstreamEnvironment> environment_;
  const std::shared_ptr<UpstreamCounters> counters_;
  const Endpoint endpoint_;
  const ProxyHop* const hop_;   // null: directly
  const Endpoint& first_stop_;  // the proxy or the upstream
  const std::chrono::milliseconds timeout_;
  UpstreamPool::OnConnected done_;

  std::string_view phase_ = "resolving its name";  // for the message when time runs out
  Deadline total_;
  Deadline attempt_;
  Resolver::Lookup lookup_;
  Addresses addresses_;
  std::size_t next_address_ = 0;
  std::string last_failure_;
  std::optional<Socket> socket_;
  StreamPtr stream_;                                          // while tunnelling or handshaking
  BoundedBuffer tunnel_{Worker::kScratchBytes + (8u << 10)};  // the proxy's answer so far
  int interim_ = 0;
  std::optional<Socks5> socks_;
};

}  // namespace llm_proxy
