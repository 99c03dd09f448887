#include "routing/session_store.h"

#include <utility>

namespace llm_proxy {

std::string session_selector(const SessionState& state, std::string_view model,
                             const RouteTable& routes) {
  std::string out(model);
  if (!state.oneoff.empty()) {
    out = state.oneoff;
  } else if (!state.model.empty()) {
    out = state.model;
    if (!state.backend.empty() && is_plain_selector(out) && !routes.names_backend(out)) {
      out = state.backend + ":" + out;
    }
  } else if (!state.backend.empty() && is_plain_selector(model)) {
    const auto own = routes.prefix(model) == nullptr ? model : model.substr(model.find(':') + 1);
    out = state.backend + ":" + std::string(own);
  }
  const auto chain = state.routes.find(out);
  if (chain == state.routes.end() || chain->second.elements.empty()) return out;
  std::string joined;
  for (const auto& element : chain->second.elements) {
    if (!joined.empty()) joined += '|';
    joined += element;
  }
  return joined;
}

SessionStore::Entry* SessionStore::touch(std::string_view id, TimePoint now,
                                         std::chrono::milliseconds ttl) {
  while (!entries_.empty() && entries_.back().used + ttl <= now) {
    erase(std::prev(entries_.end()));
  }
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  entries_.front().used = now;
  return &entries_.front();
}

SessionStore::Entry& SessionStore::make(std::string_view id, Kind kind, TimePoint now) {
  if (const auto found = by_id_.find(id); found != by_id_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
  } else {
    if (entries_.size() == kMaxSessions) erase(std::prev(entries_.end()));
    entries_.push_front(Entry{std::string(id), kind, {}, false, now});
    by_id_.emplace(entries_.front().id, entries_.begin());
    size_.store(entries_.size(), std::memory_order_relaxed);
    if (kind == Kind::derived) derived_.fetch_add(1, std::memory_order_relaxed);
  }
  entries_.front().used = now;
  return entries_.front();
}

void SessionStore::erase(Entries::iterator entry) {
  by_id_.erase(entry->id);
  if (entry->kind == Kind::derived) derived_.fetch_sub(1, std::memory_order_relaxed);
  entries_.erase(entry);
  size_.store(entries_.size(), std::memory_order_relaxed);
}

std::optional<SessionState> SessionStore::find(std::string_view id, TimePoint now,
                                               std::chrono::milliseconds ttl) {
  const std::lock_guard lock(mutex_);
  const auto* entry = touch(id, now, ttl);
  if (entry == nullptr) return std::nullopt;
  return entry->state;
}

void SessionStore::put(std::string_view id, Kind kind, SessionState state, TimePoint now) {
  const std::lock_guard lock(mutex_);
  if (state.empty()) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return;
    if (!found->second->first_used) return erase(found->second);
  }
  make(id, kind, now).state = std::move(state);
}

void SessionStore::use_oneoff(std::string_view id, std::string_view selector) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->state.oneoff != selector) return;
  found->second->state.oneoff.clear();
  if (found->second->state.empty() && !found->second->first_used) erase(found->second);
}

bool SessionStore::first_request(std::string_view id, Kind kind, TimePoint now,
                                 std::chrono::milliseconds ttl) {
  const std::lock_guard lock(mutex_);
  auto* entry = touch(id, now, ttl);
  if (entry == nullptr) entry = &make(id, kind, now);
  return !std::exchange(entry->first_used, true);
}

}  // namespace llm_proxy
