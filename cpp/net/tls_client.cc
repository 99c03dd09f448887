#include "net/tls_client.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio/error.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ssl/error.hpp>
#include <cerrno>

namespace llm_proxy {
namespace {

constexpr std::size_t kRecordBytes = 16 << 10;  // one TLS record, one system call

// Where distributions keep their authorities: for builds whose OpenSSL was not made for this
// machine.
constexpr std::array kSystemAuthorities{
    "/etc/ssl/certs/ca-certificates.crt",                 // Debian, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",                             // SUSE
    "/etc/ssl/cert.pem",                                  // Alpine, macOS
};

// What the SSL object carries for on_new_session().
struct Origin {
  std::shared_ptr<TlsClient> client;
  std::string key;
};

int origin_index() {
  static const int index = SSL_get_ex_new_index(
      0, nullptr, nullptr, nullptr, [](void*, void* origin, CRYPTO_EX_DATA*, int, long, void*) {
        delete static_cast<Origin*>(origin);
      });
  return index;
}

bool is_address(const std::string& host) {
  boost::system::error_code error;
  boost::asio::ip::make_address(host, error);
  return !error;
}

void load_system_authorities(SSL_CTX* context) {
  SSL_CTX_set_default_verify_paths(context);
  if (::access(X509_get_default_cert_file(), R_OK) == 0) return;
  for (const char* file : kSystemAuthorities) {
    if (::access(file, R_OK) == 0 && SSL_CTX_load_verify_locations(context, file, nullptr) == 1)
      return;
  }
}

}  // namespace

Result<std::shared_ptr<TlsClient>> TlsClient::make(const std::string& ca_file,
                                                   const std::string& ca_dir) {
  std::shared_ptr<TlsClient> client(new TlsClient(SSL_CTX_new(TLS_client_method())));
  SSL_CTX* context = client->context_.get();
  if (context == nullptr) return Error{ErrorKind::internal, "OpenSSL cannot be initialised."};
  if (ca_file.empty() && ca_dir.empty()) {
    load_system_authorities(context);
  } else {
    const char* file = ca_file.empty() ? nullptr : ca_file.c_str();
    const char* dir = ca_dir.empty() ? nullptr : ca_dir.c_str();
    if (SSL_CTX_load_verify_locations(context, file, dir) != 1) {
      ERR_clear_error();
      return Error{ErrorKind::internal, "The certificate authorities in " +
                                            (file != nullptr ? ca_file : ca_dir) +
                                            " cannot be read (SSL_CERT_FILE, SSL_CERT_DIR)."};
    }
  }
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_read_ahead(context, 1);
  constexpr unsigned char kAlpn[] = "\x08http/1.1";
  SSL_CTX_set_alpn_protos(context, kAlpn, sizeof kAlpn - 1);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context, &TlsClient::on_new_session);
  return client;
}

SslPtr TlsClient::start(int fd, const std::string& host, const std::string& key) {
  SslPtr ssl(SSL_new(context_.get()));
  if (!ssl) return ssl;
  SSL_set_fd(ssl.get(), fd);
  SSL_set_connect_state(ssl.get());
  SSL_set_ex_data(ssl.get(), origin_index(), new Origin{shared_from_this(), key});
  if (is_address(host)) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl.get()), host.c_str());
  } else {
    SSL_set1_host(ssl.get(), host.c_str());
    SSL_set_tlsext_host_name(ssl.get(), host.c_str());
  }
  const std::lock_guard lock(mutex_);
  if (const auto known = sessions_.find(key); known != sessions_.end())
    SSL_set_session(ssl.get(), known->second.get());
  return ssl;
}

int TlsClient::on_new_session(SSL* ssl, SSL_SESSION* session) {
  const auto* origin = static_cast<Origin*>(SSL_get_ex_data(ssl, origin_index()));
  TlsClient& client = *origin->client;
  const std::lock_guard lock(client.mutex_);
  if (client.sessions_.size() >= kMaxSessions && !client.sessions_.contains(origin->key)) {
    client.sessions_.erase(client.sessions_.begin());
  }
  client.sessions_[origin->key] = SessionPtr(session);
  return 1;  // the reference is ours now
}

TlsStream::TlsStream(Worker& worker, Socket socket, Tcp::endpoint peer, TlsClient& client,
                     const std::string& host, const std::string& key)
    : SocketStream(worker, std::move(socket), std::move(peer)),
      ssl_(client.start(fd(), host, key)) {}

void TlsStream::handshake(Callback<void(std::string)> done) {
  handshake_done_ = std::move(done);
  go_on_with_handshake();
}

void TlsStream::go_on_with_handshake() {
  ERR_clear_error();
  const Transfer step = outcome(SSL_do_handshake(ssl_.get()));
  if (step.progress == Progress::want_read || step.progress == Progress::want_write) {
    return when_ready(step.progress, [this] { go_on_with_handshake(); });
  }
  auto done = std::exchange(handshake_done_, nullptr);
  done(step.progress == Progress::failed ? handshake_failure(step) : std::string());
}

std::string TlsStream::handshake_failure(const Transfer& outcome) const {
  const long verdict = SSL_get_verify_result(ssl_.get());
  if (verdict != X509_V_OK) {
    return std::string("its certificate is not accepted: ")
        .append(X509_verify_cert_error_string(verdict));
  }
  return is_eof(outcome.error) ? "the connection was closed during the TLS handshake"
                               : "the TLS handshake failed: " + outcome.error.message();
}

SocketStream::Transfer TlsStream::outcome(int returned) {
  if (returned > 0) return {Progress::some, static_cast<std::size_t>(returned), {}};
  const int failure = errno;
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ:
      return {Progress::want_read, 0, {}};
    case SSL_ERROR_WANT_WRITE:
      return {Progress::want_write, 0, {}};
    case SSL_ERROR_ZERO_RETURN:
      return {Progress::failed, 0, boost::asio::error::eof};
    case SSL_ERROR_SYSCALL: {
      broken_ = true;
      if (failure == 0) return {Progress::failed, 0, boost::asio::ssl::error::stream_truncated};
      return {Progress::failed, 0, ErrorCode(failure, boost::system::system_category())};
    }
    default: {
      broken_ = true;
      const unsigned long reason = ERR_get_error();
      if (ERR_GET_REASON(reason) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
        return {Progress::failed, 0, boost::asio::ssl::error::stream_truncated};
      }
      return {Progress::failed, 0,
              ErrorCode(static_cast<int>(reason), boost::asio::error::get_ssl_category())};
    }
  }
}

SocketStream::Transfer TlsStream::receive(std::span<char> into) {
  ERR_clear_error();
  errno = 0;
  const int room = static_cast<int>(std::min<std::size_t>(into.size(), 1 << 30));
  return outcome(SSL_read(ssl_.get(), into.data(), room));
}

// Small pieces share a record: a head and its body leave in one system call. What was offered is
// offered again after waiting, from the same bytes, as OpenSSL demands.
SocketStream::Transfer TlsStream::send(std::span<const std::string_view> pieces) {
  thread_local std::array<char, kRecordBytes> record;
  std::size_t sent = 0;
  while (!pieces.empty()) {
    std::string_view next = pieces.front();
    std::size_t used = 1;
    if (next.size() < kRecordBytes && pieces.size() > 1) {
      std::size_t filled = 0;
      for (used = 0; used < pieces.size() && filled + pieces[used].size() <= kRecordBytes; ++used) {
        std::copy(pieces[used].begin(), pieces[used].end(), record.data() + filled);
        filled += pieces[used].size();
      }
      next = {record.data(), filled};
    }
    pieces = pieces.subspan(used);
    while (!next.empty()) {
      ERR_clear_error();
      errno = 0;
      const int offered = static_cast<int>(std::min(next.size(), kRecordBytes));
      Transfer step = outcome(SSL_write(ssl_.get(), next.data(), offered));
      if (step.progress != Progress::some) {
        step.bytes = sent;
        return step;
      }
      sent += step.bytes;
      next.remove_prefix(step.bytes);
    }
  }
  return {Progress::some, sent, {}};
}

bool TlsStream::quiet() {
  if (closed()) return false;
  ERR_clear_error();
  errno = 0;
  char byte = 0;
  return outcome(SSL_peek(ssl_.get(), &byte, 1)).progress == Progress::want_read;
}

void TlsStream::say_goodbye() {
  if (broken_ || !ssl_ || SSL_in_init(ssl_.get()) != 0 ||
      (SSL_get_shutdown(ssl_.get()) & SSL_SENT_SHUTDOWN) != 0) {
    return;
  }
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

}  // namespace llm_proxy
