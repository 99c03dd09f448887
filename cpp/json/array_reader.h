#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/bounded_buffer.h"
#include "base/result.h"

namespace llm_proxy {

// Takes the elements of one JSON array out of bytes that come in pieces, by the depth of brackets;
// the elements' own grammar is their reader's business. For Gemini's streams without server-sent
// events.
//
//   reader.add(bytes);
//   while (reader.next(element)) …      // a view until the next add()
//
// Owned by one exchange; sans-IO.
class JsonArrayReader {
 public:
  // An element longer than `max_element` is upstream_too_large, and so are more than twice as many
  // bytes given at once.
  explicit JsonArrayReader(std::size_t max_element)
      : max_element_(max_element), buffer_(2 * max_element) {}

  void add(std::string_view bytes);
  bool next(std::string_view& element);

  // The closing bracket was seen.
  bool ended() const { return state_ == State::ended; }
  // What does not belong into an array, or too long an element. Sticks.
  Result<void> status() const;

 private:
  enum class State : unsigned char { before, between, inside, ended, failed, too_large };

  std::size_t max_element_;
  BoundedBuffer buffer_;
  std::size_t at_ = 0;     // next byte to look at
  std::size_t begin_ = 0;  // of the element that is being read
  std::size_t depth_ = 0;
  bool in_string_ = false, escaped_ = false;
  State state_ = State::before;
};

}  // namespace llm_proxy
