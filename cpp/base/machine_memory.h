#pragma once

#include <cstdint>
#include <string>

namespace llm_proxy {

// How many bytes of memory this process may use: the machine's, or the least that a cgroup it is in
// allows (version 2 memory.max, version 1 memory.limit_in_bytes, of it and of every one above).
// Reads files below `root` ("" is the machine's own), so call it while starting, not on a worker.
// 0: nothing could be found out.
std::uint64_t machine_memory(const std::string& root = "");

// What all requests under way may hold when nobody says otherwise: a quarter of that.
std::uint64_t default_memory_limit();

}  // namespace llm_proxy
