#include "routing/selector_cache.h"

#include <functional>
#include <utility>

namespace llm_proxy {

Result<std::shared_ptr<const Selector>> SelectorCache::parse(std::string_view text) {
  auto& slot = slots_[std::hash<std::string_view>()(text) % kSlots];
  auto known = slot.load(std::memory_order_acquire);
  if (known == nullptr || known->text != text) {
    auto fresh = std::make_shared<Entry>();
    fresh->text = text;
    auto selector = parse_selector(fresh->text);
    if (!selector) return std::move(selector).error();
    fresh->selector = *std::move(selector);
    known = std::move(fresh);
    if (text.size() <= kMaxText) slot.store(known, std::memory_order_release);
  }
  const auto* selector = &known->selector;
  return std::shared_ptr<const Selector>(std::move(known), selector);
}

}  // namespace llm_proxy
