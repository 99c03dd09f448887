#include "base/recycling_allocator.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <thread>
#include <vector>

namespace llm_proxy {
namespace {

struct Large {
  explicit Large(int held) : value(held) {}
  std::array<char, 4000> room{};
  int value;
};

std::shared_ptr<Large> made(int value) {
  return std::allocate_shared<Large>(RecyclingAllocator<Large>(), value);
}

TEST(RecyclingAllocator, gives_every_living_object_memory_of_its_own) {
  std::vector<std::shared_ptr<Large>> living;
  for (int round = 0; round < 5; ++round) {
    for (int n = 0; n < 20; ++n) living.push_back(made(100 * round + n));
    for (int n = 0; n < 20; ++n) {
      EXPECT_EQ(living[static_cast<std::size_t>(n)]->value, 100 * round + n);
    }
    living.clear();
  }
}

TEST(RecyclingAllocator, takes_what_another_thread_allocated) {
  auto here = made(1);
  std::thread([&] {
    here.reset();
    EXPECT_EQ(made(2)->value, 2);
  }).join();
  EXPECT_EQ(made(3)->value, 3);
}

#ifndef __SANITIZE_ADDRESS__
TEST(RecyclingAllocator, gives_the_memory_of_the_last_that_went_to_the_next) {
  auto object = made(1);
  const void* const place = object.get();
  object.reset();
  EXPECT_EQ(made(2).get(), place);
}
#endif

}  // namespace
}  // namespace llm_proxy
