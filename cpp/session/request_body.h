#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "base/byte_buffer.h"
#include "base/memory_budget.h"
#include "base/result.h"
#include "http/content_encoding.h"

namespace llm_proxy {

// The body of a client's request: its bytes as they come, then with their content coding taken off.
//
// Owned by the session, and kept for as long as its exchange; lives on its worker. Holds at most
// `limit` bytes as received and as many decoded, and every byte is charged to the client's share of
// the memory.
//
//   begin ─► receiving (append, or lend and take_back) ─► (decoding) ─► complete ─► clear
class RequestBody {
 public:
  // What one slice of decoding gives at most.
  static constexpr std::size_t kSlice = 64u << 10;

  // A new request begins. `limit`: the most bytes, before and after decoding.
  void begin(std::uint64_t limit, MemoryCharge charge);
  // The request is over: gives memory back, but for a small buffer that the next one may use.
  void clear();

  // Appends what has come. An Error says that it is too large, or that there is no memory for it.
  [[nodiscard]] std::optional<Error> append(std::string_view bytes);
  // Room for a body of `size` bytes. Memory is only used, and charged, as it is filled.
  void expect(std::size_t size) { bytes_.reserve(size); }
  // Lends the buffer to a read, which gives it back with more in it.
  ByteBuffer lend() { return std::move(bytes_); }
  [[nodiscard]] std::optional<Error> take_back(ByteBuffer buffer);

  // What was received becomes what is to be decoded.
  void begin_decoding(ContentEncoding encoding);
  // Decodes one slice. True: there is more. An Error, as of append(), or of the coding.
  Result<bool> decode_slice();

  std::string_view view() const { return bytes_.view(); }
  std::size_t size() const { return bytes_.size(); }
  // For another buffer of the same client.
  MemoryCharge sibling_charge() const { return charge_.sibling(); }

 private:
  Error too_large() const;

  ByteBuffer bytes_;
  std::uint64_t limit_ = 0;
  MemoryCharge charge_;
  std::unique_ptr<ContentDecoder> decoder_;
  ByteBuffer coded_;            // what is decoded
  std::string_view undecoded_;  // the rest of it
};

}  // namespace llm_proxy
