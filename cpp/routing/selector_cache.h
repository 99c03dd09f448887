#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "routing/selector.h"

namespace llm_proxy {

// The selectors of late, read once: clients name the same few again and again.
//
// Part of a route table; called on every worker, without a lock of its own. Holds kSlots selectors
// of at most kMaxText bytes; another one of the same slot takes its place.
class SelectorCache {
 public:
  static constexpr std::size_t kSlots = 64;
  static constexpr std::size_t kMaxText = 512;

  // As parse_selector(), but the selector lives as long as somebody holds it.
  Result<std::shared_ptr<const Selector>> parse(std::string_view text);

 private:
  struct Entry {
    std::string text;
    Selector selector;  // of `text`
  };

  std::array<std::atomic<std::shared_ptr<const Entry>>, kSlots> slots_;
};

}  // namespace llm_proxy
