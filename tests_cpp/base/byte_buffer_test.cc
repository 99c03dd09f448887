#include "base/byte_buffer.h"

#include <gtest/gtest.h>

#include <string>

namespace llm_proxy {
namespace {

TEST(ByteBuffer, keeps_its_bytes_in_order_however_they_come_and_go) {
  ByteBuffer buffer;
  std::string expected;
  for (int round = 0; round < 200; ++round) {
    const std::string piece(static_cast<std::size_t>(round * 7 % 61),
                            static_cast<char>('a' + round % 26));
    buffer.append(piece);
    expected += piece;
    const std::size_t gone = expected.size() / 3;
    buffer.consume(gone);
    expected.erase(0, gone);
    ASSERT_EQ(buffer.view(), expected);
  }
}

TEST(ByteBuffer, does_not_move_within_what_was_reserved) {
  ByteBuffer buffer;
  buffer.append("head");
  buffer.reserve(1000);
  const char* at = buffer.view().data();
  buffer.append(std::string(996, 'x'));
  EXPECT_EQ(buffer.view().data(), at);
  EXPECT_EQ(buffer.size(), 1000u);
}

TEST(ByteBuffer, gives_its_memory_back) {
  ByteBuffer buffer;
  buffer.append(std::string(100'000, 'x'));
  buffer.release();
  EXPECT_EQ(buffer.capacity(), 0u);
  EXPECT_TRUE(buffer.empty());
}

}  // namespace
}  // namespace llm_proxy
