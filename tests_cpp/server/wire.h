#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace llm_proxy::test {

// A plain blocking socket on loopback. Every wait is bounded; a wait that runs out fails the test.
class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  static Socket connect(std::uint16_t port);
  Socket(Socket&& other) noexcept;
  ~Socket();

  void send(std::string_view bytes);
  // Reads until `marker` has been seen; everything read so far. Empty when the peer ended first.
  std::string read_until(std::string_view marker);
  // Reads one HTTP message with Content-Length or chunked framing (taken off): head and body.
  std::pair<std::string, std::string> read_message();
  // Reads to the end; true in `reset` when the peer cut the connection.
  std::string read_all(bool* reset = nullptr);
  void close();
  void reset();

 private:
  bool fill();
  int fd_;
  std::string buffer_;
};

// A scripted upstream: each connection is handed, in order, to the script on a thread of its own.
class Upstream {
 public:
  using Script = std::function<void(Socket&)>;
  explicit Upstream(Script script);
  ~Upstream();

  std::uint16_t port() const { return port_; }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1"; }
  int connections() const;

 private:
  int listener_ = -1;
  std::uint16_t port_ = 0;
  Script script_;
  std::thread acceptor_;
  mutable std::mutex mutex_;
  std::vector<std::thread> threads_;
};

std::string http_reply(int status, std::string_view content_type, std::string_view body);
std::string chunk(std::string_view payload);
inline constexpr std::string_view kStreamHead =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

}  // namespace llm_proxy::test
