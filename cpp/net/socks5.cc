#include "net/socks5.h"

#include <array>
#include <utility>

namespace llm_proxy {
namespace {

constexpr char kVersion = 5;
constexpr char kNoPassword = 0;
constexpr char kPassword = 2;
constexpr char kPasswordVersion = 1;
constexpr char kConnect = 1;
constexpr char kIpV4 = 1;
constexpr char kName = 3;
constexpr char kIpV6 = 4;
constexpr std::size_t kLongest = 255;  // of a name, a user or a password: one byte says how long

// RFC 1928, section 6.
constexpr std::array<std::string_view, 9> kReplies{
    "succeeded",
    "general failure",
    "not allowed by its rules",
    "network unreachable",
    "host unreachable",
    "connection refused",
    "time to live expired",
    "command not supported",
    "address type not supported",
};

Error failed(std::string message) {
  return {ErrorKind::upstream_unreachable, std::move(message)};
}

void append_counted(std::string& out, std::string_view text) {
  out += static_cast<char>(text.size());
  out += text;
}

// How long the proxy's last reply is; 0: too little has come to tell.
std::size_t reply_size(std::string_view said) {
  if (said.size() < 5) return 0;
  switch (said[3]) {
    case kIpV4:
      return 4 + 4 + 2;
    case kIpV6:
      return 4 + 16 + 2;
    default:
      return 4 + 1 + static_cast<unsigned char>(said[4]) + 2;
  }
}

}  // namespace

Socks5::Socks5(Target target, std::string user, std::string password)
    : target_(std::move(target)), user_(std::move(user)), password_(std::move(password)) {}

std::string Socks5::begin() const {
  std::string out{kVersion, static_cast<char>(user_.empty() ? 1 : 2), kNoPassword};
  if (!user_.empty()) out += kPassword;
  return out;
}

Result<std::string> Socks5::feed(std::string_view bytes) {
  if (!said_.append(bytes)) return failed("the proxy says more than SOCKS5 has words for");
  const std::string_view said = said_.view();
  const std::size_t size = state_ == State::connecting ? reply_size(said) : 2;
  if (size == 0 || said.size() < size) return std::string();
  if (said.size() > size) return failed("the proxy speaks before its turn");
  const std::string reply(said);
  said_.clear();
  switch (state_) {
    case State::greeting:
      return on_method(reply);
    case State::authenticating:
      if (reply[1] != 0) return failed("the proxy refuses the user or the password");
      state_ = State::connecting;
      return request();
    case State::connecting: {
      if (reply[0] != kVersion) return failed("the proxy does not speak SOCKS5");
      const auto code = static_cast<unsigned char>(reply[1]);
      if (code != 0) {
        return failed("the proxy refuses: " + (code < kReplies.size()
                                                   ? std::string(kReplies[code])
                                                   : "code " + std::to_string(code)));
      }
      state_ = State::done;
      return std::string();
    }
    case State::done:
      break;
  }
  return failed("the proxy speaks before its turn");
}

Result<std::string> Socks5::on_method(std::string_view reply) {
  if (reply[0] != kVersion) return failed("the proxy does not speak SOCKS5");
  if (reply[1] == kNoPassword) {
    state_ = State::connecting;
    return request();
  }
  if (reply[1] != kPassword || user_.empty()) {
    return failed(user_.empty() ? "the proxy wants a user and a password"
                                : "the proxy takes no user and password");
  }
  if (user_.size() > kLongest || password_.size() > kLongest) {
    return failed("the user or the password is longer than SOCKS5 allows");
  }
  state_ = State::authenticating;
  std::string out{kPasswordVersion};
  append_counted(out, user_);
  append_counted(out, password_);
  return out;
}

Result<std::string> Socks5::request() const {
  std::string out{kVersion, kConnect, 0};
  boost::system::error_code no_address;
  const auto address = boost::asio::ip::make_address(target_.host, no_address);
  if (no_address) {
    if (target_.host.size() > kLongest) return failed("the host's name is too long for SOCKS5");
    out += kName;
    append_counted(out, target_.host);
  } else if (address.is_v4()) {
    out += kIpV4;
    for (const auto byte : address.to_v4().to_bytes()) out += static_cast<char>(byte);
  } else {
    out += kIpV6;
    for (const auto byte : address.to_v6().to_bytes()) out += static_cast<char>(byte);
  }
  out += static_cast<char>(target_.port >> 8);
  out += static_cast<char>(target_.port & 0xff);
  return out;
}

}  // namespace llm_proxy
