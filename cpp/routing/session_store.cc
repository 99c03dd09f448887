#include "routing/session_store.h"

#include <algorithm>
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

// Each owner's oldest are looked at when one of them may be too old, and not before.
void SessionStore::drop_old(TimePoint now, std::chrono::milliseconds ttl) {
  if (now < next_old_) return;
  next_old_ = TimePoint::max();
  entries_.sweep([&](Place place) {
    const auto until = place->value.used + ttl;
    if (until > now) {
      next_old_ = std::min(next_old_, until);
      return false;
    }
    erase(place);
    return true;
  });
}

SessionStore::Entry* SessionStore::touch(std::string_view id, TimePoint now,
                                         std::chrono::milliseconds ttl) {
  next_old_ = std::min(next_old_, now + ttl);  // it may have become shorter
  drop_old(now, ttl);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return nullptr;
  auto& entry = found->second->value;
  if (entry.used + ttl <= now) {
    erase(found->second);
    return nullptr;
  }
  entries_.renew(found->second);
  entry.used = now;
  return &entry;
}

SessionStore::Entry& SessionStore::make(std::string_view id, Kind kind, TimePoint now) {
  auto found = by_id_.find(id);
  if (found == by_id_.end()) {
    if (entries_.size() == kMaxSessions) {
      erase(entries_.crowded([](const FairList<Entry>::Owner& each) { return each.nodes.size(); }));
    }
    const auto place = entries_.add(id.substr(0, kOwnerBytes),
                                    Entry{std::string(id), kind, {}, false, now}, id.size());
    found = by_id_.emplace(place->value.id, place).first;
    size_.store(entries_.size(), std::memory_order_relaxed);
    if (kind == Kind::derived) derived_.fetch_add(1, std::memory_order_relaxed);
  } else {
    entries_.renew(found->second);
  }
  found->second->value.used = now;
  return found->second->value;
}

void SessionStore::erase(Place place) {
  by_id_.erase(place->value.id);
  if (place->value.kind == Kind::derived) derived_.fetch_sub(1, std::memory_order_relaxed);
  entries_.erase(place);
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
    if (!found->second->value.first_used) return erase(found->second);
  }
  make(id, kind, now).state = std::move(state);
}

void SessionStore::use_oneoff(std::string_view id, std::string_view selector) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end() || found->second->value.state.oneoff != selector) return;
  auto& entry = found->second->value;
  entry.state.oneoff.clear();
  if (entry.state.empty() && !entry.first_used) erase(found->second);
}

bool SessionStore::first_request(std::string_view id, Kind kind, TimePoint now,
                                 std::chrono::milliseconds ttl) {
  const std::lock_guard lock(mutex_);
  auto* entry = touch(id, now, ttl);
  if (entry == nullptr) entry = &make(id, kind, now);
  return !std::exchange(entry->first_used, true);
}

}  // namespace llm_proxy
