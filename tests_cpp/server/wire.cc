#include "tests_cpp/server/wire.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

namespace llm_proxy::test {
namespace {

constexpr int kPatience = 10'000;  // ms; only a failing test waits this long

}  // namespace

Socket Socket::connect(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return Socket(fd);
}

Socket::Socket(Socket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}

Socket::~Socket() {
  close();
}

void Socket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void Socket::reset() {
  const linger now{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  close();
}

void Socket::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
}

bool Socket::fill() {
  pollfd waiting{fd_, POLLIN, 0};
  if (::poll(&waiting, 1, kPatience) <= 0) {
    ADD_FAILURE() << "nothing came; so far: " << buffer_;
    return false;
  }
  char bytes[16384];
  const auto got = ::recv(fd_, bytes, sizeof bytes, 0);
  if (got <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(got));
  return true;
}

std::string Socket::read_until(std::string_view marker) {
  for (;;) {
    if (const auto at = buffer_.find(marker); at != std::string::npos) {
      auto out = buffer_.substr(0, at + marker.size());
      buffer_.erase(0, at + marker.size());
      return out;
    }
    if (!fill()) return {};
  }
}

std::pair<std::string, std::string> Socket::read_message() {
  auto head = read_until("\r\n\r\n");
  std::string lower;
  for (const char c : head) lower += static_cast<char>(std::tolower(c));
  std::string body;
  if (lower.find("transfer-encoding: chunked") != std::string::npos) {
    for (;;) {
      const auto line = read_until("\r\n");
      if (line.empty()) return {head, body + "<cut>"};
      const auto size = std::strtoul(line.c_str(), nullptr, 16);
      while (buffer_.size() < size + 2) {
        if (!fill()) return {head, body + "<cut>"};
      }
      body += buffer_.substr(0, size);
      buffer_.erase(0, size + 2);
      if (size == 0) return {head, body};
    }
  }
  if (const auto at = lower.find("content-length: "); at != std::string::npos) {
    const auto size = std::strtoul(lower.c_str() + at + 16, nullptr, 10);
    while (buffer_.size() < size) {
      if (!fill()) return {head, buffer_ + "<cut>"};
    }
    body = buffer_.substr(0, size);
    buffer_.erase(0, size);
  }
  return {head, body};
}

std::string Socket::read_all(bool* reset) {
  for (;;) {
    pollfd waiting{fd_, POLLIN, 0};
    if (::poll(&waiting, 1, kPatience) <= 0) {
      ADD_FAILURE() << "the peer did not end; so far: " << buffer_;
      return buffer_;
    }
    char bytes[16384];
    const auto got = ::recv(fd_, bytes, sizeof bytes, 0);
    if (got > 0) {
      buffer_.append(bytes, static_cast<std::size_t>(got));
      continue;
    }
    if (reset != nullptr) *reset = got < 0;
    return std::exchange(buffer_, {});
  }
}

Upstream::Upstream(Script script) : script_(std::move(script)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(::listen(listener_, 64), 0);
  socklen_t size = sizeof address;
  ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] {
    for (;;) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      const std::lock_guard lock(mutex_);
      threads_.emplace_back([this, fd] {
        Socket socket(fd);
        script_(socket);
      });
    }
  });
}

Upstream::~Upstream() {
  ::shutdown(listener_, SHUT_RDWR);
  acceptor_.join();
  ::close(listener_);
  for (auto& thread : threads_) thread.join();
}

int Upstream::connections() const {
  const std::lock_guard lock(mutex_);
  return static_cast<int>(threads_.size());
}

std::string http_reply(int status, std::string_view content_type, std::string_view body) {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\ncontent-type: " + std::string(content_type) +
         "\r\ncontent-length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

std::string chunk(std::string_view payload) {
  char size[20];
  std::snprintf(size, sizeof size, "%zx\r\n", payload.size());
  return size + std::string(payload) + "\r\n";
}

}  // namespace llm_proxy::test
