#include "base/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>

namespace llm_proxy {
namespace {

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

// The number in a file; kUnknown when there is none, as in "max".
std::uint64_t number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? number : kUnknown;
}

std::uint64_t installed(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t kilobytes = 0;
    if (words >> name >> kilobytes && name == "MemTotal:") return kilobytes << 10;
  }
  return kUnknown;
}

// The least limit of the group at `path` below `mount` and of those above it. A container often
// sees its own group as the root while /proc names it by its place on the machine: then only the
// mount itself exists.
std::uint64_t least_above(const std::string& mount, std::string path, const std::string& file) {
  std::uint64_t least = number_in(mount + "/" + file);
  while (path.size() > 1) {
    least = std::min(least, number_in(mount + path + "/" + file));
    path.erase(path.rfind('/'));
  }
  return least;
}

}  // namespace

std::uint64_t machine_memory(const std::string& root) {
  std::uint64_t least = installed(root);
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;  // "0::/user.slice/x.scope" (version 2), "9:memory:/docker/x" (version 1)
  while (std::getline(groups, line)) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const auto path = line.substr(second + 1);
    if (controllers == ",,") {
      least = std::min(least, least_above(root + "/sys/fs/cgroup", path, "memory.max"));
    } else if (controllers.find(",memory,") != std::string::npos) {
      least = std::min(least,
                       least_above(root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"));
    }
  }
  return least == kUnknown ? 0 : least;
}

std::uint64_t default_memory_limit() {
  return machine_memory() / 4;
}

}  // namespace llm_proxy
