#pragma once

#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace llm_proxy {

// A set of addresses and networks that the configuration names: "10.0.0.7", "10.0.0.0/8",
// "fd00::/8". Immutable.
class TrustedAddresses {
 public:
  // The Error names `setting` and the text that is not an address.
  static Result<TrustedAddresses> build(std::string_view setting,
                                        const std::vector<std::string>& networks);

  bool contains(std::string_view peer) const;

 private:
  std::vector<boost::asio::ip::network_v4> v4_;
  std::vector<boost::asio::ip::network_v6> v6_;
};

}  // namespace llm_proxy
