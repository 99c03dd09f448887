#include "auth/trusted_addresses.h"

#include <algorithm>
#include <boost/asio/ip/address.hpp>

namespace llm_proxy {
namespace ip = boost::asio::ip;

Result<TrustedAddresses> TrustedAddresses::build(std::string_view setting,
                                                 const std::vector<std::string>& networks) {
  TrustedAddresses out;
  for (const auto& text : networks) {
    const bool alone = text.find('/') == std::string::npos;
    boost::system::error_code no_v4, no_v6;
    const auto v4 = ip::make_network_v4(alone ? text + "/32" : text, no_v4);
    if (!no_v4) {
      out.v4_.push_back(v4.canonical());
      continue;
    }
    const auto v6 = ip::make_network_v6(alone ? text + "/128" : text, no_v6);
    if (no_v6) {
      return Error{ErrorKind::malformed_request,
                   std::string(setting) + ": '" + text +
                       "' is not an address: write 10.0.0.7 or 10.0.0.0/8"};
    }
    out.v6_.push_back(v6.canonical());
  }
  return out;
}

bool TrustedAddresses::contains(std::string_view peer) const {
  if (v4_.empty() && v6_.empty()) return false;
  boost::system::error_code failed;
  ip::address address = ip::make_address(peer, failed);
  if (failed) return false;
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = ip::make_address_v4(ip::v4_mapped, address.to_v6());
  }
  const auto holds = [](const auto& one) {
    return [&one](const auto& network) {
      return network.prefix_length() == 0 ||
             std::decay_t<decltype(network)>(one, network.prefix_length()).network() ==
                 network.network();
    };
  };
  if (address.is_v4()) return std::any_of(v4_.begin(), v4_.end(), holds(address.to_v4()));
  return std::any_of(v6_.begin(), v6_.end(), holds(address.to_v6()));
}

}  // namespace llm_proxy
