#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "net/worker.h"

namespace llm_proxy::testing_net {

inline constexpr std::chrono::seconds kPatience{
    10};  // for what should take no time: a failure, not a delay

// A worker on a clock that the test moves.
struct WorkerFixture : testing::Test {
  VirtualClock clock;
  Worker worker{{0, &clock, std::chrono::milliseconds(5)}};

  void SetUp() override { worker.start(); }
  void TearDown() override {
    worker.stop();
    worker.join();
  }

  // Runs `work` on the worker and gives back what it returns.
  template <typename Work>
  auto on_worker(Work work) -> decltype(work()) {
    // Shared: the test may go on while the worker is still leaving the task.
    const auto task = std::make_shared<std::packaged_task<decltype(work())()>>(std::move(work));
    auto done = task->get_future();
    worker.post([task] { (*task)(); });
    return done.get();
  }
  void pass(std::chrono::milliseconds time) {
    clock.advance(time);
    on_worker([this] { worker.check_deadlines(); });
  }
};

// A value that a worker gives and the test waits for.
template <typename T>
class Awaited {
 public:
  void set(T value) {
    const auto promise =
        promise_;  // kept until set_value() has returned, whatever the test does then
    promise->set_value(std::move(value));
  }
  T get() {
    auto future = promise_->get_future();
    if (future.wait_for(kPatience) != std::future_status::ready)
      throw std::runtime_error("it never came");
    return future.get();
  }

 private:
  const std::shared_ptr<std::promise<T>> promise_ = std::make_shared<std::promise<T>>();
};

// A blocking socket of the test: the other side of whatever is tested.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {
    timeval patience{kPatience.count(), 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  Peer(Peer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Peer& operator=(Peer&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Peer() { close(); }

  static Peer connect(std::uint16_t port) {
    Peer peer(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(peer.fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) peer.close();
    return peer;
  }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // Exactly `n` bytes; fewer if the stream ends first.
  std::string receive(std::size_t n) {
    std::string out(n, '\0');
    std::size_t got = 0;
    while (got < n) {
      const ssize_t step = ::recv(fd_, out.data() + got, n - got, 0);
      if (step <= 0) {
        last_errno = step < 0 ? errno : 0;
        break;
      }
      got += static_cast<std::size_t>(step);
    }
    out.resize(got);
    return out;
  }
  std::string receive_head() {
    std::string head;
    while (head.find("\r\n\r\n") == std::string::npos) {
      const std::string byte = receive(1);
      if (byte.empty()) break;
      head += byte;
    }
    return head;
  }
  // The stream ended properly and nothing was left.
  bool at_end() { return receive(1).empty() && last_errno == 0; }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int fd() const { return fd_; }
  bool connected() const { return fd_ >= 0; }

  int last_errno = 0;

 private:
  int fd_;
};

// A listening socket of the test.
class Acceptor {
 public:
  Acceptor() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at);
    ::listen(fd_, 64);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    timeval patience{kPatience.count(), 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }
  ~Acceptor() { ::close(fd_); }
  std::uint16_t port() const { return port_; }
  Peer accept() { return Peer(::accept(fd_, nullptr, nullptr)); }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

// An authority and one certificate of its making, born with the test.
class Certificates {
 public:
  explicit Certificates(const std::string& host) {
    authority_key_.reset(EVP_EC_gen("P-256"));
    authority_.reset(make("Test Authority", authority_key_.get(), nullptr, "CA:TRUE", ""));
    key_.reset(EVP_EC_gen("P-256"));
    leaf_.reset(
        make(host, key_.get(), authority_.get(), "CA:FALSE",
             isdigit(static_cast<unsigned char>(host[0])) != 0 ? "IP:" + host : "DNS:" + host));
    path_ = testing::TempDir() + "authority_" + std::to_string(::getpid()) + "_" + host + ".pem";
    FILE* file = ::fopen(path_.c_str(), "w");
    PEM_write_X509(file, authority_.get());
    ::fclose(file);
    context_.reset(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_use_certificate(context_.get(), leaf_.get());
    SSL_CTX_use_PrivateKey(context_.get(), key_.get());
  }
  ~Certificates() { ::unlink(path_.c_str()); }

  const std::string& authority_file() const { return path_; }
  SSL_CTX* server_context() const { return context_.get(); }

 private:
  template <auto Free>
  struct Deleter {
    template <typename T>
    void operator()(T* object) const {
      Free(object);
    }
  };

  X509* make(const std::string& name, EVP_PKEY* key, X509* issuer, const char* constraints,
             const std::string& alt) {
    static long serial = 1;
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(certificate,
                         X509_get_subject_name(issuer != nullptr ? issuer : certificate));
    add(certificate, NID_basic_constraints, constraints);
    if (!alt.empty()) add(certificate, NID_subject_alt_name, alt);
    X509_sign(certificate, authority_key_.get(), EVP_sha256());
    return certificate;
  }
  static void add(X509* certificate, int what, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, what, value.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }

  std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>> authority_key_;
  std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>> key_;
  std::unique_ptr<X509, Deleter<X509_free>> authority_;
  std::unique_ptr<X509, Deleter<X509_free>> leaf_;
  std::unique_ptr<SSL_CTX, Deleter<SSL_CTX_free>> context_;
  std::string path_;
};

// The server's side of a TLS connection, blocking.
class TlsPeer {
 public:
  TlsPeer(Peer peer, const Certificates& certificates)
      : peer_(std::move(peer)), ssl_(SSL_new(certificates.server_context())) {
    SSL_set_fd(ssl_, peer_.fd());
    accepted_ = SSL_accept(ssl_) == 1;
  }
  TlsPeer(TlsPeer&& other) noexcept
      : peer_(std::move(other.peer_)),
        ssl_(std::exchange(other.ssl_, nullptr)),
        accepted_(other.accepted_) {}
  ~TlsPeer() { SSL_free(ssl_); }

  bool accepted() const { return accepted_; }
  std::string server_name() const {
    const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name);
    return name != nullptr ? name : "";
  }
  bool send(std::string_view bytes) {
    return bytes.empty() || SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size())) > 0;
  }
  std::string receive(std::size_t n) {
    std::string out(n, '\0');
    std::size_t got = 0;
    while (got < n) {
      const int step = SSL_read(ssl_, out.data() + got, static_cast<int>(n - got));
      if (step <= 0) break;
      got += static_cast<std::size_t>(step);
    }
    out.resize(got);
    return out;
  }
  void end() { SSL_shutdown(ssl_); }
  Peer& peer() { return peer_; }

 private:
  Peer peer_;
  SSL* ssl_;
  bool accepted_ = false;
};

}  // namespace llm_proxy::testing_net
