#include "http/content_encoding.h"

#include <brotli/encode.h>
#include <gtest/gtest.h>
#include <zlib.h>
#include <zstd.h>

#include <string>
#include <vector>

namespace llm_proxy {
namespace {

std::string zlib_encode(std::string_view text, int window_bits) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zstd_encode(std::string_view text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

std::string brotli_encode(std::string_view text) {
  std::size_t size = BrotliEncoderMaxCompressedSize(text.size()) + 64;
  std::string out(size, '\0');
  BrotliEncoderCompress(5, BROTLI_DEFAULT_WINDOW, BROTLI_MODE_TEXT, text.size(),
                        reinterpret_cast<const std::uint8_t*>(text.data()), &size,
                        reinterpret_cast<std::uint8_t*>(out.data()));
  out.resize(size);
  return out;
}

struct Encoded {
  const char* what;
  ContentEncoding encoding;
  std::string (*encode)(std::string_view);
};

const std::vector<Encoded> kEncodings{
    {"gzip", ContentEncoding::gzip,
     [](std::string_view t) { return zlib_encode(t, MAX_WBITS + 16); }},
    {"deflate", ContentEncoding::deflate,
     [](std::string_view t) { return zlib_encode(t, MAX_WBITS); }},
    {"raw deflate", ContentEncoding::deflate,
     [](std::string_view t) { return zlib_encode(t, -MAX_WBITS); }},
    {"br", ContentEncoding::br, brotli_encode},
    {"zstd", ContentEncoding::zstd, zstd_encode},
};

std::string sample(std::size_t size) {
  std::string text;
  for (unsigned n = 1; text.size() < size; n = n * 1103515245 + 12345)
    text += std::to_string(n) + ",";
  return text;
}

// Appends all that `bytes` give to `out`.
Result<void> feed(ContentDecoder& decoder, std::string_view bytes, std::string& out) {
  for (;;) {
    const auto slice = decoder.next(bytes);
    if (!slice) return slice.error();
    if (slice->empty()) return {};
    EXPECT_LE(slice->size(), ContentDecoder::kSlice);
    out += *slice;
  }
}

TEST(ContentEncoding, every_coding_gives_the_body_back) {
  for (const std::string& text : {std::string("x"), sample(100), sample(300'000)}) {
    for (const Encoded& each : kEncodings) {
      const auto decoded =
          decode_content(each.encoding, each.encode(text), 1 << 20, ErrorKind::malformed_request);
      ASSERT_TRUE(decoded) << each.what << ": " << decoded.error().message;
      EXPECT_EQ(*decoded, text) << each.what;
    }
  }
}

TEST(ContentEncoding, a_body_may_come_byte_by_byte) {
  const std::string text = sample(2000);
  for (const Encoded& each : kEncodings) {
    const auto decoder = ContentDecoder::make(each.encoding, 1 << 20, ErrorKind::malformed_request);
    std::string out;
    for (const char c : each.encode(text)) ASSERT_TRUE(feed(*decoder, {&c, 1}, out)) << each.what;
    EXPECT_TRUE(decoder->finish()) << each.what;
    EXPECT_EQ(out, text) << each.what;
  }
}

TEST(ContentEncoding, a_bomb_ends_at_the_limit) {
  const std::string zeros(10 << 20, '\0');
  for (const Encoded& each : kEncodings) {
    const auto decoder = ContentDecoder::make(each.encoding, 100'000, ErrorKind::malformed_request);
    std::string out;
    const auto fed = feed(*decoder, each.encode(zeros), out);
    ASSERT_FALSE(fed) << each.what;
    EXPECT_EQ(fed.error().kind, ErrorKind::body_too_large) << each.what;
    EXPECT_LE(out.size(), 100'000u) << each.what;
  }
}

TEST(ContentEncoding, a_bomb_goes_off_one_slice_at_a_time) {
  const std::string zeros(10 << 20, '\0');
  for (const Encoded& each : kEncodings) {
    const auto decoder = ContentDecoder::make(each.encoding, 1 << 30, ErrorKind::malformed_request);
    const std::string bytes = each.encode(zeros);
    std::string_view input = bytes;
    const auto slice = decoder->next(input);
    ASSERT_TRUE(slice) << each.what;
    EXPECT_LE(slice->size(), ContentDecoder::kSlice) << each.what;
  }
}

TEST(ContentEncoding, an_upstreams_bomb_is_its_fault) {
  const auto decoded = decode_content(ContentEncoding::gzip, kEncodings[0].encode(sample(5000)),
                                      100, ErrorKind::upstream_garbled);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().kind, ErrorKind::upstream_too_large);
  EXPECT_EQ(decoded.error().http_status(), 502);
}

TEST(ContentEncoding, a_cut_or_broken_body_is_an_error) {
  for (const Encoded& each : kEncodings) {
    std::string bytes = each.encode(sample(5000));
    EXPECT_FALSE(decode_content(each.encoding, bytes.substr(0, bytes.size() / 2), 1 << 20,
                                ErrorKind::malformed_request))
        << each.what;
    EXPECT_FALSE(decode_content(each.encoding, "", 1 << 20, ErrorKind::malformed_request))
        << each.what;
    EXPECT_FALSE(decode_content(each.encoding, "{\"model\": \"not compressed\"}", 1 << 20,
                                ErrorKind::malformed_request))
        << each.what;
  }
}

TEST(ContentEncoding, is_known_by_its_name) {
  EXPECT_EQ(parse_content_encoding("GZIP"), ContentEncoding::gzip);
  EXPECT_EQ(parse_content_encoding(""), ContentEncoding::identity);
  EXPECT_EQ(parse_content_encoding("gzip, br"), std::nullopt);
  EXPECT_EQ(parse_content_encoding("lzma"), std::nullopt);
}

}  // namespace
}  // namespace llm_proxy
