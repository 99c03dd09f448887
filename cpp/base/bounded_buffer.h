#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace llm_proxy {

// Bytes that a peer sends and that have to be kept, up to a bound that the constructor is given.
//
// The way to keep bytes of an upstream or a client: there is no such buffer without a bound, and
// whoever appends has to look at whether it fitted. Takes up to twice the memory of what it holds.
// Owned by whoever reads the peer; views into it end with the next change.
class BoundedBuffer {
 public:
  // `bound`: the most bytes it ever holds.
  explicit BoundedBuffer(std::size_t bound) : bound_(bound) {}

  // Appends all of `bytes`. False: they do not fit, and nothing was appended.
  [[nodiscard]] bool append(std::string_view bytes) {
    if (bytes.size() > bound_ - bytes_.size()) return false;
    const std::size_t wanted = bytes_.size() + bytes.size();
    if (wanted > bytes_.capacity()) {
      bytes_.reserve(std::min(std::max(wanted, 2 * bytes_.capacity()), bound_));
    }
    bytes_.append(bytes);
    return true;
  }

  std::string_view view() const { return bytes_; }
  std::size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  std::size_t bound() const { return bound_; }

  // Forgets the bytes and keeps the memory.
  void clear() { bytes_.clear(); }
  void drop_front(std::size_t n) { bytes_.erase(0, n); }
  // The bytes, moved out: the buffer is empty afterwards.
  std::string take() { return std::exchange(bytes_, {}); }
  // The bytes, to be changed in place by what makes them no longer.
  std::string& text() { return bytes_; }

 private:
  const std::size_t bound_;
  std::string bytes_;
};

}  // namespace llm_proxy
