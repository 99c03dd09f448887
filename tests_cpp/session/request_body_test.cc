#include "session/request_body.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

namespace llm_proxy {
namespace {

constexpr std::uint64_t kLimit = 1 << 20;

std::string gzip(std::string_view text) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

struct RequestBodyTest : testing::Test {
  MemoryBudget budget{16 << 20};
  RequestBody body;

  void begin() { body.begin(kLimit, MemoryCharge(budget, 1)); }
};

TEST_F(RequestBodyTest, charges_what_it_holds_and_gives_it_back) {
  begin();
  EXPECT_FALSE(body.append("abc"));
  EXPECT_EQ(budget.used(), 3u);
  EXPECT_FALSE(body.append(std::string(100'000, 'x')));
  EXPECT_GE(budget.used(), 100'003u);
  EXPECT_EQ(body.size(), 100'003u);
  body.clear();
  EXPECT_EQ(budget.used(), 0u);
  EXPECT_EQ(body.size(), 0u);
}

TEST_F(RequestBodyTest, promised_bytes_cost_nothing_until_they_come) {
  begin();
  body.expect(kLimit);
  EXPECT_EQ(budget.used(), 0u);
  ByteBuffer lent = body.lend();
  lent.append(std::string(5000, 'x'));
  EXPECT_FALSE(body.take_back(std::move(lent)));
  EXPECT_EQ(budget.used(), 5000u);
}

TEST_F(RequestBodyTest, ends_at_its_limit) {
  begin();
  EXPECT_FALSE(body.append(std::string(kLimit, 'x')));
  const auto refused = body.append("y");
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->kind, ErrorKind::body_too_large);
}

TEST_F(RequestBodyTest, decodes_a_slice_at_a_time) {
  const std::string text(600'000, 'a');
  begin();
  EXPECT_FALSE(body.append(gzip(text)));
  body.begin_decoding(ContentEncoding::gzip);
  std::size_t slices = 0;
  std::size_t before = 0;
  for (;;) {
    const auto more = body.decode_slice();
    ASSERT_TRUE(more) << more.error().message;
    EXPECT_LE(body.size() - before, RequestBody::kSlice);
    before = body.size();
    ++slices;
    if (!*more) break;
  }
  EXPECT_GE(slices, text.size() / RequestBody::kSlice);
  EXPECT_EQ(body.view(), text);
  EXPECT_EQ(budget.used(), text.size());
}

TEST_F(RequestBodyTest, a_bomb_costs_no_more_than_its_share) {
  budget.set_limit(400'000);
  begin();
  EXPECT_FALSE(body.append(gzip(std::string(900'000, 'a'))));
  body.begin_decoding(ContentEncoding::gzip);
  auto more = body.decode_slice();
  while (more && *more) more = body.decode_slice();
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().kind, ErrorKind::body_too_large);
  EXPECT_LE(budget.used(), 200'000u);
  body.clear();
  EXPECT_EQ(budget.used(), 0u);
}

TEST_F(RequestBodyTest, a_cut_body_is_an_error) {
  const std::string bytes = gzip(std::string(1000, 'a'));
  begin();
  EXPECT_FALSE(body.append(std::string_view(bytes).substr(0, bytes.size() / 2)));
  body.begin_decoding(ContentEncoding::gzip);
  auto more = body.decode_slice();
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().kind, ErrorKind::malformed_request);
}

}  // namespace
}  // namespace llm_proxy
