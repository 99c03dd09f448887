#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace llm_proxy {

enum class ContentEncoding : std::uint8_t { identity, gzip, deflate, br, zstd };

// The one coding a Content-Encoding value names; nothing if it names several or one we do not know.
std::optional<ContentEncoding> parse_content_encoding(std::string_view value);

// Takes a content coding off a body, a slice at a time. Owned by whoever reads the body; one per
// message; lives on that reader's thread.
//
// A few bytes can stand for gigabytes. So no call gives more than kSlice bytes, whatever it is
// given: the caller decides when to ask for the next slice. The output of the whole message is
// bounded by `limit`.
//
//   for (;;) {
//     Result<std::string_view> slice = decoder->next(input);
//     if (!slice) return fail(slice.error());
//     if (slice->empty()) break;                // the input is used up
//     use(*slice);
//   }
class ContentDecoder {
 public:
  static constexpr std::size_t kSlice = 16u << 10;

  // `on_bad`: malformed_request for a client's body, upstream_garbled for an upstream's. Beyond
  // `limit` bytes the Error is body_too_large or upstream_too_large.
  static std::unique_ptr<ContentDecoder> make(ContentEncoding encoding, std::uint64_t limit,
                                              ErrorKind on_bad);
  virtual ~ContentDecoder() = default;

  // Takes bytes off the front of `input` and returns the next slice they give, which lives until
  // the next call. Empty: `input` is used up, and there is nothing more in it.
  virtual Result<std::string_view> next(std::string_view& input) = 0;
  // The body ended: an Error if the coding did not.
  virtual Result<void> finish() = 0;
};

// A whole body at once: for what is small.
Result<std::string> decode_content(ContentEncoding encoding, std::string_view bytes,
                                   std::uint64_t limit, ErrorKind on_bad);

}  // namespace llm_proxy
