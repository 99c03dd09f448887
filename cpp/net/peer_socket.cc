#include "net/peer_socket.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>

namespace llm_proxy {
namespace {

struct Question {
  nlmsghdr header{};
  inet_diag_req_v2 body{};
};

// Writes one end of a connection where the kernel wants it: port and address in network order.
bool put_end(const sockaddr_storage& end, __be16& port, __be32 (&address)[4]) {
  if (end.ss_family == AF_INET) {
    sockaddr_in v4;
    std::memcpy(&v4, &end, sizeof v4);
    port = v4.sin_port;
    address[0] = v4.sin_addr.s_addr;
    return true;
  }
  if (end.ss_family == AF_INET6) {
    sockaddr_in6 v6;
    std::memcpy(&v6, &end, sizeof v6);
    port = v6.sin6_port;
    std::memcpy(address, &v6.sin6_addr, sizeof v6.sin6_addr);
    return true;
  }
  return false;
}

// Asks for the socket whose own end is our peer's, and whose peer is us.
bool make_question(int fd, Question& out) {
  sockaddr_storage ours{};
  sockaddr_storage theirs{};
  socklen_t size = sizeof ours;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&ours), &size) != 0) return false;
  size = sizeof theirs;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&theirs), &size) != 0) return false;
  out.header.nlmsg_len = sizeof out;
  out.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  out.header.nlmsg_flags = NLM_F_REQUEST;
  out.body.sdiag_family = static_cast<__u8>(theirs.ss_family);
  out.body.sdiag_protocol = IPPROTO_TCP;
  out.body.idiag_states = ~0u;
  out.body.id.idiag_cookie[0] = out.body.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return put_end(theirs, out.body.id.idiag_sport, out.body.id.idiag_src) &&
         put_end(ours, out.body.id.idiag_dport, out.body.id.idiag_dst);
}

}  // namespace

PeerSocket find_peer_socket(int fd) {
  Question question;
  if (!make_question(fd, question)) return PeerSocket::unseen;
  const int kernel = ::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
  if (kernel < 0) return PeerSocket::unseen;
  alignas(nlmsghdr) std::array<std::byte, 1024> answer;
  ssize_t got = -1;
  if (::send(kernel, &question, sizeof question, 0) == sizeof question) {
    got = ::recv(kernel, answer.data(), answer.size(), MSG_DONTWAIT);  // answered while it was sent
  }
  ::close(kernel);
  constexpr auto kWhole = NLMSG_LENGTH(sizeof(inet_diag_msg));
  if (got < static_cast<ssize_t>(kWhole)) return PeerSocket::unseen;
  nlmsghdr header;
  std::memcpy(&header, answer.data(), sizeof header);
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY) return PeerSocket::unseen;
  inet_diag_msg found;
  std::memcpy(&found, answer.data() + NLMSG_HDRLEN, sizeof found);
  return found.idiag_inode != 0 ? PeerSocket::held : PeerSocket::closed;
}

}  // namespace llm_proxy
