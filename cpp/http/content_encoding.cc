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

// What the codings share: the bound, the errors, and where their output goes.
class BoundedDecoder : public ContentDecoder {
 public:
  BoundedDecoder(std::uint64_t limit, ErrorKind on_bad) : limit_(limit), on_bad_(on_bad) {}

  Result<void> finish() override {
    if (!ended_) return bad("it is cut off");
    return {};
  }

 protected:
  Error bad(std::string_view what) const {
    return {on_bad_,
            std::string("The compressed body cannot be decoded: ").append(what).append(".")};
  }
  Result<void> emit(std::size_t bytes, std::string& out) {
    if (bytes > limit_ - given_) {
      return Error{on_bad_ == ErrorKind::malformed_request ? ErrorKind::body_too_large : on_bad_,
                   "The body exceeds " + std::to_string(limit_) + " bytes once decompressed."};
    }
    given_ += bytes;
    out.append(buffer_.data(), bytes);
    return {};
  }

  std::array<char, 16 << 10> buffer_;
  bool ended_ = false;

 private:
  const std::uint64_t limit_;
  const ErrorKind on_bad_;
  std::uint64_t given_ = 0;
};

class IdentityDecoder final : public ContentDecoder {
 public:
  IdentityDecoder(std::uint64_t limit, ErrorKind on_bad) : left_(limit), on_bad_(on_bad) {}
  Result<void> feed(std::string_view bytes, std::string& out) override {
    if (bytes.size() > left_) {
      return Error{on_bad_ == ErrorKind::malformed_request ? ErrorKind::body_too_large : on_bad_,
                   "The body is too large."};
    }
    left_ -= bytes.size();
    out += bytes;
    return {};
  }
  Result<void> finish() override { return {}; }

 private:
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

  Result<void> feed(std::string_view bytes, std::string& out) override {
    if (!ready_) return bad("out of memory");
    if (!started_ && !bytes.empty()) {
      started_ = true;
      const bool zlib_header = (bytes.front() & 0x0f) == Z_DEFLATED && (bytes.front() & 0x80) == 0;
      if (!zlib_header) ready_ = inflateReset2(&stream_, -MAX_WBITS) == Z_OK;
    }
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream_.avail_in = static_cast<uInt>(bytes.size());
    do {
      if (ended_) {
        if (stream_.avail_in == 0) break;
        if (!gzip_) return bad("something follows its end");
        inflateReset(&stream_);
        ended_ = false;
      }
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(buffer_.size());
      const int status = inflate(&stream_, Z_NO_FLUSH);
      if (Result<void> given = emit(buffer_.size() - stream_.avail_out, out); !given) return given;
      if (status == Z_STREAM_END) {
        ended_ = true;
      } else if (status != Z_OK && status != Z_BUF_ERROR) {
        return bad("it is not what its coding allows");
      }
    } while (stream_.avail_in > 0 || stream_.avail_out == 0);
    return {};
  }

 private:
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

  Result<void> feed(std::string_view bytes, std::string& out) override {
    if (state_ == nullptr) return bad("out of memory");
    auto* next_in = reinterpret_cast<const std::uint8_t*>(bytes.data());
    std::size_t left = bytes.size();
    for (;;) {
      if (ended_) {
        if (left > 0) return bad("something follows its end");
        return {};
      }
      auto* next_out = reinterpret_cast<std::uint8_t*>(buffer_.data());
      std::size_t room = buffer_.size();
      const auto status =
          BrotliDecoderDecompressStream(state_, &left, &next_in, &room, &next_out, nullptr);
      if (Result<void> given = emit(buffer_.size() - room, out); !given) return given;
      if (status == BROTLI_DECODER_RESULT_ERROR) return bad("it is not what its coding allows");
      if (status == BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT) return {};
      ended_ = status == BROTLI_DECODER_RESULT_SUCCESS;
    }
  }

 private:
  BrotliDecoderState* state_;
};

class ZstdDecoder final : public BoundedDecoder {
 public:
  ZstdDecoder(std::uint64_t limit, ErrorKind on_bad)
      : BoundedDecoder(limit, on_bad), stream_(ZSTD_createDStream()) {
    if (stream_ != nullptr) ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kZstdWindowLog);
  }
  ~ZstdDecoder() override { ZSTD_freeDStream(stream_); }

  Result<void> feed(std::string_view bytes, std::string& out) override {
    if (stream_ == nullptr) return bad("out of memory");
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    bool filled = false;
    while (in.pos < in.size || filled) {
      ZSTD_outBuffer step{buffer_.data(), buffer_.size(), 0};
      const std::size_t status = ZSTD_decompressStream(stream_, &step, &in);
      if (ZSTD_isError(status) != 0) return bad("it is not what its coding allows");
      if (Result<void> given = emit(step.pos, out); !given) return given;
      ended_ = status == 0;
      filled = step.pos == step.size && !ended_;
    }
    return {};
  }

 private:
  ZSTD_DStream* stream_;
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
  if (Result<void> fed = decoder->feed(bytes, out); !fed) return std::move(fed).error();
  if (Result<void> ended = decoder->finish(); !ended) return std::move(ended).error();
  return out;
}

}  // namespace llm_proxy
