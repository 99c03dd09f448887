#pragma once

#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llm_proxy {

// Addresses that need no key: "10.0.0.7", "10.0.0.0/8", "fd00::/8". Immutable.
class TrustedAddresses {
 public:
  // An Error that names the one that is no address.
  static Result<TrustedAddresses> build(const std::vector<std::string>& networks);

  bool contains(std::string_view peer) const;

 private:
  std::vector<boost::asio::ip::network_v4> v4_;
  std::vector<boost::asio::ip::network_v6> v6_;
};

}  // namespace llm_proxy
