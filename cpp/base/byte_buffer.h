#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <span>
#include <string_view>
#include <utility>

namespace llm_proxy {

// Bytes that arrive at the back and leave at the front, in one flat block that is not cleared when
// it grows.
//
// 64 bytes beyond the capacity are always readable (simdjson wants that). Bounded by its user, who
// asks before preparing. Views into it die when it grows; reserve() first where a view must live.
class ByteBuffer {
 public:
  static constexpr std::size_t kPadding = 64;

  ByteBuffer() = default;
  ByteBuffer(ByteBuffer&& other) noexcept { swap(other); }
  ByteBuffer& operator=(ByteBuffer&& other) noexcept {
    ByteBuffer(std::move(other)).swap(*this);
    return *this;
  }
  ~ByteBuffer() { std::free(data_); }

  std::string_view view() const { return {data_ + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }
  std::size_t capacity() const { return capacity_; }
  std::size_t room() const { return capacity_ - end_; }

  // At least `n` writable bytes at the back (all the room there is, if more); commit() says how
  // many were filled.
  std::span<char> prepare(std::size_t n) {
    if (room() < n) make_room(n);
    return {data_ + end_, room()};
  }
  void commit(std::size_t n) { end_ += n; }

  void append(std::string_view bytes) {
    if (bytes.empty()) return;
    std::memcpy(prepare(bytes.size()).data(), bytes.data(), bytes.size());
    commit(bytes.size());
  }

  // Drops bytes at the front; an emptied buffer starts again at its beginning.
  void consume(std::size_t n) {
    begin_ += n;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  void clear() { begin_ = end_ = 0; }

  // Room for `n` bytes in all without moving again.
  void reserve(std::size_t n) {
    if (n > size() && begin_ + n > capacity_) make_room(n - size());
  }
  // Gives the memory back.
  void release() { ByteBuffer().swap(*this); }

  void swap(ByteBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  void make_room(std::size_t n) {
    const std::size_t held = size();
    if (begin_ > 0 && capacity_ - held >= n && begin_ >= capacity_ / 2) {
      std::memmove(data_, data_ + begin_, held);
    } else {
      // Doubles when it grows bit by bit; exact when asked for one large piece.
      const std::size_t wanted = held + n;
      const std::size_t grown = held == 0 ? wanted : std::max(wanted, capacity_ + capacity_ / 2);
      char* fresh = static_cast<char*>(std::malloc(grown + kPadding));
      if (fresh == nullptr) throw std::bad_alloc();
      if (held != 0) std::memcpy(fresh, data_ + begin_, held);
      std::memset(fresh + grown, 0, kPadding);
      std::free(data_);
      data_ = fresh;
      capacity_ = grown;
    }
    begin_ = 0;
    end_ = held;
  }

  char* data_ = nullptr;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace llm_proxy
