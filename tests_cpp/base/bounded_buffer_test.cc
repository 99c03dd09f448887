#include "base/bounded_buffer.h"

#include <gtest/gtest.h>

#include <string>
#include <type_traits>

namespace llm_proxy {
namespace {

static_assert(!std::is_default_constructible_v<BoundedBuffer>);

TEST(BoundedBuffer, takes_all_or_nothing) {
  BoundedBuffer buffer(5);
  EXPECT_TRUE(buffer.append("abc"));
  EXPECT_FALSE(buffer.append("def"));
  EXPECT_EQ(buffer.view(), "abc");
  EXPECT_TRUE(buffer.append("de"));
  EXPECT_FALSE(buffer.append("f"));
  EXPECT_TRUE(buffer.append(""));
  EXPECT_EQ(buffer.take(), "abcde");
  EXPECT_TRUE(buffer.empty());
  EXPECT_TRUE(buffer.append("fghij"));
}

TEST(BoundedBuffer, takes_no_more_than_twice_its_bound) {
  constexpr std::size_t kBound = 1000;
  BoundedBuffer buffer(kBound);
  while (buffer.append("0123456789")) EXPECT_LE(buffer.text().capacity(), 2 * kBound);
  EXPECT_EQ(buffer.size(), kBound);
}

TEST(BoundedBuffer, has_room_again_for_what_leaves_at_the_front) {
  BoundedBuffer buffer(4);
  EXPECT_TRUE(buffer.append("abcd"));
  buffer.drop_front(3);
  EXPECT_TRUE(buffer.append("efg"));
  EXPECT_EQ(buffer.view(), "defg");
}

}  // namespace
}  // namespace llm_proxy
