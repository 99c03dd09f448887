#pragma once

#include <cstdint>

namespace llm_proxy {

struct ServerStats {
  std::uint64_t requests = 0;  // finished exchanges, since start
  std::uint64_t active = 0;    // exchanges under way
  std::uint64_t client_connections = 0;
  std::uint64_t upstream_connections = 0;
  std::uint64_t upstream_idle = 0;
};

}  // namespace llm_proxy
