#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llm_proxy {

// Appends the text of a head to a string: one of the two start lines, fields, end(). Lives for that
// long.
//
// A name that is no token is left out and a control character in a value becomes a space, so that
// no value, wherever it came from, can start a line of its own.
class HeadWriter {
 public:
  explicit HeadWriter(std::string& out) : out_(out) {}

  HeadWriter& status_line(int status);  // with the standard's reason
  HeadWriter& request_line(std::string_view method, std::string_view target);
  HeadWriter& field(std::string_view name, std::string_view value);
  HeadWriter& field(std::string_view name, std::uint64_t value);
  // `Date:` from Unix seconds; the text is cached per thread and second.
  HeadWriter& date(std::int64_t unix_seconds);
  void end() { out_ += "\r\n"; }

 private:
  std::string& out_;
};

// The chunked coding, ours to write: head, the chunk's bytes, kChunkEnd; and after all chunks
// kLastChunk.
void append_chunk_head(std::string& out, std::uint64_t size);
inline constexpr std::string_view kChunkEnd = "\r\n";
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace llm_proxy
