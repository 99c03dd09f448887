#include "stores/conversations.h"

#include <algorithm>
#include <array>
#include <vector>

#include "formats/shared/ids.h"
#include "http/url.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

using Entry = ResponseStore::Entry;

// One call with what it names.
struct Call {
  ResponseStore& store;
  std::string_view owner;
  const ConversationCall& said;
  TimePoint now;
  std::string id, item;
  Entry last;  // of the conversation; null: it is to be made
};

Error not_found(std::string_view what, std::string_view id) {
  Error error{ErrorKind::not_found, std::string(what) + " with id '" + std::string(id) +
                                        "' not found: it was never made here, or is forgotten"};
  error.param = what == "Item" ? "item_id" : "conversation_id";
  return error;
}

const StoredResponse& root_of(const StoredResponse& last) {
  const auto* root = &last;
  while (root->before) root = root->before.get();
  return *root;
}

std::string object_of(std::string_view id, std::int64_t created, JsonSlice metadata) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("id", id).member("object", "conversation");
  json.member("created_at", created);
  json.member_raw("metadata", metadata.empty() || metadata == "null" ? "{}" : metadata);
  json.end_object();
  return out;
}

// A member of the request that must be of one kind, if it is there.
Result<JsonSlice> member_of(std::string_view body, std::string_view key, char opening) {
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) return JsonSlice();
  if (!is_json_object(body)) {
    return Error{ErrorKind::malformed_request, "the body must be a JSON object"};
  }
  const auto value = member(body, key);
  if (value.empty() || value == "null" || value.front() == opening) return value;
  Error error{ErrorKind::malformed_request,
              "'" + std::string(key) + "' must be an " + (opening == '[' ? "array" : "object")};
  error.param = key;
  return error;
}

// The items of the request as they are listed: each with an id.
Result<std::vector<ListedItem>> items_in(const Call& call) {
  const auto array = member_of(call.said.body, "items", '[');
  if (!array) return array.error();
  std::vector<ListedItem> out;
  if (array->empty() || *array == "null") return out;
  JsonReader reader(*array);
  reader.begin_array();
  for (JsonSlice item; reader.next_item();) {
    if (!reader.object(item)) {
      Error error{ErrorKind::malformed_request, "'items' must hold objects"};
      error.param = "items";
      return error;
    }
    out.push_back(listed_item(item, call.said.seed, 1 + out.size()));
  }
  return out;
}

std::string joined(const std::vector<ListedItem>& items) {
  std::string out;
  for (const auto& item : items) {
    if (!out.empty()) out += ',';
    out += item.json;
  }
  return out;
}

// Makes `items` and what is said of the conversation its end.
void put(Call& call, std::string object, const std::vector<ListedItem>& items, Entry before) {
  auto entry = std::make_shared<StoredResponse>();
  entry->is_response = false;
  entry->id = made_id("items_", call.said.seed, 0);
  entry->body = std::move(object);
  entry->input = joined(items);
  entry->before = std::move(before);
  call.store.put(call.owner, call.id, std::move(entry), call.now);
}

Result<std::string> create(Call& call) {
  const auto items = items_in(call);
  if (!items) return items.error();
  const auto metadata = member_of(call.said.body, "metadata", '{');
  if (!metadata) return metadata.error();
  call.id = made_id(kConversationPrefix, call.said.seed, 0);
  auto object = object_of(call.id, call.said.unix_now, *metadata);
  put(call, object, *items, nullptr);
  return object;
}

Result<std::string> retrieve(Call& call) {
  return root_of(*call.last).body;
}

Result<std::string> update(Call& call) {
  const auto metadata = member_of(call.said.body, "metadata", '{');
  if (!metadata) return metadata.error();
  std::int64_t created = 0;
  JsonReader(member(root_of(*call.last).body, "created_at")).integer(created);
  auto object = object_of(call.id, created, *metadata);
  put(call, object, listed_items(*call.last, /*with_output=*/true), nullptr);
  return object;
}

Result<std::string> remove(Call& call) {
  call.store.erase(call.owner, call.id);
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("id", std::string_view(call.id));
  json.member("object", "conversation.deleted").member_bool("deleted", true).end_object();
  return out;
}

Result<std::string> list(Call& call) {
  return encode_list(listed_items(*call.last, /*with_output=*/true), call.said.query);
}

Result<std::string> add(Call& call) {
  auto items = items_in(call);
  if (!items) return items.error();
  if (member(call.said.body, "items").empty()) {
    Error error{ErrorKind::malformed_request, "'items' is missing"};
    error.param = "items";
    return error;
  }
  put(call, {}, *items, call.last);
  return encode_list(*std::move(items), "order=asc&limit=100");
}

Result<std::string> retrieve_item(Call& call) {
  auto items = listed_items(*call.last, /*with_output=*/true);
  const auto item = std::find_if(items.begin(), items.end(),
                                 [&](const ListedItem& each) { return each.id == call.item; });
  if (item == items.end()) return not_found("Item", call.item);
  return std::move(item->json);
}

Result<std::string> remove_item(Call& call) {
  auto items = listed_items(*call.last, /*with_output=*/true);
  if (std::erase_if(items, [&](const ListedItem& each) { return each.id == call.item; }) == 0) {
    return not_found("Item", call.item);
  }
  const auto object = root_of(*call.last).body;
  put(call, object, items, nullptr);
  return object;
}

// What a path is of: "", "{id}", "{id}/items", "{id}/items/{item}".
enum class Place : std::uint8_t { all, one, items, item };

struct Row {
  std::string_view method;
  Place place;
  Result<std::string> (*answer)(Call& call);
};
constexpr std::array kRows{
    Row{"POST", Place::all, create},        Row{"GET", Place::one, retrieve},
    Row{"POST", Place::one, update},        Row{"DELETE", Place::one, remove},
    Row{"GET", Place::items, list},         Row{"POST", Place::items, add},
    Row{"GET", Place::item, retrieve_item}, Row{"DELETE", Place::item, remove_item},
};

}  // namespace

Result<std::string> answer_conversation(ResponseStore& store, std::string_view owner,
                                        const ConversationCall& said, TimePoint now) {
  std::vector<std::string> names;
  for (auto rest = said.path; !rest.empty();) {
    const auto end = std::min(rest.find('/'), rest.size());
    names.push_back(percent_decode(rest.substr(0, end)).value_or(std::string()));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  if (names.size() > 3 || (names.size() > 1 && names[1] != "items")) {
    return Error{ErrorKind::not_found,
                 "there is nothing at /v1/conversations/" + std::string(said.path)};
  }
  const auto place = static_cast<Place>(names.size());
  const auto row = std::find_if(kRows.begin(), kRows.end(), [&](const Row& each) {
    const bool head = each.method == "GET" && said.method == "HEAD";
    return each.place == place && (each.method == said.method || head);
  });
  if (row == kRows.end()) {
    return Error{ErrorKind::method_not_allowed,
                 std::string(said.method) + " is not offered at this path"};
  }
  Call call{store, owner, said, now, {}, {}, nullptr};
  if (place != Place::all) {
    call.id = names[0];
    call.last = find_conversation(store, owner, call.id, now);
    if (!call.last) return not_found("Conversation", call.id);
  }
  if (place == Place::item) call.item = names[2];
  return row->answer(call);
}

}  // namespace llm_proxy
