#include "base/machine_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace llm_proxy {
namespace {

// The files of a machine of the test's making.
class Machine {
 public:
  Machine() : root_(testing::TempDir() + "machine_" + std::to_string(::getpid())) {
    std::filesystem::remove_all(root_);
    write("/proc/meminfo", "MemTotal:        1000 kB\nMemFree: 5 kB\n");
  }
  ~Machine() { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::uint64_t memory() const { return machine_memory(root_); }

 private:
  std::string root_;
};

TEST(MachineMemory, is_what_is_installed_where_nothing_limits_it) {
  Machine machine;
  EXPECT_EQ(machine.memory(), 1'024'000u);
  machine.write("/proc/self/cgroup", "0::/user.slice\n");
  machine.write("/sys/fs/cgroup/user.slice/memory.max", "max\n");
  EXPECT_EQ(machine.memory(), 1'024'000u);
}

TEST(MachineMemory, is_the_least_that_a_group_or_one_above_it_allows) {
  Machine machine;
  machine.write("/proc/self/cgroup", "0::/a.slice/b.scope\n");
  machine.write("/sys/fs/cgroup/a.slice/b.scope/memory.max", "max\n");
  machine.write("/sys/fs/cgroup/a.slice/memory.max", "5000\n");
  EXPECT_EQ(machine.memory(), 5000u);
  machine.write("/sys/fs/cgroup/a.slice/b.scope/memory.max", "4000\n");
  EXPECT_EQ(machine.memory(), 4000u);
}

TEST(MachineMemory, is_the_containers_own_where_that_is_the_root) {
  Machine machine;
  machine.write("/proc/self/cgroup", "0::/docker/abc\n");
  machine.write("/sys/fs/cgroup/memory.max", "3000\n");
  EXPECT_EQ(machine.memory(), 3000u);
}

TEST(MachineMemory, knows_the_groups_of_version_1) {
  Machine machine;
  machine.write("/proc/self/cgroup", "10:cpu,memory:/x\n3:cpuset:/\n");
  machine.write("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "2000\n");
  EXPECT_EQ(machine.memory(), 2000u);
  machine.write("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(machine.memory(), 1'024'000u);
}

TEST(MachineMemory, is_found_on_this_machine) {
  EXPECT_GT(machine_memory(), 16u << 20);
  EXPECT_EQ(default_memory_limit(), machine_memory() / 4);
}

}  // namespace
}  // namespace llm_proxy
