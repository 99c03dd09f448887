#pragma once

#include <cstdint>

namespace llm_proxy {

// What has become of the socket at the other end of a TCP connection.
//
// A peer that ends its direction (FIN) has either shut it down and waits for an answer, or closed
// its socket and waits for nothing: on the wire the two are the same. On this machine the kernel
// knows, and is asked (NETLINK_SOCK_DIAG, sock_diag(7)): a closed socket belongs to nobody.
enum class PeerSocket : std::uint8_t {
  held,    // by a process of this machine
  closed,  // by whoever had it
  unseen,  // on another machine or in another network namespace, or the kernel does not say
};

// `fd`: a connected TCP socket. About 20 microseconds; never blocks. Any thread.
PeerSocket find_peer_socket(int fd);

}  // namespace llm_proxy
