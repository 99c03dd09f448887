#include "http/chunked_decoder.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "http/head_writer.h"

namespace llm_proxy {
namespace {

struct Decoded {
  std::string payload;
  std::string left;
  bool done = false;
  bool failed = false;
  bool operator==(const Decoded&) const = default;
};

// Feeds `pieces` one after another; what comes after the end of the message is left over.
Decoded decode(const std::vector<std::string_view>& pieces) {
  ChunkedDecoder decoder(ErrorKind::upstream_garbled);
  Decoded out;
  for (std::string_view piece : pieces) {
    while (!piece.empty() && !decoder.done() && !out.failed) {
      const auto got = decoder.next(piece);
      if (got) {
        out.payload += *got;
      } else {
        out.failed = true;
      }
    }
    if (decoder.done()) out.left += piece;
  }
  out.done = decoder.done();
  return out;
}

void expect_for_every_cut(const std::string& text, const Decoded& expected) {
  const std::string_view whole = text;
  ASSERT_EQ(decode({whole}), expected) << text;
  for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
    ASSERT_EQ(decode({whole.substr(0, cut), whole.substr(cut)}), expected)
        << text << " cut at " << cut;
  }
  std::vector<std::string_view> bytes;
  for (std::size_t i = 0; i < whole.size(); ++i) bytes.push_back(whole.substr(i, 1));
  ASSERT_EQ(decode(bytes), expected) << text << " byte by byte";
}

TEST(ChunkedDecoder, gives_the_same_payload_for_every_cut) {
  expect_for_every_cut("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", {"hello world", "", true, false});
  expect_for_every_cut("0\r\n\r\n", {"", "", true, false});
  expect_for_every_cut("A;name=\"value\"\r\n0123456789\r\n00\r\n\r\n",
                       {"0123456789", "", true, false});
  expect_for_every_cut("1\r\nx\r\n0\r\nTrailer: yes\r\nOther: 1\r\n\r\n", {"x", "", true, false});
  expect_for_every_cut("4\r\n\r\n\r\n\r\n0\r\n\r\n", {"\r\n\r\n", "", true, false});
}

TEST(ChunkedDecoder, leaves_what_follows_the_message) {
  expect_for_every_cut("2\r\nhi\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
                       {"hi", "HTTP/1.1 200 OK\r\n", true, false});
}

TEST(ChunkedDecoder, sees_that_a_body_was_cut) {
  const std::string whole = "5\r\nhello\r\n0\r\nA: b\r\n\r\n";
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    EXPECT_FALSE(decode({std::string_view(whole).substr(0, cut)}).done) << "cut at " << cut;
  }
}

TEST(ChunkedDecoder, refuses_what_is_no_clear_chunk) {
  const std::string many(ChunkedDecoder::kMaxExtension + 1, 'x');
  for (const std::string& text : std::vector<std::string>{
           "\r\n",
           "g\r\n",
           "-1\r\nx\r\n",
           "+1\r\nx\r\n",
           "0x1\r\nx\r\n",
           " 1\r\nx\r\n",
           ";a\r\n",
           "1\nx\r\n",
           "1\r\nxy\r\n",
           "1\r\nx\n",
           "1\r\nx\rz",
           "1\rx",
           "1000000000000000\r\n",
           "1;" + many + "\r\n",
           "1;a\nb\r\nx\r\n",
           std::string("1;\0\r\nx", 6),
           "0\r\n A: b\r\n\r\n",
           "0\r\nA: b\n\r\n",
           "0\r\n\rx",
           "0\r\n\n",
           "0\r\nA: " + std::string(ChunkedDecoder::kMaxTrailer, 'x') + "\r\n\r\n"}) {
    const Decoded decoded = decode({text});
    EXPECT_TRUE(decoded.failed) << text;
    EXPECT_FALSE(decoded.done) << text;
  }
}

TEST(ChunkedDecoder, hands_out_views_into_its_input) {
  const std::string text = "5\r\nhello\r\n";
  std::string_view input = text;
  ChunkedDecoder decoder(ErrorKind::malformed_request);
  const auto piece = decoder.next(input);
  ASSERT_TRUE(piece);
  EXPECT_EQ(piece->data(), text.data() + 3);
}

TEST(ChunkedDecoder, undoes_what_we_write) {
  std::string text;
  for (const std::size_t size : {1u, 15u, 16u, 300u, 70'000u}) {
    append_chunk_head(text, size);
    text.append(size, 'a');
    text += kChunkEnd;
  }
  text += kLastChunk;
  const Decoded decoded = decode({text});
  EXPECT_TRUE(decoded.done);
  EXPECT_EQ(decoded.payload, std::string(70'332, 'a'));
}

}  // namespace
}  // namespace llm_proxy
