#include <algorithm>
#include <array>
#include <functional>
#include <unordered_set>
#include <utility>

#include "formats/shared/provider_errors.h"
#include "json/reader.h"

namespace llm_proxy {
namespace {

// False if include_usage is given twice.
bool peek_stream_options(JsonSlice object, RequestPeek& peek) {
  JsonReader json(object);
  std::string_view key;
  bool found = false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key != "include_usage") continue;
    if (std::exchange(found, true)) return false;
    if (json.kind() == JsonKind::boolean) {
      bool include = false;
      json.boolean(include);
      peek.include_usage = include;
    }
  }
  return true;
}

Span span_of_next(JsonReader& json) {
  if (json.null()) return {};
  const std::size_t begin = json.position();
  JsonSlice value;
  json.value(value);
  return {begin, begin + value.size()};
}

// Finds a member that stands twice in one object, of which two readers could take either.
class MemberNames {
 public:
  // False if `name` was added before.
  bool add(std::string_view name) {
    const auto hash = std::hash<std::string_view>()(name);
    if (count_ < few_.size()) {
      const auto end = few_.begin() + count_;
      if (std::find(few_.begin(), end, hash) != end) return false;
      few_[count_++] = hash;
      if (count_ == few_.size()) many_.insert(few_.begin(), few_.end());
      return true;
    }
    return many_.insert(hash).second;
  }

 private:
  std::array<std::size_t, 64> few_;  // the first count_
  std::size_t count_ = 0;
  std::unordered_set<std::size_t> many_;  // all, from the 64th on
};

Error twice(std::string_view name) {
  auto error = malformed("The member '" + std::string(name.substr(0, 60)) + "' is given twice.");
  error.param = name.substr(0, 60);
  return error;
}

}  // namespace

bool is_for_proxy(std::string_view member) {
  constexpr std::array<std::string_view, 5> kMembers{"extra_body", "session_id", "agent",
                                                     "backend_type", "request_context_tokens"};
  return std::find(kMembers.begin(), kMembers.end(), member) != kMembers.end();
}

Result<RequestPeek> peek_request(std::string_view body) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  RequestPeek peek;
  JsonReader json(body, {.finite_numbers = true});
  std::string_view key;
  if (!json.begin_object()) return json.error(ErrorKind::malformed_request);
  peek.object_begin = json.position();
  MemberNames names;
  while (json.next_key(key)) {
    if (!names.add(key)) return twice(key);
    if (key == "model") {
      Text model;
      peek.model_begin = json.position();
      if (!json.null() && json.string(model)) peek.model = model.decode();
      peek.model_end = peek.model_begin + json.since(peek.model_begin).size();
    } else if (key == "stream") {
      if (!json.null()) json.boolean(peek.stream);
    } else if (key == "stream_options") {
      peek.stream_options_begin = json.position();
      JsonSlice object;
      if (!json.null() && json.object(object) && !peek_stream_options(object, peek)) {
        return twice("stream_options.include_usage");
      }
      peek.has_stream_options = true;
      peek.stream_options_end =
          peek.stream_options_begin + json.since(peek.stream_options_begin).size();
    } else if (key == "store") {
      if (json.kind() == JsonKind::boolean) json.boolean(peek.store);
    } else if (key == "input") {
      peek.input = span_of_next(json);
    } else if (key == "previous_response_id") {
      peek.previous_response_id = span_of_next(json);
    } else if (key == "conversation") {
      peek.conversation = span_of_next(json);
    } else if (is_for_proxy(key)) {
      peek.for_proxy = true;
    }
  }
  if (!json.finish()) return json.error(ErrorKind::malformed_request);
  return peek;
}

}  // namespace llm_proxy
