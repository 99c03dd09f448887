#pragma once

#include <array>
#include <cstddef>
#include <new>

namespace llm_proxy {

// Allocates objects that come and go one by one, like the exchanges of a worker: the memory of the
// last few that went is kept by the thread they went on, for the next ones. Blocks of more than
// 1 KB are costly for the heap, more so the more pieces it is in.
//
// Under AddressSanitizer nothing is kept, so that it sees every use after free.
template <typename T>
class RecyclingAllocator {
 public:
  using value_type = T;

  RecyclingAllocator() = default;
  template <typename U>
  RecyclingAllocator(const RecyclingAllocator<U>&) {}

  T* allocate(std::size_t count) {
    if (count == 1 && spare.count > 0) return static_cast<T*>(spare.blocks[--spare.count]);
    return static_cast<T*>(::operator new(count * sizeof(T)));
  }

  void deallocate(T* block, std::size_t count) {
    if (count == 1 && spare.count < spare.most) {
      spare.blocks[spare.count++] = block;
    } else {
      ::operator delete(block);
    }
  }

  friend bool operator==(const RecyclingAllocator&, const RecyclingAllocator&) { return true; }

 private:
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

  struct Spare {
#ifdef __SANITIZE_ADDRESS__
    std::size_t most = 0;
#else
    std::size_t most = 8;
#endif
    std::size_t count = 0;
    std::array<void*, 8> blocks{};

    ~Spare() {
      most = 0;
      while (count > 0) ::operator delete(blocks[--count]);
    }
  };
  static inline thread_local Spare spare;
};

}  // namespace llm_proxy
