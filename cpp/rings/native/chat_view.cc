#include "rings/native/chat_view.h"

#include <array>
#include <utility>

namespace llm_proxy {
namespace {

using Place = ChatText::Place;

// A set of JSON kinds: what a member may be.
class Kinds {
 public:
  template <typename... Each>
  constexpr explicit Kinds(Each... kinds) : bits_((bit(kinds) | ...)) {}

  constexpr bool has(JsonKind kind) const { return (bits_ & bit(kind)) != 0; }
  // "a string, an array or null"
  std::string words() const {
    std::vector<std::string_view> names;
    for (const auto& [kind, name] : kNames) {
      if (has(kind)) names.push_back(name);
    }
    std::string out;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (i > 0) out += i + 1 == names.size() ? " or " : ", ";
      out += names[i];
    }
    return out;
  }

 private:
  struct Name {
    JsonKind kind;
    std::string_view name;
  };
  static constexpr std::array kNames{
      Name{JsonKind::string, "a string"},   Name{JsonKind::number, "a number"},
      Name{JsonKind::boolean, "a boolean"}, Name{JsonKind::array, "an array"},
      Name{JsonKind::object, "an object"},  Name{JsonKind::null, "null"}};

  static constexpr unsigned bit(JsonKind kind) { return 1u << static_cast<unsigned>(kind); }

  unsigned bits_;
};

constexpr Kinds kString(JsonKind::string, JsonKind::null);
constexpr Kinds kNumber(JsonKind::number, JsonKind::null);
constexpr Kinds kBoolean(JsonKind::boolean, JsonKind::null);
constexpr Kinds kArray(JsonKind::array, JsonKind::null);
constexpr Kinds kObject(JsonKind::object, JsonKind::null);

struct MemberRow {
  std::string_view name;
  Kinds kinds;
};

// What OpenAI's chat API says of a request's members, as far as plugins read them. The order of a
// table is that of the names' lengths, so that a look compares few names.
constexpr std::array kRequestRows{
    MemberRow{"n", kNumber},
    MemberRow{"seed", kNumber},
    MemberRow{"stop", Kinds(JsonKind::string, JsonKind::array, JsonKind::null)},
    MemberRow{"user", kString},
    MemberRow{"model", kString},
    MemberRow{"tools", kArray},
    MemberRow{"top_p", kNumber},
    MemberRow{"stream", kBoolean},
    MemberRow{"messages", Kinds(JsonKind::array)},
    MemberRow{"metadata", kObject},
    MemberRow{"functions", kArray},
    MemberRow{"logit_bias", kObject},
    MemberRow{"max_tokens", kNumber},
    MemberRow{"prediction", kObject},
    MemberRow{"temperature", kNumber},
    MemberRow{"tool_choice", Kinds(JsonKind::string, JsonKind::object, JsonKind::null)},
    MemberRow{"function_call", Kinds(JsonKind::string, JsonKind::object, JsonKind::null)},
    MemberRow{"stream_options", kObject},
    MemberRow{"response_format", kObject},
    MemberRow{"presence_penalty", kNumber},
    MemberRow{"frequency_penalty", kNumber},
    MemberRow{"safety_identifier", kString},
    MemberRow{"parallel_tool_calls", kBoolean},
    MemberRow{"max_completion_tokens", kNumber},
};
constexpr std::array kMessageRows{
    MemberRow{"name", kString},
    MemberRow{"role", Kinds(JsonKind::string)},
    MemberRow{"content", Kinds(JsonKind::string, JsonKind::array, JsonKind::null)},
    MemberRow{"refusal", kString},
    MemberRow{"tool_calls", kArray},
    MemberRow{"tool_call_id", kString},
    MemberRow{"function_call", kObject},
};
constexpr std::array kPartRows{
    MemberRow{"text", kString},
    MemberRow{"type", kString},
};
constexpr std::array kCallRows{
    MemberRow{"id", kString},
    MemberRow{"type", kString},
    MemberRow{"function", kObject},
};
constexpr std::array kFunctionRows{
    MemberRow{"name", kString},
    MemberRow{"arguments", kString},
};
constexpr std::array kToolRows{
    MemberRow{"name", kString},
    MemberRow{"type", kString},
    MemberRow{"function", kObject},
};

// A table of members with, for each length of a name, where the rows of that length begin.
template <std::size_t N>
class Rows {
 public:
  constexpr explicit Rows(const std::array<MemberRow, N>& rows) : rows_(rows) {
    for (std::size_t size = 0; size < begins_.size(); ++size) {
      std::size_t first = 0;
      while (first < N && rows[first].name.size() < size) ++first;
      begins_[size] = static_cast<std::uint8_t>(first);
    }
  }

  const MemberRow* find(std::string_view name) const {
    if (name.size() + 1 >= begins_.size()) return nullptr;
    for (auto at = begins_[name.size()]; at < begins_[name.size() + 1]; ++at) {
      if (rows_[at].name == name) return &rows_[at];
    }
    return nullptr;
  }
  constexpr bool in_order() const {
    for (std::size_t i = 1; i < N; ++i) {
      if (rows_[i].name.size() < rows_[i - 1].name.size()) return false;
    }
    return rows_.back().name.size() + 1 < begins_.size();
  }

 private:
  const std::array<MemberRow, N>& rows_;
  std::array<std::uint8_t, 32> begins_{};
};

constexpr Rows kRequest(kRequestRows);
constexpr Rows kMessage(kMessageRows);
constexpr Rows kPart(kPartRows);
constexpr Rows kCall(kCallRows);
constexpr Rows kFunction(kFunctionRows);
constexpr Rows kTool(kToolRows);
static_assert(kRequest.in_order() && kMessage.in_order() && kPart.in_order() && kCall.in_order() &&
              kFunction.in_order() && kTool.in_order());

class Finder {
 public:
  Finder(std::string_view body, std::vector<ChatText>& texts, bool checks)
      : json(body, checks ? kShownLimits : JsonLimits{}), checks_(checks), texts_(texts) {}

  // Whether the value that comes next is of a kind its row allows; a fault if not.
  template <std::size_t N>
  bool fits(const Rows<N>& rows, std::string_view name) {
    if (!checks_) return true;
    const MemberRow* row = rows.find(name);
    if (row == nullptr) return true;
    const JsonKind kind = json.kind();
    if (row->kinds.has(kind) || kind == JsonKind::none) return true;
    return json.fail("must be " + row->kinds.words());
  }
  // The value that comes next is an object, as an item of a list must be.
  bool is_object() {
    if (json.kind() == JsonKind::object) return true;
    if (checks_ && json.kind() != JsonKind::none) return json.fail("must be an object");
    json.skip();
    return false;
  }

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
    while (json.next_item()) {
      if (!is_object()) continue;
      json.begin_object();
      for (std::string_view key; json.next_key(key);) {
        if (fits(kCall, key) && key == "function") function();
      }
    }
  }

  void function() {
    if (json.kind() != JsonKind::object) return void(json.skip());
    json.begin_object();
    for (std::string_view key; json.next_key(key);) {
      if (fits(kFunction, key) && key == "arguments") string_to(Place::arguments);
    }
  }

  // What tools are for is the application's business; that they are tools is checked.
  void tools() {
    if (json.kind() != JsonKind::array || !checks_) return void(json.skip());
    json.begin_array();
    while (json.next_item()) {
      if (!is_object()) continue;
      json.begin_object();
      for (std::string_view key; json.next_key(key);) {
        if (!fits(kTool, key) || key != "function") continue;
        if (json.kind() != JsonKind::object) continue;
        json.begin_object();
        for (std::string_view inner; json.next_key(inner);) {
          if (inner == "name") fits(kTool, inner);
        }
      }
    }
  }

  // One message's texts; the key is one of it.
  void message_member(std::string_view key) {
    if (!fits(kMessage, key)) return;
    if (key == "content") return content();
    if (key == "tool_calls") return tool_calls();
    if (key == "function_call") return function();
    json.skip();
  }

  void messages() {
    json.begin_array();
    while (json.next_item()) {
      if (!is_object()) continue;
      ++message;
      bool has_role = false;
      json.begin_object();
      for (std::string_view key; json.next_key(key);) {
        has_role = has_role || key == "role";
        message_member(key);
      }
      if (checks_ && !has_role) json.fail("has no role");
    }
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
    if (!is_object()) return;
    json.begin_object();
    for (std::string_view key; json.next_key(key);) {
      if (fits(kPart, key) && key == "text") string_to(Place::content);
    }
  }

  const bool checks_;
  std::vector<ChatText>& texts_;
};

bool inside(std::string_view whole, std::string_view piece) {
  return piece.data() >= whole.data() && piece.data() + piece.size() <= whole.data() + whole.size();
}

}  // namespace

Result<void> ChatRequestView::read(std::string_view body) {
  texts.clear();
  members.clear();
  model = {};
  last_message = -1;
  has_model = wants_format = plain = false;
  bool odd = false, has_messages = false;
  Finder find(body, texts, /*checks=*/true);
  JsonReader& json = find.json;
  json.begin_object();
  for (std::string_view key; json.next_key(key);) {
    // A name with escapes, or a note between plugins, which is taken out.
    odd = odd || !inside(body, key) || key.starts_with('_');
    if (!find.fits(kRequest, key)) break;
    const std::size_t start = json.position();
    const JsonKind kind = json.kind();
    const std::string_view name = key;
    if (name == "messages") {
      has_messages = true;
      find.messages();
      last_message = std::exchange(find.message, -1);
    } else if (name == "model" && kind == JsonKind::string) {
      Text text;
      has_model = json.string(text);
      model = text.bytes();
    } else if (name == "prediction" && kind == JsonKind::object) {
      find.member_of("content", [&find] { find.content(); });
    } else if (name == "user" || name == "safety_identifier") {
      find.string_to(Place::note);
    } else if (name == "metadata" && kind == JsonKind::object) {
      json.begin_object();
      for (std::string_view note; json.next_key(note);) find.string_to(Place::note);
    } else if (name == "tools" || name == "functions") {
      find.tools();
    } else {
      wants_format = wants_format || name == "response_format";
      json.skip();
    }
    if (!odd) members.push_back({name, json.since(start)});
  }
  if (!json.finish()) return json.error(ErrorKind::malformed_request);
  if (!has_messages) {
    Error error{ErrorKind::malformed_request,
                "messages is missing: a request is a list of messages."};
    error.param = "messages";
    return error;
  }
  plain = !odd;
  return {};
}

bool ChatReplyView::read(std::string_view body) {
  texts.clear();
  complete = false;
  if (!valid_utf8(body)) return false;
  Finder find(body, texts, /*checks=*/false);
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
