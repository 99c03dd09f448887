#include "http/content_encoding.h"

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>

#include "http/head.h"

namespace llm_proxy {
namespace {

struct EncodingRow {
  std::string_view name;
  ContentEncoding encoding;
};

constexpr std::array kEncodingRows{
    EncodingRow{"", ContentEncoding::identity},
    EncodingRow{"identity", ContentEncoding::identity},
    EncodingRow{"gzip", ContentEncoding::gzip},
    EncodingRow{"x-gzip", ContentEncoding::gzip},
    EncodingRow{"deflate", ContentEncoding::deflate},
    EncodingRow{"br", ContentEncoding::br},
    EncodingRow{"zstd", ContentEncoding::zstd},
};

constexpr int kZstdWindowLog = 23;  // 8 MB, what RFC 8878 asks decoders to support and no more

Error too_large(ErrorKind on_bad, std::uint64_t limit) {
  return {on_bad == ErrorKind::malformed_request ? ErrorKind::body_too_large
                                                 : ErrorKind::upstream_too_large,
          "The body exceeds " + std::to_string(limit) + " bytes once decompressed."};
}

// What the codings share: the bound, the errors, and where their output goes.
class BoundedDecoder : public ContentDecoder {
 public:
  BoundedDecoder(std::uint64_t limit, ErrorKind on_bad) : limit_(limit), on_bad_(on_bad) {}

  // Asks the coding until it gives something, fails, or has used up what it was given.
  Result<std::string_view> next(std::string_view& input) final {
    for (;;) {
      const std::size_t before = input.size();
      const Result<std::size_t> made = step(input);
      if (!made) return made.error();
      if (*made > limit_ - given_) return too_large(on_bad_, limit_);
      given_ += *made;
      if (*made > 0) return std::string_view(slice_.data(), *made);
      if (input.empty() || input.size() == before) return std::string_view();
    }
  }
  Result<void> finish() final {
    if (!ended_) return bad("it is cut off");
    return {};
  }

 protected:
  // One call of the coding's library: takes what it takes off `input`, fills slice_ and returns how
  // far. Sets ended_ at the coding's own end.
  virtual Result<std::size_t> step(std::string_view& input) = 0;

  Error bad(std::string_view what) const {
    return {on_bad_,
            std::string("The compressed body cannot be decoded: ").append(what).append(".")};
  }

  std::array<char, kSlice> slice_;
  bool ended_ = false;

 private:
  const std::uint64_t limit_;
  const ErrorKind on_bad_;
  std::uint64_t given_ = 0;
};

class IdentityDecoder final : public ContentDecoder {
 public:
  IdentityDecoder(std::uint64_t limit, ErrorKind on_bad)
      : limit_(limit), left_(limit), on_bad_(on_bad) {}
  Result<std::string_view> next(std::string_view& input) override {
    const std::string_view slice = input.substr(0, kSlice);
    if (slice.size() > left_) return too_large(on_bad_, limit_);
    left_ -= slice.size();
    input.remove_prefix(slice.size());
    return slice;
  }
  Result<void> finish() override { return {}; }

 private:
  const std::uint64_t limit_;
  std::uint64_t left_;
  const ErrorKind on_bad_;
};

// gzip (several members are one body), and deflate, which is zlib by the standard and raw by some
// senders.
class ZlibDecoder final : public BoundedDecoder {
 public:
  ZlibDecoder(bool gzip, std::uint64_t limit, ErrorKind on_bad)
      : BoundedDecoder(limit, on_bad), gzip_(gzip), started_(gzip) {
    ready_ = inflateInit2(&stream_, gzip ? MAX_WBITS + 16 : MAX_WBITS) == Z_OK;
  }
  ~ZlibDecoder() override { inflateEnd(&stream_); }

 private:
  Result<std::size_t> step(std::string_view& input) override {
    if (!ready_) return bad("out of memory");
    if (!started_ && !input.empty()) {
      started_ = true;
      const bool zlib_header = (input.front() & 0x0f) == Z_DEFLATED && (input.front() & 0x80) == 0;
      if (!zlib_header) ready_ = inflateReset2(&stream_, -MAX_WBITS) == Z_OK;
    }
    if (ended_) {
      if (input.empty()) return std::size_t{0};
      if (!gzip_) return bad("something follows its end");
      inflateReset(&stream_);
      ended_ = false;
    }
    constexpr std::size_t kMost = 1u << 30;  // zlib counts in 32 bits
    const std::size_t given = std::min(input.size(), kMost);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));
    stream_.avail_in = static_cast<uInt>(given);
    stream_.next_out = reinterpret_cast<Bytef*>(slice_.data());
    stream_.avail_out = static_cast<uInt>(slice_.size());
    const int status = inflate(&stream_, Z_NO_FLUSH);
    input.remove_prefix(given - stream_.avail_in);
    if (status == Z_STREAM_END) {
      ended_ = true;
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      return bad("it is not what its coding allows");
    }
    return slice_.size() - stream_.avail_out;
  }

  z_stream stream_{};
  const bool gzip_;
  bool started_;
  bool ready_ = false;
};

class BrotliDecoder final : public BoundedDecoder {
 public:
  BrotliDecoder(std::uint64_t limit, ErrorKind on_bad)
      : BoundedDecoder(limit, on_bad),
        state_(BrotliDecoderCreateInstance(nullptr, nullptr, nullptr)) {}
  ~BrotliDecoder() override { BrotliDecoderDestroyInstance(state_); }

 private:
  Result<std::size_t> step(std::string_view& input) override {
    if (state_ == nullptr) return bad("out of memory");
    if (ended_) {
      if (!input.empty()) return bad("something follows its end");
      return std::size_t{0};
    }
    auto* next_in = reinterpret_cast<const std::uint8_t*>(input.data());
    std::size_t left = input.size();
    auto* next_out = reinterpret_cast<std::uint8_t*>(slice_.data());
    std::size_t room = slice_.size();
    const auto status =
        BrotliDecoderDecompressStream(state_, &left, &next_in, &room, &next_out, nullptr);
    input.remove_prefix(input.size() - left);
    if (status == BROTLI_DECODER_RESULT_ERROR) return bad("it is not what its coding allows");
    ended_ = status == BROTLI_DECODER_RESULT_SUCCESS;
    return slice_.size() - room;
  }

  BrotliDecoderState* state_;
};

class ZstdDecoder final : public BoundedDecoder {
 public:
  ZstdDecoder(std::uint64_t limit, ErrorKind on_bad)
      : BoundedDecoder(limit, on_bad), stream_(ZSTD_createDStream()) {
    if (stream_ != nullptr) ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kZstdWindowLog);
  }
  ~ZstdDecoder() override { ZSTD_freeDStream(stream_); }

 private:
  Result<std::size_t> step(std::string_view& input) override {
    if (stream_ == nullptr) return bad("out of memory");
    // Without input it has more to give only where it filled the slice before.
    if (input.empty() && !filled_) return std::size_t{0};
    ZSTD_inBuffer in{input.data(), input.size(), 0};
    ZSTD_outBuffer out{slice_.data(), slice_.size(), 0};
    const std::size_t status = ZSTD_decompressStream(stream_, &out, &in);
    if (ZSTD_isError(status) != 0) return bad("it is not what its coding allows");
    input.remove_prefix(in.pos);
    ended_ = status == 0;
    filled_ = out.pos == out.size && !ended_;
    return out.pos;
  }

  ZSTD_DStream* stream_;
  bool filled_ = false;
};

}  // namespace

std::optional<ContentEncoding> parse_content_encoding(std::string_view value) {
  for (const EncodingRow& row : kEncodingRows) {
    if (iequals(row.name, value)) return row.encoding;
  }
  return std::nullopt;
}

std::unique_ptr<ContentDecoder> ContentDecoder::make(ContentEncoding encoding, std::uint64_t limit,
                                                     ErrorKind on_bad) {
  switch (encoding) {
    case ContentEncoding::gzip:
      return std::make_unique<ZlibDecoder>(true, limit, on_bad);
    case ContentEncoding::deflate:
      return std::make_unique<ZlibDecoder>(false, limit, on_bad);
    case ContentEncoding::br:
      return std::make_unique<BrotliDecoder>(limit, on_bad);
    case ContentEncoding::zstd:
      return std::make_unique<ZstdDecoder>(limit, on_bad);
    case ContentEncoding::identity:
      break;
  }
  return std::make_unique<IdentityDecoder>(limit, on_bad);
}

Result<std::string> decode_content(ContentEncoding encoding, std::string_view bytes,
                                   std::uint64_t limit, ErrorKind on_bad) {
  const auto decoder = ContentDecoder::make(encoding, limit, on_bad);
  std::string out;
  for (;;) {
    const Result<std::string_view> slice = decoder->next(bytes);
    if (!slice) return slice.error();
    if (slice->empty()) break;
    out += *slice;
  }
  if (Result<void> ended = decoder->finish(); !ended) return std::move(ended).error();
  return out;
}

}  // namespace llm_proxy
