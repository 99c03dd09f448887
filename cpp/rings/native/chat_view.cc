#include "rings/native/chat_view.h"

#include "json/reader.h"

namespace llm_proxy {
namespace {

using Place = ChatText::Place;

class Finder {
 public:
  Finder(std::string_view body, std::vector<ChatText>& texts) : json(body), texts_(texts) {}

  void string_to(Place place) {
    Text text;
    if (json.maybe_string(text)) texts_.push_back({text.bytes(), place, message});
  }

  void content() {
    switch (json.kind()) {
      case JsonKind::string:
        return string_to(Place::content);
      case JsonKind::array:
        json.begin_array();
        while (json.next_item()) part();
        return;
      default:
        json.skip();
    }
  }

  void tool_calls() {
    if (json.kind() != JsonKind::array) return void(json.skip());
    json.begin_array();
    while (json.next_item()) member_of("function", [this] { function(); });
  }

  void function() {
    member_of("arguments", [this] { string_to(Place::arguments); });
  }

  // One message's texts; the key is one of it.
  void message_member(std::string_view key) {
    if (key == "content") return content();
    if (key == "tool_calls") return tool_calls();
    if (key == "function_call") return function();
    json.skip();
  }

  template <typename Take>
  void member_of(std::string_view wanted, Take take) {
    if (json.kind() != JsonKind::object) return void(json.skip());
    json.begin_object();
    for (std::string_view key; json.next_key(key);) {
      if (key == wanted) take();
    }
  }

  JsonReader json;
  std::int32_t message = -1;

 private:
  void part() {
    member_of("text", [this] { string_to(Place::content); });
  }

  std::vector<ChatText>& texts_;
};

bool inside(std::string_view whole, std::string_view piece) {
  return piece.data() >= whole.data() && piece.data() + piece.size() <= whole.data() + whole.size();
}

}  // namespace

bool ChatRequestView::read(std::string_view body) {
  texts.clear();
  members.clear();
  model = {};
  last_message = -1;
  has_model = wants_format = false;
  Finder find(body, texts);
  JsonReader& json = find.json;
  if (!json.begin_object()) return false;
  for (std::string_view key; json.next_key(key);) {
    if (!inside(body, key)) return false;    // a name with escapes
    if (key.starts_with('_')) return false;  // a note between plugins, which is taken out
    const std::size_t start = json.position();
    const JsonKind kind = json.kind();
    const std::string_view name = key;
    if (name == "messages" && kind == JsonKind::array) {
      json.begin_array();
      while (json.next_item()) {
        if (json.kind() != JsonKind::object) continue;
        find.message = ++last_message;
        json.begin_object();
        for (std::string_view field; json.next_key(field);) find.message_member(field);
      }
      find.message = -1;
    } else if (name == "model" && kind == JsonKind::string) {
      Text text;
      has_model = json.string(text);
      model = text.bytes();
    } else if (name == "prediction" && kind == JsonKind::object) {
      find.member_of("content", [&find] { find.content(); });
    } else if (name == "user" || name == "safety_identifier") {
      find.string_to(ChatText::Place::note);
    } else if (name == "metadata" && kind == JsonKind::object) {
      json.begin_object();
      for (std::string_view note; json.next_key(note);) find.string_to(ChatText::Place::note);
    } else {
      wants_format = wants_format || name == "response_format";
      json.skip();
    }
    members.push_back({name, json.since(start)});
  }
  return json.finish();
}

bool ChatReplyView::read(std::string_view body) {
  texts.clear();
  complete = false;
  if (!valid_utf8(body)) return false;
  Finder find(body, texts);
  JsonReader& json = find.json;
  std::size_t choices = 0, ended = 0;
  if (!json.begin_object()) return false;
  for (std::string_view key; json.next_key(key);) {
    if (key != "choices") continue;
    if (json.kind() != JsonKind::array) return false;
    json.begin_array();
    while (json.next_item()) {
      if (json.kind() != JsonKind::object) return false;
      ++choices;
      json.begin_object();
      for (std::string_view field; json.next_key(field);) {
        if (field == "message") {
          if (json.kind() != JsonKind::object) {
            json.skip();
            continue;
          }
          ++find.message;
          json.begin_object();
          for (std::string_view name; json.next_key(name);) find.message_member(name);
        } else if (field == "finish_reason") {
          Text reason;
          if (json.maybe_string(reason) && !reason.empty()) ++ended;
        }
      }
    }
  }
  complete = choices > 0 && ended == choices;
  return json.finish();
}

}  // namespace llm_proxy
