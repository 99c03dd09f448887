#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/callback.h"
#include "base/result.h"
#include "net/socket_stream.h"

namespace llm_proxy {

struct SslDeleter {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
using SslPtr = std::unique_ptr<SSL, SslDeleter>;

// How we speak TLS to upstreams: TLS 1.2 or newer, chain and host name verified, sessions resumed,
// HTTP/1.1 by ALPN.
//
// One for the whole process, shared by all workers; thread safe (a leaf mutex around the sessions,
// taken at handshakes).
class TlsClient : public std::enable_shared_from_this<TlsClient> {
 public:
  // Certificate authorities from a file and a directory; both empty: the system's. An Error says
  // which is unreadable.
  static Result<std::shared_ptr<TlsClient>> make(const std::string& ca_file,
                                                 const std::string& ca_dir);

  // A session towards `host` on a connected socket. `key` names the endpoint whose session may be
  // resumed. The session keeps this client: tickets come at any time of its life.
  SslPtr start(int fd, const std::string& host, const std::string& key);

 private:
  using SessionPtr = std::unique_ptr<SSL_SESSION, SslDeleter>;
  static constexpr std::size_t kMaxSessions = 256;

  explicit TlsClient(SSL_CTX* context) : context_(context) {}
  static int on_new_session(SSL* ssl, SSL_SESSION* session);

  std::unique_ptr<SSL_CTX, SslDeleter> context_;
  std::mutex mutex_;
  std::unordered_map<std::string, SessionPtr> sessions_;
};

// A TLS connection to an upstream. Holds no buffers of its own while idle
// (SSL_MODE_RELEASE_BUFFERS).
class TlsStream final : public SocketStream {
 public:
  TlsStream(Worker& worker, Socket socket, Tcp::endpoint peer, TlsClient& client,
            const std::string& host, const std::string& key);

  // Before anything is read or written. The argument of `done` says what failed; empty: nothing.
  void handshake(Callback<void(std::string)> done);

  bool quiet() override;
  // The handshake resumed an earlier session.
  bool resumed() const { return SSL_session_reused(ssl_.get()) != 0; }

 protected:
  Transfer receive(std::span<char> into) override;
  Transfer send(std::span<const std::string_view> pieces) override;
  bool has_buffered() const override { return SSL_has_pending(ssl_.get()) != 0; }
  void say_goodbye() override;

 private:
  void go_on_with_handshake();
  Transfer outcome(int returned);
  std::string handshake_failure(const Transfer& outcome) const;

  SslPtr ssl_;
  bool broken_ = false;  // a fatal error: no goodbye may be said
  Callback<void(std::string)> handshake_done_;
};

}  // namespace llm_proxy
