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

// Takes a content coding off a body as it arrives. Owned by whoever reads the body; one per
// message.
//
// The output of the whole message is bounded: a compressed bomb ends in body_too_large after
// `limit` bytes, having cost no more memory than that.
class ContentDecoder {
 public:
  // `on_bad`: malformed_request for a client's body, upstream_garbled for an upstream's.
  static std::unique_ptr<ContentDecoder> make(ContentEncoding encoding, std::uint64_t limit,
                                              ErrorKind on_bad);
  virtual ~ContentDecoder() = default;

  // Decodes all of `bytes` and appends what they give to `out`.
  virtual Result<void> feed(std::string_view bytes, std::string& out) = 0;
  // The body ended: an Error if the coding did not.
  virtual Result<void> finish() = 0;
};

// A whole body at once.
Result<std::string> decode_content(ContentEncoding encoding, std::string_view bytes,
                                   std::uint64_t limit, ErrorKind on_bad);

}  // namespace llm_proxy
