#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace llm_proxy {

// Takes the chunked transfer coding off a body as it arrives, copying nothing.
//
// Owned by whoever reads the body; one per message. What it holds is a few counters, whatever the
// size of the body.
//
//   size ─► (extension) ─► data ─► data_end ─► size …      size 0 ─► trailer ─► done
//
//   while (!input.empty() && !decoder.done()) {
//     Result<std::string_view> piece = decoder.next(input);
//     if (!piece) return fail(piece.error());
//     if (!piece->empty()) use(*piece);
//   }
//   // done() and !input.empty(): bytes of the next message, or bytes that should not be there
class ChunkedDecoder {
 public:
  static constexpr std::size_t kMaxExtension = 1024;  // per chunk
  static constexpr std::size_t kMaxTrailer = 8192;    // per message

  // `on_bad`: malformed_request for a client's body, upstream_garbled for an upstream's.
  explicit ChunkedDecoder(ErrorKind on_bad) : on_bad_(on_bad) {}

  // Takes bytes off the front of `input` up to and including the next piece of payload, and returns
  // that piece, a view into `input`. Empty: the input is used up, or the message is done.
  Result<std::string_view> next(std::string_view& input);

  // The last chunk and the trailer were seen. What is left of the input is not ours.
  bool done() const { return state_ == State::done; }

 private:
  enum class State : std::uint8_t {
    size_first,
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailer_start,
    trailer,
    trailer_lf,
    end_lf,
    done,
    failed
  };

  Error fail(std::string_view what);

  ErrorKind on_bad_;
  State state_ = State::size_first;
  std::uint64_t left_ = 0;  // of the chunk under way
  std::uint32_t line_ = 0;  // extension bytes of this chunk, or trailer bytes of the message
  std::uint8_t digits_ = 0;
};

}  // namespace llm_proxy
