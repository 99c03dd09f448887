#include "http/chunked_decoder.h"

#include <algorithm>

namespace llm_proxy {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_control(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
}

constexpr std::uint8_t kMaxDigits = 15;  // 2^60 bytes: no size overflows

}  // namespace

Error ChunkedDecoder::fail(std::string_view what) {
  state_ = State::failed;
  return {on_bad_, std::string("The chunked body is malformed: ").append(what)};
}

Result<std::string_view> ChunkedDecoder::next(std::string_view& input) {
  while (!input.empty() && state_ != State::done) {
    if (state_ == State::data) {
      const std::string_view piece = input.substr(0, std::min<std::uint64_t>(left_, input.size()));
      input.remove_prefix(piece.size());
      left_ -= piece.size();
      if (left_ == 0) state_ = State::data_cr;
      return piece;
    }
    const char c = input.front();
    input.remove_prefix(1);
    switch (state_) {
      case State::size_first:
      case State::size:
        if (const int digit = hex_digit(c); digit >= 0) {
          if (state_ == State::size_first) left_ = digits_ = 0;
          if (++digits_ > kMaxDigits) return fail("a chunk is too large.");
          left_ = left_ * 16 + static_cast<std::uint64_t>(digit);
          state_ = State::size;
        } else if (state_ == State::size && c == '\r') {
          state_ = State::size_lf;
        } else if (state_ == State::size && (c == ';' || c == ' ' || c == '\t')) {
          line_ = 1;
          state_ = State::extension;
        } else {
          return fail("a chunk has no size.");
        }
        break;
      case State::extension:
        if (c == '\r') {
          state_ = State::size_lf;
        } else if (is_control(c)) {
          return fail("a control character stands in an extension.");
        } else if (++line_ > kMaxExtension) {
          return fail("an extension is too long.");
        }
        break;
      case State::size_lf:
        if (c != '\n') return fail("a line does not end in CRLF.");
        line_ = 0;
        state_ = left_ > 0 ? State::data : State::trailer_start;
        break;
      case State::data_cr:
        if (c != '\r') return fail("a chunk is longer than its size.");
        state_ = State::data_lf;
        break;
      case State::data_lf:
        if (c != '\n') return fail("a chunk is longer than its size.");
        state_ = State::size_first;
        break;
      case State::trailer_start:
        if (c == '\r') {
          state_ = State::end_lf;
          break;
        }
        if (c == ' ' || c == '\t') return fail("a trailer field is folded.");
        state_ = State::trailer;
        [[fallthrough]];
      case State::trailer:
        if (c == '\r') {
          state_ = State::trailer_lf;
        } else if (is_control(c)) {
          return fail("a control character stands in the trailer.");
        }
        if (++line_ > kMaxTrailer) return fail("the trailer is too long.");
        break;
      case State::trailer_lf:
        if (c != '\n') return fail("a line does not end in CRLF.");
        state_ = State::trailer_start;
        break;
      case State::end_lf:
        if (c != '\n') return fail("a line does not end in CRLF.");
        state_ = State::done;
        break;
      case State::failed:
        return fail("it was already refused.");
      case State::data:
      case State::done:
        break;
    }
  }
  return std::string_view();
}

}  // namespace llm_proxy
