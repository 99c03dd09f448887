#pragma once

#include <cstdint>

namespace llm_proxy {

struct ServerStats {
  std::uint64_t requests = 0;  // finished exchanges, since start
  std::uint64_t active = 0;    // exchanges under way
  std::uint64_t client_connections = 0;
  std::uint64_t upstream_connections = 0;
  std::uint64_t upstream_idle = 0;
  // Bytes that requests under way and their replies hold, what they may hold (0: anything), and how
  // many requests and replies were refused for want of it since the start.
  std::uint64_t memory_used = 0;
  std::uint64_t memory_limit = 0;
  std::uint64_t memory_refused = 0;
  std::uint64_t decoding = 0;  // compressed request bodies being decoded
  std::uint64_t slices = 0;    // in which such bodies were decoded, since the start
};

}  // namespace llm_proxy
