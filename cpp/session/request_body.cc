#include "session/request_body.h"

#include <string>
#include <utility>

namespace llm_proxy {
namespace {

constexpr std::size_t kKeptCapacity = 16u << 10;  // a larger buffer is given back between requests

}  // namespace

void RequestBody::begin(std::uint64_t limit, MemoryCharge charge) {
  limit_ = limit;
  charge_ = std::move(charge);
}

void RequestBody::clear() {
  bytes_.clear();
  if (bytes_.capacity() > kKeptCapacity) bytes_.release();
  undecoded_ = {};
  coded_.release();
  decoder_.reset();
  charge_.release();
}

Error RequestBody::too_large() const {
  return {ErrorKind::body_too_large,
          "the request body is larger than " + std::to_string(limit_) + " bytes"};
}

std::optional<Error> RequestBody::append(std::string_view bytes) {
  const std::uint64_t wanted = bytes_.size() + bytes.size();
  if (wanted > limit_) return too_large();
  if (auto refused = charge_.grow_to(wanted)) return refused;
  bytes_.append(bytes);
  return std::nullopt;
}

std::optional<Error> RequestBody::take_back(ByteBuffer buffer) {
  bytes_ = std::move(buffer);
  return charge_.grow_to(bytes_.size());
}

void RequestBody::begin_decoding(ContentEncoding encoding) {
  coded_ = std::exchange(bytes_, {});
  undecoded_ = coded_.view();
  decoder_ = ContentDecoder::make(encoding, limit_, ErrorKind::malformed_request);
}

Result<bool> RequestBody::decode_slice() {
  for (std::size_t given = 0; given < kSlice;) {
    const auto slice = decoder_->next(undecoded_);
    if (!slice) return slice.error();
    if (slice->empty()) {
      if (auto ended = decoder_->finish(); !ended) return std::move(ended).error();
      decoder_.reset();
      coded_.release();
      if (auto refused = charge_.hold(bytes_.size())) return *std::move(refused);
      return false;
    }
    given += slice->size();
    if (auto refused = charge_.grow_to(coded_.size() + bytes_.size() + slice->size())) {
      return *std::move(refused);
    }
    bytes_.append(*slice);
  }
  return true;
}

}  // namespace llm_proxy
