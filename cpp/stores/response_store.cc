#include "stores/response_store.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>
#include <vector>

#include "formats/shared/ids.h"
#include "http/url.h"
#include "json/reader.h"
#include "json/splice.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

std::string key_of(std::string_view owner, std::string_view name) {
  std::string key(owner);
  key += '\0';
  key += name;
  return key;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// What stands between an array's brackets.
std::string_view inside(JsonSlice array) {
  return array.size() < 2 || array.front() != '[' ? std::string_view()
                                                  : trimmed(array.substr(1, array.size() - 2));
}

// A request's input as items, joined by commas: a text alone is what a user says.
std::string items_of(JsonSlice input) {
  if (input.empty() || input.front() == 'n') return {};
  if (input.front() != '"') return std::string(inside(input));
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("type", "message").member("role", "user");
  json.key("content").begin_array().begin_object();
  json.member("type", "input_text").member_raw("text", input);
  json.end_object().end_array().end_object();
  return out;
}

void append_items(std::string_view items, std::string& out) {
  if (items.empty()) return;
  if (!out.empty() && out.back() != '[') out += ',';
  out += items;
}

void write_listed(JsonSlice item, std::string_view seed, std::uint64_t position, JsonWriter& json) {
  const bool is_message = member(item, "type").empty() || string_member(item, "type") == "message";
  const bool from_model = string_member(item, "role") == "assistant";
  json.begin_object();
  if (member(item, "type").empty()) json.member("type", "message");
  if (string_member(item, "id").empty()) json.member("id", made_id("msg_", seed, position));
  if (is_message && member(item, "status").empty()) json.member("status", "completed");
  JsonReader reader(item);
  std::string_view key;
  reader.begin_object();
  while (reader.next_key(key)) {
    const std::string name(key);
    JsonSlice value;
    if (!reader.value(value)) break;
    if (name == "id" && value == "null") continue;
    json.key(Text::plain(name));
    if (is_message && name == "content" && value.starts_with('"')) {
      json.begin_array().begin_object().member("type", from_model ? "output_text" : "input_text");
      if (from_model) json.member_raw("annotations", "[]");
      json.member_raw("text", value).end_object().end_array();
    } else {
      json.raw(value);
    }
  }
  json.end_object();
}

}  // namespace

// A long conversation is let go turn by turn, not in one deep recursion.
StoredResponse::~StoredResponse() {
  if (account) {
    account->bytes.fetch_sub(size());
    account->all->fetch_sub(size());
  }
  auto next = std::move(before);
  while (next && next.use_count() == 1) {
    next = std::move(const_cast<StoredResponse&>(*next).before);
  }
}

void ResponseStore::put(std::string_view owner, std::string_view name,
                        std::shared_ptr<StoredResponse> response, TimePoint now) {
  const auto size = response->size();
  if (limits_.store_entries == 0 || size > limits_.store_bytes) return;
  auto key = key_of(owner, name);
  const auto until = now + limits_.store_seconds;
  const std::lock_guard lock(mutex_);
  if (const auto known = places_.find(key); known != places_.end()) drop(known->second);
  drop_old(now);
  const auto kept = kept_.add(owner, {key, std::string(name), until, std::move(response)}, size);
  ++names_[kept->value.name];
  places_.emplace(std::move(key), kept);
  next_old_ = std::min(next_old_, until);
  account_for(*kept);
  const auto share = [this](const FairList<Kept>::Owner& each) {
    return share_of(each.nodes.size(), limits_.store_entries,
                    each.nodes.front().value.response->account->bytes.load(), limits_.store_bytes);
  };
  while (!kept_.empty() && is_full()) {
    const auto place = kept_.crowded(share);
    // All who keep something have less than a fair share: what is too much is the past of requests
    // under way, which goes when they end.
    if (share(*place->owner) * (kept_.owners() + 1) < kWholeShare) break;
    drop(place);
  }
}

bool ResponseStore::is_full() const {
  return kept_.size() > limits_.store_entries || account_->load() > limits_.store_bytes;
}

// All that one owner keeps is on one account.
void ResponseStore::account_for(FairList<Kept>::Node& node) {
  auto& response = const_cast<StoredResponse&>(*node.value.response);
  if (response.account) return;  // kept under another name already
  const auto& oldest = node.owner->nodes.front().value.response->account;
  if (oldest) {
    response.account = oldest;
  } else if (response.before && response.before->account) {
    response.account = response.before->account;
  } else {
    response.account = std::make_shared<StoredResponse::Account>(account_);
  }
  response.account->bytes.fetch_add(response.size());
  account_->fetch_add(response.size());
}

// Each owner's oldest are looked at when one of them may be too old, and not before.
void ResponseStore::drop_old(TimePoint now) {
  if (now < next_old_) return;
  next_old_ = TimePoint::max();
  kept_.sweep([&](Place place) {
    if (place->value.until > now) {
      next_old_ = std::min(next_old_, place->value.until);
      return false;
    }
    drop(place);
    return true;
  });
}

bool ResponseStore::knows(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  return names_.contains(std::string(name));
}

ResponseStore::Entry ResponseStore::find(std::string_view owner, std::string_view name,
                                         TimePoint now) const {
  const auto key = key_of(owner, name);
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(key);
  if (place == places_.end() || place->second->value.until <= now) return nullptr;
  return place->second->value.response;
}

bool ResponseStore::erase(std::string_view owner, std::string_view name) {
  const auto key = key_of(owner, name);
  const std::lock_guard lock(mutex_);
  const auto place = places_.find(key);
  if (place == places_.end()) return false;
  drop(place->second);
  return true;
}

std::size_t ResponseStore::entries() const {
  const std::lock_guard lock(mutex_);
  return kept_.size();
}

void ResponseStore::drop(Place kept) {
  if (const auto name = names_.find(kept->value.name); --name->second == 0) names_.erase(name);
  places_.erase(kept->value.key);
  kept_.erase(kept);
}

// ---- one turn

Result<std::unique_ptr<ResponseTurn>> ResponseTurn::open(ResponseStore& store,
                                                         std::string_view owner,
                                                         std::string_view body,
                                                         const RequestPeek& peek, TimePoint now) {
  const auto previous = peek.previous_response_id.of(body);
  const auto conversation = peek.conversation.of(body);
  if (!previous.empty() && !conversation.empty()) {
    Error error{ErrorKind::malformed_request,
                "previous_response_id and conversation cannot both be given"};
    error.param = "previous_response_id";
    return error;
  }
  std::unique_ptr<ResponseTurn> turn;
  if (!peek.store && previous.empty() && conversation.empty()) return turn;
  turn.reset(new ResponseTurn(store, owner, now));
  turn->wanted_ = peek.store;
  turn->input_ = items_of(peek.input.of(body));
  if (previous.starts_with('"')) {
    turn->previous_id_ = previous;
    const auto id = Text::escaped(previous.substr(1, previous.size() - 2)).decode();
    turn->before_ = store.find(owner, id, now);
    if (turn->before_ && turn->before_->id != id) turn->before_ = nullptr;
    turn->of_another_ = !turn->before_ && store.knows(id);
  } else if (!conversation.empty()) {
    turn->conversation_ =
        conversation.starts_with('"')
            ? Text::escaped(conversation.substr(1, conversation.size() - 2)).decode()
            : string_member(conversation, "id").decode();
    turn->before_ = find_conversation(store, owner, turn->conversation_, now);
    turn->of_another_ = !turn->before_ && store.knows(turn->conversation_);
    JsonWriter json(turn->conversation_object_);
    json.begin_object().member("id", std::string_view(turn->conversation_)).end_object();
  }
  turn->foreign_ = !turn->before_ && !(previous.empty() && conversation.empty());
  if (turn->before_ && !turn->before_->whole) turn->before_ = nullptr;
  return turn;
}

Error ResponseTurn::foreign_past() const {
  if (previous_id_.empty()) {
    Error error{ErrorKind::not_found, "Conversation with id '" + conversation_ +
                                          "' not found: this proxy keeps none of that name for "
                                          "this client"};
    error.param = "conversation";
    error.code = "conversation_not_found";
    return error;
  }
  Error error{ErrorKind::malformed_request,
              "Previous response with id " + previous_id_ +
                  " not found: this proxy keeps none of that name for this client. Send the whole "
                  "conversation instead"};
  error.param = "previous_response_id";
  error.code = "previous_response_not_found";
  return error;
}

std::string ResponseTurn::expanded(std::string_view body, const RequestPeek& peek) {
  expanded_ = true;
  std::vector<const StoredResponse*> past;
  for (auto* at = before_.get(); at != nullptr; at = at->before.get()) past.push_back(at);
  std::string input = "[";
  for (auto turn = past.rbegin(); turn != past.rend(); ++turn) {
    append_items((*turn)->input, input);
    append_items((*turn)->output, input);
  }
  append_items(input_, input);
  input += ']';

  std::vector<Splice> splices;
  if (peek.input.empty()) {
    splices.push_back({peek.object_begin, peek.object_begin, "\"input\":" + input + ","});
  } else {
    splices.push_back({peek.input.begin, peek.input.end, std::move(input)});
  }
  for (const auto span : {peek.previous_response_id, peek.conversation}) {
    if (!span.empty()) splices.push_back({span.begin, span.end, "null"});
  }
  std::sort(splices.begin(), splices.end(),
            [](const Splice& a, const Splice& b) { return a.begin < b.begin; });
  return spliced(body, splices);
}

bool ResponseTurn::is_unknown_past(const Error& error) {
  const int status = error.http_status();
  if (status != 400 && status != 404 && status != 422) return false;
  constexpr std::array<std::string_view, 3> kSigns{"previous_response", "Previous response",
                                                   "onversation"};
  return std::any_of(kSigns.begin(), kSigns.end(), [&](std::string_view sign) {
    return error.code.find(sign) != std::string::npos ||
           error.param.find(sign) != std::string::npos ||
           error.message.find(sign) != std::string::npos;
  });
}

void ResponseTurn::on_whole(std::string_view body, std::string_view instance) {
  keep(trimmed(body), instance);
}

void ResponseTurn::on_stream(std::string_view bytes, std::string_view instance) {
  if (kept_ || (!wanted_ && conversation_.empty())) return;
  SseEvent event;
  for (auto got = reader_.next(bytes, event); got && *got; got = reader_.next(bytes, event)) {
    const auto type =
        event.event.empty() ? string_member(event.data, "type") : Text::plain(event.event);
    if (type == "response.completed" || type == "response.incomplete") {
      return keep(member(event.data, "response"), instance);
    }
  }
}

void ResponseTurn::keep(JsonSlice response, std::string_view instance) {
  if (kept_ || !response.starts_with('{')) return;
  auto id = string_member(response, "id").decode();
  if (id.empty() || string_member(response, "status") == "failed") return;
  kept_ = true;
  auto stored = std::make_shared<StoredResponse>();
  stored->id = id;
  stored->body = response;
  if (!left_out_) {
    stored->output = inside(member(stored->body, "output"));
    stored->input = input_;
  }
  if (member(response, "store") != "false") stored->holder = instance;
  stored->before = before_;
  stored->whole = before_ || expanded_ || (previous_id_.empty() && conversation_.empty());
  // A conversation goes on whether or not the turn is kept as a response; one that was deleted
  // meanwhile does not come back.
  if (before_ && find_conversation(store_, owner_, conversation_, now_)) {
    store_.put(owner_, conversation_, stored, now_);
  }
  if (wanted_) store_.put(owner_, id, std::move(stored), now_);
}

// ---- lists

ResponseStore::Entry find_conversation(const ResponseStore& store, std::string_view owner,
                                       std::string_view id, TimePoint now) {
  return id.starts_with(kConversationPrefix) ? store.find(owner, id, now) : nullptr;
}

ListedItem listed_item(JsonSlice item, std::string_view seed, std::uint64_t position) {
  ListedItem out;
  JsonWriter json(out.json);
  write_listed(item, seed, position, json);
  out.id = string_member(out.json, "id").decode();
  return out;
}

std::vector<ListedItem> listed_items(const StoredResponse& last, bool with_output) {
  std::vector<const StoredResponse*> turns;
  for (auto* at = &last; at != nullptr; at = at->before.get()) turns.push_back(at);
  std::vector<ListedItem> items;
  const auto add = [&](std::string_view joined, std::string_view seed) {
    const std::string array = '[' + std::string(joined) + ']';
    JsonReader reader(array);
    reader.begin_array();
    JsonSlice item;
    for (std::uint64_t position = 0; reader.next_item() && reader.value(item); ++position) {
      items.push_back(listed_item(item, seed, position));
    }
  };
  for (auto turn = turns.rbegin(); turn != turns.rend(); ++turn) {
    add((*turn)->input, (*turn)->id);
    if (with_output || *turn != &last) add((*turn)->output, (*turn)->id + "out");
  }
  return items;
}

std::string encode_list(std::vector<ListedItem> items, std::string_view query) {
  if (query_value(query, "order").value_or("desc") != "asc") {
    std::reverse(items.begin(), items.end());
  }
  std::size_t limit = 20, first = 0;
  if (const auto text = query_value(query, "limit")) {
    std::from_chars(text->data(), text->data() + text->size(), limit);
    limit = std::clamp<std::size_t>(limit, 1, 100);
  }
  if (const auto after = query_value(query, "after")) {
    const auto at = std::find_if(items.begin(), items.end(),
                                 [&](const ListedItem& each) { return each.id == *after; });
    if (at != items.end()) first = static_cast<std::size_t>(at - items.begin()) + 1;
  }
  const auto end = std::min(items.size(), first + limit);
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("object", "list").key("data").begin_array();
  for (auto at = first; at < end; ++at) json.raw(items[at].json);
  json.end_array();
  if (first < end) {
    json.member("first_id", std::string_view(items[first].id));
    json.member("last_id", std::string_view(items[end - 1].id));
  } else {
    json.member_null("first_id").member_null("last_id");
  }
  json.member_bool("has_more", end < items.size()).end_object();
  return out;
}

}  // namespace llm_proxy
