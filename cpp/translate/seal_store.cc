#include "translate/seal_store.h"

#include <algorithm>
#include <functional>

#include "json/reader.h"
#include "translate/common.h"

namespace llm_proxy {
namespace {

std::string key_of(std::string_view session, std::string_view call_id) {
  std::string key(session);
  key += '\0';
  key += call_id;
  return key;
}

std::uint64_t hash_of(std::string_view text) {
  return std::hash<std::string_view>()(text);
}

// What tells two calls of one id apart: name and arguments, without white space between tokens.
std::string said_by(std::string_view name, std::string_view arguments) {
  std::string said(name);
  said += '\0';
  if (arguments.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    said += "{}";
  } else if (is_json_object(arguments)) {
    compact_to(arguments, said);
  } else {
    said += arguments;
  }
  return said;
}

std::string said_by(const ToolCallPart& call) {
  if (!call.arguments_object.empty()) return said_by(call.name.decode(), call.arguments_object);
  return said_by(call.name.decode(), call.arguments_text.decode());
}

}  // namespace

void SealStore::put(std::string_view session, std::string_view call_id, std::string_view call,
                    std::vector<Thinking> thinking, Clock::time_point now) {
  Entry entry{key_of(session, call_id), hash_of(call), 0, now + limits_.ttl, std::move(thinking)};
  entry.bytes = sizeof(Entry) + entry.key.size();
  for (const Thinking& part : entry.thinking) {
    entry.bytes += sizeof(Thinking) + part.text.size() + part.token.size() + part.item_id.size();
  }
  if (entry.bytes > limits_.bytes || limits_.entries == 0) return;
  const std::lock_guard lock(mutex_);
  while (!entries_.empty() && entries_.front().until <= now) drop(entries_.begin());
  const auto [first, last] = places_.equal_range(entry.key);
  for (auto same = first; same != last; ++same) {
    if (same->second->call != entry.call) continue;
    drop(same->second);
    break;
  }
  while (!entries_.empty() &&
         (entries_.size() >= limits_.entries || bytes_ + entry.bytes > limits_.bytes)) {
    drop(entries_.begin());
  }
  bytes_ += entry.bytes;
  entries_.push_back(std::move(entry));
  places_.emplace(entries_.back().key, std::prev(entries_.end()));
}

std::vector<SealStore::Thinking> SealStore::find(std::string_view session, std::string_view call_id,
                                                 std::string_view call,
                                                 Clock::time_point now) const {
  const std::uint64_t wanted = hash_of(call);
  const std::string key = key_of(session, call_id);
  const std::lock_guard lock(mutex_);
  const auto [first, last] = places_.equal_range(key);
  const Entry* only = nullptr;
  std::size_t fresh = 0;
  for (auto place = first; place != last; ++place) {
    const Entry& entry = *place->second;
    if (entry.until <= now) continue;
    if (entry.call == wanted) return entry.thinking;
    only = &entry;
    ++fresh;
  }
  // A client may spell the arguments anew; where the id alone is enough it decides.
  return fresh == 1 ? only->thinking : std::vector<Thinking>();
}

std::size_t SealStore::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

std::size_t SealStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void SealStore::drop(Place entry) {
  const auto [first, last] = places_.equal_range(entry->key);
  for (auto place = first; place != last; ++place) {
    if (place->second != entry) continue;
    places_.erase(place);
    break;
  }
  bytes_ -= entry->bytes;
  entries_.erase(entry);
}

void SealRecorder::on_event(const Event& event) {
  if (const auto* part = std::get_if<PartStart>(&event)) {
    kind_ = part->kind;
    if (kind_ == PartKind::thinking) {
      thinking_.emplace_back().redacted = part->redacted;
    } else if (kind_ == PartKind::tool_call) {
      call_id_ = part->call_id.decode();
      call_ = part->name.decode();
      call_ += '\0';
    }
  } else if (const auto* delta = std::get_if<PartDelta>(&event)) {
    if (kind_ == PartKind::thinking) delta->text.decode_to(thinking_.back().text);
    if (kind_ == PartKind::tool_call) delta->text.decode_to(call_);
  } else if (const auto* seal = std::get_if<PartSeal>(&event)) {
    if (kind_ == PartKind::thinking) {
      thinking_.back().maker = seal->seal.maker;
      thinking_.back().token = seal->seal.token.decode();
      thinking_.back().item_id = seal->seal.item_id.decode();
    }
  } else if (std::holds_alternative<PartEnd>(event)) {
    if (kind_ == PartKind::tool_call && !call_id_.empty()) {
      thinking_.erase(
          std::remove_if(thinking_.begin(), thinking_.end(),
                         [](const SealStore::Thinking& part) { return part.token.empty(); }),
          thinking_.end());
      if (!thinking_.empty()) {
        const std::size_t name_end = call_.find('\0');
        store_.put(session_, call_id_,
                   said_by(call_.substr(0, name_end), std::string_view(call_).substr(name_end + 1)),
                   std::move(thinking_), now_);
      }
      thinking_.clear();
    }
    kind_ = PartKind::raw;
  }
  next_.on_event(event);
}

void restore_seals(Request& request, SealStore& store, std::string_view session,
                   WireFormat upstream, SealStore::Clock::time_point now) {
  if (store.entries() == 0) return;
  // Thinking since the last call: in this message, or at the end of the ones before it.
  std::vector<ThinkingPart*> before;
  for (Message& message : request.messages) {
    if (message.role != Role::assistant) {
      before.clear();
      continue;
    }
    for (std::size_t i = 0; i < message.parts.size(); ++i) {
      if (auto* thinking = std::get_if<ThinkingPart>(&message.parts[i])) before.push_back(thinking);
      const auto* call = std::get_if<ToolCallPart>(&message.parts[i]);
      if (call == nullptr) continue;
      const bool sealed = !call->seal.empty() && call->seal.maker == upstream;
      const bool has_own =
          sealed || std::any_of(before.begin(), before.end(), [&](const ThinkingPart* part) {
            return !part->seal.empty() && part->seal.maker == upstream;
          });
      const auto kept = has_own ? std::vector<SealStore::Thinking>()
                                : store.find(session, call->id.decode(), said_by(*call), now);
      if (kept.empty()) {
        before.clear();
        continue;
      }
      std::vector<Part> restored;
      for (const SealStore::Thinking& part : kept) {
        if (part.maker != upstream) continue;
        const Seal seal{part.maker, request.own(part.token), request.own(part.item_id)};
        const auto same =
            std::find_if(before.begin(), before.end(), [&](const ThinkingPart* there) {
              return there->seal.empty() && !there->text.empty() && there->text == part.text;
            });
        if (same != before.end()) {
          (*same)->seal = seal;
          continue;
        }
        ThinkingPart thinking{
            .text = request.own(part.text), .seal = seal, .redacted = part.redacted};
        restored.emplace_back(thinking);
      }
      // Anthropic wants thinking first in its turn; the others right before what it led to.
      std::size_t at = i;
      if (upstream == WireFormat::anthropic_messages) {
        at = 0;
        while (at < i && std::holds_alternative<ThinkingPart>(message.parts[at])) ++at;
      }
      message.parts.insert(message.parts.begin() + static_cast<std::ptrdiff_t>(at),
                           restored.begin(), restored.end());
      if (!restored.empty()) message.source = {};
      i += restored.size();
      before.clear();
    }
  }
}

}  // namespace llm_proxy
