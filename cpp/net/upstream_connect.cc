#include "net/upstream_connect.h"

#include <array>
#include <utility>

#include "http/head.h"
#include "http/head_writer.h"
#include "net/proxy_rules.h"
#include "net/tls_client.h"

namespace llm_proxy {
namespace {

constexpr HeadLimits kTunnelLimits{8 << 10, 50};
constexpr int kMaxInterim = 8;

}  // namespace

UpstreamConnect::UpstreamConnect(Worker& worker,
                                 std::shared_ptr<const UpstreamEnvironment> environment,
                                 std::shared_ptr<UpstreamCounters> counters, Endpoint endpoint,
                                 std::chrono::milliseconds timeout, UpstreamPool::OnConnected done)
    : worker_(worker),
      environment_(std::move(environment)),
      counters_(std::move(counters)),
      endpoint_(std::move(endpoint)),
      hop_(environment_->proxies->hop_to(endpoint_)),
      first_stop_(hop_ != nullptr ? hop_->endpoint : endpoint_),
      timeout_(timeout),
      done_(std::move(done)),
      total_([this] { on_expired(); }),
      attempt_([this] { on_attempt_expired(); }) {}

void UpstreamConnect::start() {
  worker_.deadlines(timeout_).arm(total_);
  if (environment_->dial) return dial();
  Addresses known = environment_->resolver->known(first_stop_.host);
  if (!known.empty()) return on_resolved(std::move(known));
  lookup_ = environment_->resolver->resolve(first_stop_.host, worker_,
                                            [self = Self(this)](Result<Addresses> addresses) {
                                              self->on_resolved(std::move(addresses));
                                            });
}

// Posted: nobody is called from within connect().
void UpstreamConnect::dial() {
  environment_->dial(endpoint_, [self = Self(this)](Result<StreamPtr> dialled) {
    self->worker_.post([self, dialled = std::move(dialled)]() mutable {
      if (!self->done_) return;
      if (!dialled) return self->fail(ErrorKind::upstream_unreachable, dialled.error().message);
      self->succeed(*std::move(dialled));
    });
  });
}

void UpstreamConnect::cancel() {
  done_ = nullptr;
  stop();
}

void UpstreamConnect::on_resolved(Result<Addresses> addresses) {
  if (!addresses) {
    return fail(ErrorKind::upstream_unreachable,
                (hop_ == nullptr ? "" : "the proxy: ") + addresses.error().message);
  }
  addresses_ = std::move(*addresses);
  phase_ = "waiting for it to accept";
  try_next_address();
}

void UpstreamConnect::try_next_address() {
  const Tcp::endpoint address(addresses_[next_address_++], first_stop_.port);
  if (next_address_ < addresses_.size())
    worker_.deadlines(environment_->options.attempt_timeout).arm(attempt_);
  socket_.emplace(worker_.io().get_executor());
  socket_->async_connect(address,
                         [self = Self(this), attempt = next_address_](const ErrorCode& error) {
                           if (self->done_ && self->socket_ && attempt == self->next_address_)
                             self->on_connected(error);
                         });
}

void UpstreamConnect::on_connected(const ErrorCode& error) {
  attempt_.disarm();
  if (error) {
    last_failure_ = error.message();
    socket_.reset();
    if (next_address_ < addresses_.size()) return try_next_address();
    return fail(ErrorKind::upstream_unreachable, last_failure_);
  }
  const Tcp::endpoint peer(addresses_[next_address_ - 1], first_stop_.port);
  Socket socket = std::move(*socket_);
  socket_.reset();
  if (hop_ == nullptr && endpoint_.tls) return start_handshake(std::move(socket), peer);
  stream_ = make_stream<SocketStream>(worker_, std::move(socket), peer);
  if (hop_ == nullptr) return succeed(std::move(stream_));
  switch (hop_->kind) {
    case ProxyHop::Kind::http:
      return endpoint_.tls ? open_tunnel() : succeed(std::move(stream_));
    case ProxyHop::Kind::socks5h:
      return open_socks(endpoint_.host);
    case ProxyHop::Kind::socks5:
      break;
  }
  phase_ = "resolving its name";
  if (const Addresses known = environment_->resolver->known(endpoint_.host); !known.empty()) {
    return open_socks(known.front().to_string());
  }
  lookup_ = environment_->resolver->resolve(
      endpoint_.host, worker_, [self = Self(this)](Result<Addresses> addresses) {
        if (!self->done_) return;
        if (!addresses) {
          return self->fail(ErrorKind::upstream_unreachable, addresses.error().message);
        }
        self->open_socks(addresses->front().to_string());
      });
}

void UpstreamConnect::on_attempt_expired() {
  last_failure_ = "an address did not answer in time";
  socket_.reset();
  try_next_address();
}

void UpstreamConnect::open_tunnel() {
  phase_ = "asking the proxy for a tunnel";
  std::string head;
  HeadWriter writer(head);
  writer.request_line("CONNECT", endpoint_.authority()).field("Host", endpoint_.authority());
  if (!hop_->authorization.empty()) writer.field("Proxy-Authorization", hop_->authorization);
  writer.end();
  say(head);
}

// `host`: what the proxy is told, a name or an address.
void UpstreamConnect::open_socks(std::string host) {
  phase_ = "asking the proxy for a connection";
  socks_.emplace(Socks5::Target{std::move(host), endpoint_.port}, hop_->user, hop_->password);
  say(socks_->begin());
}

// Sends `bytes` to the proxy and reads its answer.
void UpstreamConnect::say(const std::string& bytes) {
  const std::array pieces{std::string_view(bytes)};
  if (stream_->write_copied(pieces, [self = Self(this)](ErrorCode error) {
        if (error)
          return self->fail(ErrorKind::upstream_unreachable, "the proxy: " + error.message());
        self->read_tunnel_reply();
      })) {
    read_tunnel_reply();
  }
}

void UpstreamConnect::read_tunnel_reply() {
  stream_->read_scratch([self = Self(this)](ErrorCode error, std::string_view bytes) {
    self->on_tunnel_reply(error, bytes);
  });
}

void UpstreamConnect::on_tunnel_reply(const ErrorCode& error, std::string_view bytes) {
  if (error)
    return fail(ErrorKind::upstream_unreachable,
                "the proxy closed the connection: " + error.message());
  if (socks_) return on_socks_reply(bytes);
  if (!tunnel_.append(bytes))
    return fail(ErrorKind::upstream_unreachable, "the proxy's answer is too long");
  ReplyHead head;
  for (;;) {
    const Result<std::size_t> length = parse_reply_head(tunnel_.view(), kTunnelLimits, true, head);
    if (!length) return fail(ErrorKind::upstream_unreachable, "the proxy's answer is malformed");
    if (*length == 0) return read_tunnel_reply();
    if (!head.interim()) return on_tunnel_head(head, *length);
    if (++interim_ > kMaxInterim) {
      return fail(ErrorKind::upstream_unreachable, "the proxy sends interim replies without end");
    }
    tunnel_.drop_front(*length);
  }
}

void UpstreamConnect::on_tunnel_head(const ReplyHead& head, std::size_t length) {
  if (head.status < 200 || head.status > 299) {
    return fail(
        ErrorKind::upstream_unreachable,
        "the proxy refuses the tunnel with status " + std::to_string(head.status) +
            (head.status == 407 ? ": its URL needs a user and password that it knows" : ""));
  }
  if (length != tunnel_.size())
    return fail(ErrorKind::upstream_unreachable, "the proxy speaks before its turn");
  on_tunnel_open();
}

void UpstreamConnect::on_socks_reply(std::string_view bytes) {
  const Result<std::string> answer = socks_->feed(bytes);
  if (!answer) return fail(ErrorKind::upstream_unreachable, answer.error().message);
  if (socks_->done()) return on_tunnel_open();
  answer->empty() ? read_tunnel_reply() : say(*answer);
}

// What is said from here on is said to the upstream.
void UpstreamConnect::on_tunnel_open() {
  if (!endpoint_.tls) return succeed(std::move(stream_));
  auto& plain = static_cast<SocketStream&>(*stream_);
  const Tcp::endpoint peer = plain.peer();
  start_handshake(plain.release_socket(), peer);
}

void UpstreamConnect::start_handshake(Socket socket, const Tcp::endpoint& peer) {
  phase_ = "in the TLS handshake";
  stream_ = make_stream<TlsStream>(worker_, std::move(socket), peer, *environment_->tls,
                                   endpoint_.host, endpoint_.key);
  static_cast<TlsStream&>(*stream_).handshake(
      [self = Self(this)](const std::string& failure) { self->on_handshake(failure); });
}

void UpstreamConnect::on_handshake(const std::string& failure) {
  if (!done_) return;
  if (!failure.empty()) return fail(ErrorKind::upstream_unreachable, failure);
  succeed(std::move(stream_));
}

void UpstreamConnect::on_expired() {
  std::string cause = "no connection within " + std::to_string(timeout_.count()) + " ms, still ";
  cause += phase_;
  fail(ErrorKind::upstream_timeout, std::move(cause));
}

void UpstreamConnect::succeed(StreamPtr stream) {
  Connection connection(std::move(stream), endpoint_.key, counters_);
  if (hop_ != nullptr && hop_->kind == ProxyHop::Kind::http && !endpoint_.tls) {
    connection.absolute_form_ = true;
    connection.proxy_authorization_ = hop_->authorization;
  }
  settle(std::move(connection));
}

void UpstreamConnect::fail(ErrorKind kind, std::string message) {
  if (message.empty() || message.back() != '.') message += '.';
  Error error{kind, std::move(message)};
  error.detail = endpoint_.authority();
  if (hop_ != nullptr) error.detail += " through the proxy " + hop_->endpoint.authority();
  settle(std::move(error));
}

void UpstreamConnect::settle(Result<Connection> result) {
  const Self self(this);
  auto done = std::exchange(done_, nullptr);
  stop();
  if (done) done(std::move(result));
}

void UpstreamConnect::stop() {
  total_.disarm();
  attempt_.disarm();
  lookup_ = {};
  socket_.reset();
  stream_.reset();
}

}  // namespace llm_proxy
