#include "stores/seal_store.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <unordered_set>

#include "formats/shared/tool_names.h"
#include "formats/shared/words.h"

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

// What tells two calls of one id apart: name and arguments. Clients parse arguments and write them
// anew: white space, the order of members and how characters are escaped count nothing. The text of
// a custom tool is the same wrapped as {"input": text} or not.
std::string said_by(std::string_view name, std::string_view arguments) {
  std::string said(name);
  said += '\0';
  if (arguments.find_first_not_of(" \t\r\n") == std::string_view::npos) return said + "{}";
  const auto parsed = nlohmann::json::parse(arguments, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) return said.append(arguments);
  if (parsed.size() == 1 && parsed.contains("input") && parsed["input"].is_string()) {
    return said + parsed["input"].get_ref<const std::string&>();
  }
  return said + parsed.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string said_by(const ToolCallPart& call) {
  if (!call.arguments_object.empty()) return said_by(call.name.decode(), call.arguments_object);
  return said_by(call.name.decode(), call.arguments_text.decode());
}

// What tells one conversation of a session from another: what the user said first.
std::string head_of(const Request& request) {
  for (const Message& message : request.messages) {
    if (message.role != Role::user) continue;
    for (const Part& part : message.parts) {
      const auto* text = std::get_if<TextPart>(&part);
      if (text != nullptr) return std::to_string(hash_of(text->text.decode()));
    }
  }
  return "-";
}

// The key of the `again`-th call of this id that says this, from 0.
std::string again_key(std::string call_id, std::size_t again) {
  if (again > 0) call_id.append(1, '\0').append(std::to_string(again));
  return call_id;
}

// The id of a call and what it says, as one key.
std::string whole_call(std::string_view call_id, std::string_view said) {
  return std::string(call_id).append(1, '\0').append(said);
}

// What a stream's end sealed anew is kept by item.
constexpr std::string_view kAnew = "sealed anew";

// The call's place in its conversation: how many calls came before it.
std::string place_of(std::string_view head, std::uint64_t number, std::string_view name) {
  std::string place(head);
  place += '\0';
  place += std::to_string(number);
  place += '\0';
  place += name;
  return place;
}

}  // namespace

void SealStore::put(std::string_view session, std::string_view call_id, std::string_view call,
                    std::vector<Thinking> thinking, Clock::time_point now) {
  put(session, Entry{key_of(session, call_id), hash_of(call), 0, {}, std::move(thinking), {}}, now);
}

void SealStore::put_id(std::string_view session, std::string_view place, std::string_view call,
                       std::string id, Clock::time_point now) {
  put(session, Entry{key_of(session, place), hash_of(call), 0, {}, {}, std::move(id)}, now);
}

void SealStore::put(std::string_view session, Entry entry, Clock::time_point now) {
  entry.until = now + limits_.ttl;
  entry.bytes = sizeof(Entry) + entry.key.size() + entry.id.size();
  for (const Thinking& part : entry.thinking) {
    entry.bytes += sizeof(Thinking) + part.text.size() + part.token.size() + part.item_id.size();
  }
  if (entry.bytes > limits_.bytes || limits_.entries == 0) return;
  const std::lock_guard lock(mutex_);
  drop_old(now);
  const auto [first, last] = places_.equal_range(entry.key);
  for (auto same = first; same != last; ++same) {
    if (same->second->value.call != entry.call) continue;
    drop(same->second);
    break;
  }
  const auto bytes = entry.bytes;
  next_old_ = std::min(next_old_, entry.until);
  const auto kept = entries_.add(session.substr(0, session.find('\0', 1)), std::move(entry), bytes);
  places_.emplace(kept->value.key, kept);
  while (entries_.size() > limits_.entries || entries_.bytes() > limits_.bytes) {
    drop(entries_.crowded([this](const FairList<Entry>::Owner& each) {
      return share_of(each.nodes.size(), limits_.entries, each.bytes, limits_.bytes);
    }));
  }
}

// Each owner's oldest are looked at when one of them may be too old, and not before.
void SealStore::drop_old(Clock::time_point now) {
  if (now < next_old_) return;
  next_old_ = Clock::time_point::max();
  entries_.sweep([&](Place place) {
    if (place->value.until > now) {
      next_old_ = std::min(next_old_, place->value.until);
      return false;
    }
    drop(place);
    return true;
  });
}

std::vector<SealStore::Thinking> SealStore::find(std::string_view session, std::string_view call_id,
                                                 std::string_view call, Clock::time_point now) {
  const std::string key = key_of(session, call_id);
  const std::lock_guard lock(mutex_);
  const Entry* entry = use(key, call, now);
  return entry == nullptr ? std::vector<Thinking>() : entry->thinking;
}

std::string SealStore::find_id(std::string_view session, std::string_view place,
                               std::string_view call, Clock::time_point now) {
  const std::string key = key_of(session, place);
  const std::lock_guard lock(mutex_);
  const Entry* entry = use(key, call, now);
  return entry == nullptr ? std::string() : entry->id;
}

// The entry of this key and call; its time begins anew, so that a long session keeps its own. Null
// when there is none. The lock is held.
const SealStore::Entry* SealStore::use(const std::string& key, std::string_view call,
                                       Clock::time_point now) {
  const std::uint64_t wanted = hash_of(call);
  const auto [first, last] = places_.equal_range(key);
  const auto found = std::find_if(first, last, [&](const auto& place) {
    const Entry& entry = place.second->value;
    return entry.call == wanted && entry.until > now;
  });
  if (found == last) return nullptr;
  found->second->value.until = now + limits_.ttl;
  entries_.renew(found->second);
  return &found->second->value;
}

std::size_t SealStore::entries() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

std::size_t SealStore::bytes() const {
  const std::lock_guard lock(mutex_);
  return entries_.bytes();
}

void SealStore::drop(Place entry) {
  const auto [first, last] = places_.equal_range(entry->value.key);
  for (auto place = first; place != last; ++place) {
    if (place->second != entry) continue;
    places_.erase(place);
    break;
  }
  entries_.erase(entry);
}

SealRecorder::SealRecorder(SealStore& store, std::string session, EventSink& next,
                           SealStore::Clock::time_point now, const EncodeContext& asked,
                           bool keep_ids)
    : store_(store),
      session_(std::move(session)),
      next_(next),
      now_(now),
      names_(asked.translation) {
  if (asked.request == nullptr) return;
  if (keep_ids) head_ = head_of(*asked.request);
  for (const Message& message : asked.request->messages) {
    for (const Part& part : message.parts) {
      const auto* call = std::get_if<ToolCallPart>(&part);
      if (call == nullptr) continue;
      ++calls_;
      ++said_[whole_call(call->id.decode(), said_by(*call))];
    }
  }
}

void SealRecorder::on_event(const Event& event) {
  if (const auto* part = std::get_if<PartStart>(&event)) {
    kind_ = part->kind;
    if (kind_ == PartKind::thinking) {
      thinking_.emplace_back().redacted = part->redacted;
    } else if (kind_ == PartKind::tool_call) {
      call_id_ = part->call_id.decode();
      name_ = part->name.decode();
      arguments_.clear();
    }
  } else if (const auto* delta = std::get_if<PartDelta>(&event)) {
    if (kind_ == PartKind::thinking) delta->text.decode_to(thinking_.back().text);
    if (kind_ == PartKind::tool_call) delta->text.decode_to(arguments_);
  } else if (const auto* seal = std::get_if<PartSeal>(&event)) {
    if (kind_ == PartKind::thinking) {
      thinking_.back().maker = seal->seal.maker;
      thinking_.back().token = seal->seal.token.decode();
      thinking_.back().item_id = seal->seal.item_id.decode();
    }
  } else if (std::holds_alternative<PartEnd>(event)) {
    if (kind_ == PartKind::tool_call) end_call();
    kind_ = PartKind::raw;
  } else if (const auto* finish = std::get_if<Finish>(&event)) {
    for (const Seal& anew : finish->seals) {
      store_.put_id(session_, anew.item_id.decode(), kAnew, anew.token.decode(), now_);
    }
  }
  next_.on_event(event);
}

void SealRecorder::end_call() {
  const std::uint64_t number = calls_++;
  if (call_id_.empty()) return;
  const Translation::ToolAlias* alias = find_alias(names_, Text::plain(name_));
  const std::string_view name = alias == nullptr ? std::string_view(name_) : alias->name;
  const auto said = said_by(name, arguments_);
  if (!head_.empty()) {
    store_.put_id(session_, place_of(head_, number, name), said, call_id_, now_);
  }
  const auto again = said_[whole_call(call_id_, said)]++;
  thinking_.erase(
      std::remove_if(thinking_.begin(), thinking_.end(),
                     [](const SealStore::Thinking& part) { return part.token.empty(); }),
      thinking_.end());
  if (!thinking_.empty()) {
    store_.put(session_, again_key(call_id_, again), said, std::move(thinking_), now_);
  }
  thinking_.clear();
}

void restore_ids(Request& request, SealStore& store, std::string_view session,
                 SealStore::Clock::time_point now) {
  if (store.entries() == 0) return;
  std::unordered_set<std::string> taken;
  std::unordered_map<std::string, Text> renamed;  // made-up id → the upstream's
  std::string head;
  std::uint64_t number = 0;
  for (Message& message : request.messages) {
    for (Part& part : message.parts) {
      if (auto* result = std::get_if<ToolResultPart>(&part); result && !renamed.empty()) {
        const auto found = renamed.find(result->call_id.decode());
        if (found != renamed.end()) result->call_id = found->second;
      }
      auto* call = std::get_if<ToolCallPart>(&part);
      if (call == nullptr) continue;
      std::string made = call->id.decode();
      if (call->id_made_up) {
        if (head.empty()) head = head_of(request);
        const std::string name = call->name.decode();
        std::string id = store.find_id(session, place_of(head, number, name), said_by(*call), now);
        // Some servers begin every reply with the same id: only the first of them keeps it.
        if (!id.empty() && taken.count(id) == 0) {
          call->id = request.own(id);
          renamed.insert_or_assign(std::move(made), call->id);
          made = std::move(id);
        }
      }
      taken.insert(std::move(made));
      ++number;
    }
  }
}

// Each item with its last seal.
static void renew_seals(Request& request, SealStore& store, std::string_view session,
                        SealStore::Clock::time_point now) {
  for (Message& message : request.messages) {
    for (Part& part : message.parts) {
      auto* thinking = std::get_if<ThinkingPart>(&part);
      if (thinking == nullptr || !format_of(thinking->seal.maker).seals.has_item_id ||
          thinking->seal.empty() || thinking->seal.item_id.empty()) {
        continue;
      }
      const std::string anew = store.find_id(session, thinking->seal.item_id.decode(), kAnew, now);
      if (!anew.empty()) thinking->seal.token = request.own(anew);
    }
  }
}

void restore_seals(Request& request, SealStore& store, std::string_view session,
                   WireFormat upstream, SealStore::Clock::time_point now) {
  if (store.entries() == 0) return;
  const SealFacts& seals = format_of(upstream).seals;
  std::unordered_map<std::string, std::size_t> said_so_far;
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
      const auto said = said_by(*call);
      const auto again = said_so_far[whole_call(call->id.decode(), said)]++;
      const bool sealed = !call->seal.empty() && call->seal.maker == upstream;
      const bool has_own =
          sealed || std::any_of(before.begin(), before.end(), [&](const ThinkingPart* part) {
            return !part->seal.empty() && part->seal.maker == upstream;
          });
      const auto kept = has_own
                            ? std::vector<SealStore::Thinking>()
                            : store.find(session, again_key(call->id.decode(), again), said, now);
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
      // Some formats want thinking first in its turn, the others right before what it led to.
      std::size_t at = i;
      if (seals.thinking_first) {
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
  if (seals.has_item_id) renew_seals(request, store, session, now);
}

}  // namespace llm_proxy
