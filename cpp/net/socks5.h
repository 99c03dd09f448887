#pragma once

#include <boost/asio/ip/address.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "base/result.h"

namespace llm_proxy {

// The client's side of a SOCKS5 proxy's greeting (RFC 1928) with user and password (RFC 1929), as
// bytes in and bytes out.
//
// Owned by the connect that goes through the proxy; lives on its worker; sans-IO.
//
//   greeting ─► (authenticating) ─► connecting ─► done      (after an Error: of no further use)
class Socks5 {
 public:
  struct Target {
    std::string host;  // a name, at most 255 bytes, that the proxy resolves; or an address
    std::uint16_t port = 0;
  };

  // No `user`: the proxy is not offered a password.
  Socks5(Target target, std::string user, std::string password);

  // What is sent first.
  std::string begin() const;
  // Takes what the proxy says; what is sent in answer, or nothing. upstream_unreachable names what
  // the proxy refuses.
  Result<std::string> feed(std::string_view bytes);
  // The proxy's next byte is the upstream's.
  bool done() const { return state_ == State::done; }

 private:
  enum class State : std::uint8_t { greeting, authenticating, connecting, done };
  static constexpr std::size_t kLongestReply = 4 + 1 + 255 + 2;

  Result<std::string> on_method(std::string_view reply);
  Result<std::string> request() const;

  const Target target_;
  const std::string user_;
  const std::string password_;
  State state_ = State::greeting;
  BoundedBuffer said_{kLongestReply};
};

}  // namespace llm_proxy
