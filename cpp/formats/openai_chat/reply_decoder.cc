// OpenAI Chat Completions: reads an upstream's reply, whole or streamed, as events.

#include <algorithm>
#include <array>

#include "formats/openai_chat/wire.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"
#include "json/scan.h"
#include "model/reply_meter.h"

namespace llm_proxy::openai_chat {

namespace {

struct FinishRow {
  std::string_view word;
  FinishReason reason;
};

constexpr std::array kFinishRows{
    FinishRow{"stop", FinishReason::stop},
    FinishRow{"eos", FinishReason::stop},
    FinishRow{"length", FinishReason::length},
    FinishRow{"tool_calls", FinishReason::tool_calls},
    FinishRow{"function_call", FinishReason::tool_calls},
    FinishRow{"content_filter", FinishReason::content_filter},
};

FinishReason finish_of(std::string_view word, bool has_calls) {
  FinishReason reason = FinishReason::stop;
  for (const FinishRow& row : kFinishRows) {
    if (row.word == word) reason = row.reason;
  }
  if (reason == FinishReason::stop && has_calls) return FinishReason::tool_calls;
  if (reason == FinishReason::tool_calls && !has_calls) return FinishReason::stop;
  return reason;
}

// Decodes Chat replies, leniently. Calls that the upstream interleaves, and text that
// comes while a call is unfinished, are held back, so that parts come one after the other.
//
//   fresh ─► started ─► finished          any ─► failed (an error event was given)
class Decoder : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    if (!valid_utf8(body)) return garbled("not valid UTF-8");
    whole_ = true;
    if (Result<void> read = read_chunk(body, sink); !read) return read;
    if (state_ == State::failed) return {};
    if (state_ == State::fresh) return garbled("without choices");
    finish(sink);
    return {};
  }

  Result<void> on_stream_event(std::string_view event, std::string_view data,
                               EventSink& sink) override {
    if (state_ == State::finished || state_ == State::failed) return {};
    if (data == "[DONE]" || data == " [DONE]") {
      if (state_ == State::fresh) return garbled("without choices");
      finish(sink);
      return {};
    }
    if (data.empty()) return {};
    if (!valid_utf8(data)) return garbled("not valid UTF-8");
    if (event == "error") {
      fail(decode_stream_error(data), sink);
      return {};
    }
    return read_chunk(data, sink);
  }

  Result<void> on_stream_end(EventSink& sink) override {
    if (state_ == State::finished || state_ == State::failed) return {};
    if (state_ == State::started && !finish_word_.empty()) {
      finish(sink);
      return {};
    }
    return cut_short();
  }

 private:
  enum class State : std::uint8_t { fresh, started, finished, failed };

  struct Call {
    std::optional<std::int64_t> key;
    std::string id, name;
    std::string arguments;  // escaped
    std::size_t given = 0;  // how much of `arguments` the sink has
    bool custom = false;
    bool closed = false;
  };

  // A part that waits for the open call to end.
  struct Held {
    PartKind kind;
    std::size_t call = 0;
    std::string text;  // escaped
    std::string details;
  };

  // What one delta or message says, before it is put in order.
  struct Delta {
    Text reasoning, content, refusal;
    JsonSlice details, content_parts, tool_calls, function_call, annotations;
  };

  static Error garbled(std::string_view why) {
    return llm_proxy::garbled("a chat completion", why);
  }

  void fail(Error error, EventSink& sink) {
    state_ = State::failed;
    sink.on_event(std::move(error));
  }

  Result<void> read_chunk(std::string_view data, EventSink& sink) {
    JsonReader json(data);
    std::string_view key;
    Text id, model;
    std::int64_t created = 0;
    Delta delta;
    bool has_choice = false;
    JsonSlice error;
    if (!json.begin_object()) return garbled("not a JSON object");
    while (json.next_key(key)) {
      if (key == "choices") {
        if (json.kind() == JsonKind::array) read_choices(json, delta, has_choice);
      } else if (key == "id") {
        json.maybe_string(id);
      } else if (key == "model") {
        json.maybe_string(model);
      } else if (key == "created") {
        json.maybe_integer(created);
      } else if (key == "usage") {
        if (json.kind() == JsonKind::object) keep_usage(json);
      } else if (key == "x_groq") {
        read_groq(json);
      } else if (key == "error") {
        json.value(error);
      }
    }
    if (!json.finish()) return garbled(json.error(ErrorKind::upstream_garbled).message);
    const bool has_error = !error.empty() && error != "null" && error != "{}" && error != "\"\"";
    if (has_error) {
      fail(decode_stream_error(data), sink);
      return {};
    }
    if (has_choice && state_ == State::fresh) {
      state_ = State::started;
      ReplyStart start;
      start.id = id;
      start.model = model;
      start.created = created;
      sink.on_event(start);
    }
    if (has_choice) apply(delta, sink);
    if (kept_ > kMaxReply) fail(too_interleaved(), sink);
    return {};
  }

  void keep_usage(JsonReader& json) {
    const Usage usage = read_usage(json);
    if (!usage.empty()) usage_ = usage;
  }

  void read_groq(JsonReader& json) {
    std::string_view key;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "usage" && json.kind() == JsonKind::object) keep_usage(json);
    }
  }

  void read_choices(JsonReader& json, Delta& delta, bool& has_choice) {
    std::string_view key;
    json.begin_array();
    while (json.next_item()) {
      if (json.kind() != JsonKind::object) continue;
      std::int64_t index = 0;
      Text finish;
      Delta own, message;
      bool has_delta = false;
      json.begin_object();
      while (json.next_key(key)) {
        if (key == "delta") {
          has_delta = true;
          read_delta(json, own);
        } else if (key == "message") {
          read_delta(json, message);
        } else if (key == "finish_reason") {
          json.maybe_string(finish);
        } else if (key == "index") {
          json.maybe_integer(index);
        }
      }
      if (index != 0) continue;
      has_choice = true;
      delta = has_delta && !whole_ ? own : message;
      if (!finish.empty()) finish_word_ = finish.decode();
    }
  }

  static void read_delta(JsonReader& json, Delta& delta) {
    std::string_view key;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "content") {
        if (json.kind() == JsonKind::array) {
          json.value(delta.content_parts);
        } else {
          json.maybe_string(delta.content);
        }
      } else if (key == "tool_calls") {
        json.value(delta.tool_calls);
      } else if (key == "reasoning_content") {
        json.maybe_string(delta.reasoning);
      } else if (key == "reasoning") {
        if (delta.reasoning.empty()) json.maybe_string(delta.reasoning);
      } else if (key == "reasoning_details") {
        json.value(delta.details);
      } else if (key == "refusal") {
        json.maybe_string(delta.refusal);
      } else if (key == "function_call") {
        json.value(delta.function_call);
      } else if (key == "annotations") {
        json.value(delta.annotations);
      }
    }
  }

  void apply(const Delta& delta, EventSink& sink) {
    if (!delta.reasoning.empty()) add_text(PartKind::thinking, delta.reasoning, sink);
    if (!delta.details.empty()) apply_details(delta.details, delta.reasoning.empty(), sink);
    if (!delta.content.empty()) add_text(PartKind::text, delta.content, sink);
    if (!delta.content_parts.empty()) apply_content_parts(delta.content_parts, sink);
    if (!delta.refusal.empty()) add_text(PartKind::refusal, delta.refusal, sink);
    if (!delta.annotations.empty()) apply_annotations(delta.annotations, sink);
    if (!delta.function_call.empty()) apply_call(delta.function_call, true, sink);
    if (!delta.tool_calls.empty()) {
      JsonReader calls(delta.tool_calls);
      JsonSlice call;
      if (calls.kind() == JsonKind::array && calls.begin_array()) {
        while (calls.next_item() && calls.value(call)) apply_call(call, false, sink);
      }
    }
  }

  // OpenRouter's reasoning_details. Their text counts only when the chunk has it nowhere else;
  // entries with a seal are kept whole, to go back as they came.
  void apply_details(JsonSlice details, bool use_text, EventSink& sink) {
    JsonReader json(details);
    JsonSlice entry;
    if (json.kind() != JsonKind::array || !json.begin_array()) return;
    while (json.next_item() && json.value(entry)) {
      if (use_text) {
        Text text = string_member(entry, "text");
        if (text.empty()) text = string_member(entry, "summary");
        if (!text.empty()) add_text(PartKind::thinking, text, sink);
      }
      if (string_member(entry, "signature").empty() && string_member(entry, "data").empty())
        continue;
      std::string& kept = part_for(PartKind::thinking, sink);
      if (!kept.empty()) kept += ',';
      kept_ += entry.size();
      compact_to(entry, kept);
    }
  }

  void apply_content_parts(JsonSlice parts, EventSink& sink) {
    JsonReader json(parts);
    JsonSlice part;
    if (!json.begin_array()) return;
    while (json.next_item() && json.value(part)) {
      if (string_member(part, "type") == "thinking") {
        const JsonSlice thinking = member(part, "thinking");
        if (!thinking.empty() && thinking.front() == '"') {
          add_text(PartKind::thinking, string_member(part, "thinking"), sink);
          continue;
        }
        JsonReader texts(thinking);
        JsonSlice text;
        if (texts.kind() != JsonKind::array || !texts.begin_array()) continue;
        while (texts.next_item() && texts.value(text)) {
          add_text(PartKind::thinking, string_member(text, "text"), sink);
        }
      } else {
        add_text(PartKind::text, string_member(part, "text"), sink);
      }
    }
  }

  void apply_annotations(JsonSlice annotations, EventSink& sink) {
    if (!open_ || open_kind_ != PartKind::text) return;
    JsonReader json(annotations);
    JsonSlice annotation;
    if (json.kind() != JsonKind::array || !json.begin_array()) return;
    while (json.next_item() && json.value(annotation)) {
      sink.on_event(PartAnnotation{index_, kFormat, annotation});
    }
  }

  // --- parts in order

  void add_text(PartKind kind, Text text, EventSink& sink) {
    if (text.empty()) return;
    if (!open_ || open_kind_ != kind) settle(sink);
    if (open_ && open_kind_ == kind && held_.empty()) {
      sink.on_event(PartDelta{index_, text});
    } else if (open_ && open_kind_ == PartKind::tool_call) {
      if (held_.empty() || held_.back().kind != kind) hold({kind, 0, {}, {}});
      kept_ += text.bytes().size();
      text.escape_to(held_.back().text);
    } else {
      close(sink);
      open(kind, sink);
      sink.on_event(PartDelta{index_, text});
    }
  }

  // Where the details of the thinking part that is current go; opens one when there is none.
  std::string& part_for(PartKind kind, EventSink& sink) {
    if (!open_ || open_kind_ != kind) settle(sink);
    if (open_ && open_kind_ == PartKind::tool_call) {
      if (held_.empty() || held_.back().kind != kind) hold({kind, 0, {}, {}});
      return held_.back().details;
    }
    if (!open_ || open_kind_ != kind) {
      close(sink);
      open(kind, sink);
    }
    return details_;
  }

  void hold(Held part) {
    kept_ += sizeof(Held);
    held_.push_back(std::move(part));
  }

  void open(PartKind kind, EventSink& sink) {
    open_ = true;
    open_kind_ = kind;
    PartStart start;
    start.index = index_;
    start.kind = kind;
    sink.on_event(start);
  }

  void close(EventSink& sink) {
    if (!open_) return;
    if (open_kind_ == PartKind::tool_call) {
      Call& call = calls_[open_call_];
      call.closed = true;
      if (call.arguments.find_first_not_of(" \\nrt") == std::string::npos) {
        sink.on_event(PartDelta{index_, Text::plain("{}")});
      }
    }
    if (!details_.empty()) {
      details_.insert(0, 1, '[');
      details_ += ']';
      Seal seal;
      seal.maker = kFormat;
      seal.token = Text::plain(details_);
      sink.on_event(PartSeal{index_, seal});
      details_.clear();
    }
    sink.on_event(PartEnd{index_});
    ++index_;
    open_ = false;
  }

  // Ends the open call when its arguments are whole, and gives what waited for it.
  void settle(EventSink& sink) {
    while (open_ && open_kind_ == PartKind::tool_call) {
      if (!is_json_object(Text::escaped(calls_[open_call_].arguments).decode())) return;
      close(sink);
      if (!held_.empty()) release(sink);
    }
  }

  void release(EventSink& sink) {
    Held held = std::move(held_.front());
    held_.erase(held_.begin());
    close(sink);
    if (held.kind == PartKind::tool_call) {
      open_call(held.call, sink);
      return;
    }
    open(held.kind, sink);
    if (!held.text.empty()) sink.on_event(PartDelta{index_, Text::escaped(held.text)});
    details_ = std::move(held.details);
    if (!held_.empty()) release(sink);
  }

  // --- calls

  // Keyed by index, else by id, else the last one. A second, different id at one index is a new
  // call.
  std::size_t call_for(std::optional<std::int64_t> key, const std::string& id, bool named) {
    for (std::size_t i = calls_.size(); i-- > 0;) {
      const Call& call = calls_[i];
      const bool other_id = !id.empty() && !call.id.empty() && id != call.id;
      if (key ? call.key == key : (!id.empty() ? call.id == id : !named)) {
        if (other_id) break;
        return i;
      }
    }
    kept_ += kCallCost;
    calls_.emplace_back();
    calls_.back().key = key;
    return calls_.size() - 1;
  }

  void apply_call(JsonSlice entry, bool legacy, EventSink& sink) {
    JsonReader json(entry);
    std::string_view key;
    Text id, name, arguments;
    JsonSlice object;
    std::optional<std::int64_t> index;
    if (legacy) index = -1;
    bool custom = false;
    const auto read_function = [&] {
      while (json.next_key(key)) {
        if (key == "name") {
          if (name.empty()) json.maybe_string(name);
        } else if (key == "arguments" || key == "input") {
          if (json.kind() == JsonKind::object) {
            json.object(object);
          } else if (arguments.empty()) {
            json.maybe_string(arguments);
          }
        }
      }
    };
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    if (legacy) {
      read_function();
    } else {
      while (json.next_key(key)) {
        if (key == "index") {
          read_count(json, index);
        } else if (key == "id") {
          json.maybe_string(id);
        } else if ((key == "function" || key == "custom") && json.kind() == JsonKind::object) {
          // Some servers send both, the unused one with empty members.
          const bool is_custom = key == "custom";
          const bool unnamed = name.empty();
          json.begin_object();
          read_function();
          custom |= is_custom && unnamed && !name.empty();
        }
      }
    }
    const std::size_t which = call_for(index, id.decode(), !name.empty());
    Call& call = calls_[which];
    if (call.id.empty()) call.id = id.decode();
    const bool fresh = call.name.empty();
    if (fresh) call.name = name.decode();
    call.custom |= custom;
    kept_ += arguments.bytes().size() + object.size();
    arguments.escape_to(call.arguments);
    if (!object.empty()) {
      std::string compact;
      compact_to(object, compact);
      Text::plain(compact).escape_to(call.arguments);
    }
    if (call.closed) return;
    if (fresh && !call.name.empty()) {
      settle(sink);
      if (open_ && open_kind_ == PartKind::tool_call) {
        hold({PartKind::tool_call, which, {}, {}});
      } else {
        close(sink);
        open_call(which, sink);
      }
    } else if (open_ && open_kind_ == PartKind::tool_call && open_call_ == which) {
      give_arguments(sink);
    }
  }

  void open_call(std::size_t which, EventSink& sink) {
    const Call& call = calls_[which];
    open_ = true;
    open_kind_ = PartKind::tool_call;
    open_call_ = which;
    PartStart start;
    start.index = index_;
    start.kind = PartKind::tool_call;
    start.call_id = Text::plain(call.id);
    start.name = Text::plain(call.name);
    start.call_kind = call.custom ? CallKind::custom : CallKind::function;
    sink.on_event(start);
    give_arguments(sink);
  }

  void give_arguments(EventSink& sink) {
    Call& call = calls_[open_call_];
    if (call.given == call.arguments.size()) return;
    sink.on_event(
        PartDelta{index_, Text::escaped(std::string_view(call.arguments).substr(call.given))});
    call.given = call.arguments.size();
  }

  void finish(EventSink& sink) {
    while (!held_.empty()) release(sink);
    close(sink);
    if (!usage_.empty()) sink.on_event(UsageUpdate{usage_});
    state_ = State::finished;
    const bool has_calls = std::any_of(calls_.begin(), calls_.end(),
                                       [](const Call& call) { return !call.name.empty(); });
    Finish end;
    end.reason = finish_of(finish_word_, has_calls);
    end.word = finish_word_;
    sink.on_event(end);
  }

  State state_ = State::fresh;
  bool whole_ = false;       // a body, not a stream: some servers add an empty delta to it
  std::uint32_t index_ = 0;  // of the open part, or of the next one
  bool open_ = false;
  PartKind open_kind_ = PartKind::text;
  std::size_t open_call_ = 0;
  static constexpr std::size_t kCallCost = 4096;  // each is looked at for every later piece

  std::size_t kept_ = 0;  // bytes that were put into the three below, over the whole reply
  std::vector<Call> calls_;
  std::vector<Held> held_;
  std::string details_;
  std::string finish_word_;
  Usage usage_;
};

}  // namespace

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation&) {
  return std::make_unique<Decoder>();
}

}  // namespace llm_proxy::openai_chat
