// OpenAI Responses: reads an upstream's reply, whole or streamed, as events.

#include <algorithm>
#include <functional>

#include "formats/openai_responses/wire.h"
#include "formats/shared/provider_errors.h"
#include "json/reader.h"

namespace llm_proxy::openai_responses {

namespace {

// One output item.
struct OutputItem {
  Text type, id, call_id, name, tool_namespace, arguments, input, encrypted, phase;
  JsonSlice arguments_object, content, summary;
};

bool read_item(JsonSlice source, OutputItem& out) {
  JsonReader json(source);
  std::string_view key;
  if (json.kind() != JsonKind::object) return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "type") {
      json.maybe_string(out.type);
    } else if (key == "id") {
      json.maybe_string(out.id);
    } else if (key == "call_id") {
      json.maybe_string(out.call_id);
    } else if (key == "name") {
      json.maybe_string(out.name);
    } else if (key == "namespace") {
      json.maybe_string(out.tool_namespace);
    } else if (key == "arguments") {
      if (json.kind() == JsonKind::object) {
        json.object(out.arguments_object);
      } else {
        json.maybe_string(out.arguments);
      }
    } else if (key == "input") {
      json.maybe_string(out.input);
    } else if (key == "encrypted_content") {
      json.maybe_string(out.encrypted);
    } else if (key == "phase") {
      json.maybe_string(out.phase);
    } else if (key == "content" && json.kind() == JsonKind::array) {
      json.value(out.content);
    } else if (key == "summary" && json.kind() == JsonKind::array) {
      json.value(out.summary);
    }
  }
  return json.finish();
}

// Responses → events. Follows output_index, never item ids (they may change on every event). One
// item is open at a time; events of another are kept until it is done.
class Decoder final : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    sink_ = &sink;
    if (!valid_utf8(body)) return garbled("The upstream's answer is not valid UTF-8.");
    ResponseObject response;
    if (!read_response(body, response))
      return garbled("The upstream's answer is not a JSON object.");
    if (response.output.empty() && response.error.empty() && response.status.empty()) {
      return garbled("The upstream's answer is no response object.");
    }
    start(response);
    if (!(response.status == "failed")) add_items(response.output);
    return finish(response);
  }

  Result<void> on_stream_event(std::string_view event, std::string_view data,
                               EventSink& sink) override {
    sink_ = &sink;
    if (terminated_ || data == "[DONE]") return {};
    if (!valid_utf8(data)) return garbled("The upstream sent a stream event that is not UTF-8.");
    return read_chunk(data, event);
  }

  Result<void> on_stream_end(EventSink& sink) override {
    if (terminated_) return {};
    return cut_short();
  }

 private:
  struct Held {
    std::int64_t output_index;
    std::string data;
  };

  Result<void> read_chunk(std::string_view data, std::string_view event_line) {
    StreamEvent event;
    if (!read_event(data, event))
      return garbled("The upstream sent a stream event that is not JSON.");
    std::string room;
    const std::string_view type = event.type.empty() ? event_line : event.type.decode_in(room);
    if (type == "error" || (type.empty() && !event.error.empty())) {
      fail(decode_stream_error(data));
      return {};
    }
    if (type == "response.completed" || type == "response.incomplete" ||
        type == "response.failed" || type == "response.done") {
      return on_terminal(event);
    }
    if (type == "response.created" || type == "response.in_progress" || type == "response.queued") {
      ResponseObject response;
      if (!started_ && read_response(event.response, response)) start(response);
      return {};
    }
    if (event.output_index < 0) return {};
    if (open_index_ >= 0 && event.output_index != open_index_) {
      held_bytes_ += data.size();
      if (held_bytes_ > kMaxHeld) {
        fail(too_interleaved());
        return {};
      }
      held_.push_back({event.output_index, std::string(data)});
      return {};
    }
    on_item_event(type, event);
    if (open_index_ < 0) return replay();
    return {};
  }

  // Events that waited for the open item to be done, in their order, item by item.
  Result<void> replay() {
    while (!held_.empty() && open_index_ < 0) {
      const std::int64_t index = held_.front().output_index;
      std::vector<Held> mine, others;
      for (Held& held : held_)
        (held.output_index == index ? mine : others).push_back(std::move(held));
      held_ = std::move(others);
      for (const Held& held : mine) {
        held_bytes_ -= held.data.size();
        StreamEvent event;
        read_event(held.data, event);
        std::string room;
        on_item_event(event.type.decode_in(room), event);
      }
      if (open_index_ == index) break;
    }
    return {};
  }

  void on_item_event(std::string_view type, const StreamEvent& event) {
    constexpr std::string_view kPrefix = "response.";
    if (type.substr(0, kPrefix.size()) != kPrefix) return;
    type.remove_prefix(kPrefix.size());
    if (type == "output_item.added") {
      OutputItem item;
      if (read_item(event.item, item)) open_item(event.output_index, item);
      return;
    }
    if (type == "output_item.done") return on_item_done(event);
    if (open_index_ < 0) open_index_ = event.output_index;
    if (type == "output_text.delta") {
      add_content(PartKind::text, event.content_index, event.delta);
    } else if (type == "output_text.done") {
      if (!has_said(PartKind::text, event.content_index))
        add_content(PartKind::text, event.content_index, event.text);
    } else if (type == "refusal.delta") {
      add_content(PartKind::refusal, event.content_index, event.delta);
    } else if (type == "refusal.done") {
      if (!has_said(PartKind::refusal, event.content_index)) {
        add_content(PartKind::refusal, event.content_index, event.refusal);
      }
    } else if (type == "function_call_arguments.delta" || type == "custom_tool_call_input.delta") {
      if (open_ == Open::call) give(event.delta);
    } else if (type == "function_call_arguments.done") {
      if (open_ == Open::call && !part_said_) give(event.arguments);
    } else if (type == "custom_tool_call_input.done") {
      if (open_ == Open::call && !part_said_) give(event.input);
    } else if (type == "reasoning_summary_text.delta") {
      add_thought(event.summary_index, event.delta);
    } else if (type == "reasoning_text.delta") {
      add_thought(event.content_index, event.delta);
    } else if (type == "output_text.annotation.added") {
      if (open_ == Open::content)
        sink_->on_event(PartAnnotation{part_ - 1, kFormat, event.annotation});
    }
  }

  // --- items

  enum class Open : std::uint8_t { nothing, content, call, thinking };

  void open_item(std::int64_t index, const OutputItem& item) {
    open_index_ = index;
    phase_ = item.phase.decode();
    item_id_ = item.id.decode();
    last_piece_ = -1;
    spoke_ = false;
    if (item.type == "function_call" || item.type == "custom_tool_call") open_call(item);
    if (item.type == "reasoning")
      open_part(PartStart{.kind = PartKind::thinking, .item_id = item.id}, Open::thinking);
  }

  void open_call(const OutputItem& item) {
    open_part(PartStart{.kind = PartKind::tool_call,
                        .call_id = item.call_id.empty() ? item.id : item.call_id,
                        .item_id = item.id,
                        .name = item.name,
                        .tool_namespace = item.tool_namespace,
                        .call_kind = item.type == "custom_tool_call" ? CallKind::custom
                                                                     : CallKind::function},
              Open::call);
    called_ = true;
  }

  void on_item_done(const StreamEvent& event) {
    OutputItem item;
    if (!read_item(event.item, item)) return;
    if (open_index_ < 0) open_item(event.output_index, item);
    complete_item(item, event.item);
  }

  // The rest of an item whose final state is known.
  void complete_item(const OutputItem& item, JsonSlice source) {
    if (item.type == "message") {
      if (!spoke_) add_contents(item);
    } else if (item.type == "function_call" || item.type == "custom_tool_call") {
      if (open_ != Open::call) open_call(item);
      if (!part_said_) {
        give(!item.arguments_object.empty() ? Text::plain(item.arguments_object)
             : item.type == "function_call" ? item.arguments
                                            : item.input);
      }
    } else if (item.type == "reasoning") {
      if (open_ != Open::thinking) {
        open_part(PartStart{.kind = PartKind::thinking, .item_id = item.id}, Open::thinking);
      }
      if (!part_said_) add_thoughts(item);
      if (!item.encrypted.empty()) {
        told_.push_back(hash(item.encrypted));
        sink_->on_event(PartSeal{part_ - 1, Seal{kFormat, item.encrypted, item.id}});
      }
    } else if (!item.type.empty()) {
      close_part();
      open_part(PartStart{.kind = PartKind::raw,
                          .owner = kFormat,
                          .raw_type = item.type.bytes(),
                          .raw = source},
                Open::content);
    }
    close_item();
  }

  void add_contents(const OutputItem& item) {
    JsonReader json(item.content);
    if (json.kind() != JsonKind::array) return;
    json.begin_array();
    for (std::int64_t index = 0; json.next_item(); ++index) {
      JsonSlice piece;
      if (!json.object(piece)) return;
      const Text refusal = string_member(piece, "refusal");
      if (refusal.empty()) {
        add_content(PartKind::text, index, string_member(piece, "text"));
        give_annotations(piece);
      } else {
        add_content(PartKind::refusal, index, refusal);
      }
    }
  }

  void give_annotations(JsonSlice piece) {
    JsonReader json(llm_proxy::member(piece, "annotations"));
    if (open_ != Open::content || json.kind() != JsonKind::array) return;
    json.begin_array();
    while (json.next_item()) {
      JsonSlice annotation;
      if (!json.value(annotation)) return;
      sink_->on_event(PartAnnotation{part_ - 1, kFormat, annotation});
    }
  }

  void add_thoughts(const OutputItem& item) {
    std::int64_t index = 0;
    for (const JsonSlice list : {item.summary, item.content}) {
      JsonReader json(list);
      if (json.kind() != JsonKind::array) continue;
      json.begin_array();
      while (json.next_item()) {
        JsonSlice piece;
        if (!json.object(piece)) return;
        add_thought(index++, string_member(piece, "text"));
      }
      if (index > 0) return;
    }
  }

  void add_items(JsonSlice output) {
    JsonReader json(output);
    if (json.kind() != JsonKind::array) return;
    json.begin_array();
    for (std::int64_t index = 0; json.next_item(); ++index) {
      JsonSlice source;
      if (!json.value(source)) return;
      OutputItem item;
      if (!read_item(source, item)) continue;
      open_item(index, item);
      complete_item(item, source);
    }
  }

  // --- parts

  void open_part(PartStart part, Open kind) {
    start({});
    close_part();
    part.index = part_++;
    open_ = kind;
    part_said_ = false;
    items_seen_ = true;
    sink_->on_event(part);
  }

  void close_part() {
    if (open_ == Open::nothing) return;
    open_ = Open::nothing;
    sink_->on_event(PartEnd{part_ - 1});
  }

  void close_item() {
    close_part();
    open_index_ = -1;
  }

  void give(Text text) {
    if (text.empty()) return;
    part_said_ = true;
    sink_->on_event(PartDelta{part_ - 1, text});
  }

  bool has_said(PartKind kind, std::int64_t index) const {
    return open_ == Open::content && kind_ == kind && last_piece_ == index && part_said_;
  }

  void add_content(PartKind kind, std::int64_t index, Text text) {
    if (text.empty()) return;
    if (open_ != Open::content || kind_ != kind || last_piece_ != index) {
      open_part(
          PartStart{.kind = kind, .item_id = Text::plain(item_id_), .phase = Text::plain(phase_)},
          Open::content);
      kind_ = kind;
      last_piece_ = index;
    }
    spoke_ = true;
    give(text);
  }

  void add_thought(std::int64_t index, Text text) {
    if (text.empty()) return;
    if (open_ != Open::thinking) open_part(PartStart{.kind = PartKind::thinking}, Open::thinking);
    if (part_said_ && last_piece_ != index) give(Text::plain("\n\n"));
    last_piece_ = index;
    give(text);
  }

  // --- begin and end

  void start(const ResponseObject& response) {
    if (started_) return;
    started_ = true;
    sink_->on_event(ReplyStart{response.id, response.model, response.created});
  }

  void fail(Error error) {
    terminated_ = true;
    sink_->on_event(std::move(error));
  }

  Result<void> on_terminal(const StreamEvent& event) {
    ResponseObject response;
    if (!read_response(event.response, response)) {
      return garbled("The upstream's final event has no response.");
    }
    start(response);
    if (open_index_ >= 0) close_item();
    for (auto held = std::move(held_); !held.empty(); held = std::move(held_)) {
      held_ = std::move(held);
      if (auto replayed = replay(); !replayed) return replayed;
      if (open_index_ >= 0) close_item();
    }
    if (!items_seen_ && !(response.status == "failed")) add_items(response.output);
    return finish(response, told_.empty() ? std::vector<Seal>() : sealed_anew(response.output));
  }

  // OpenAI seals an item twice, for output_item.done and for the end of the stream. Both are good;
  // the second is the one that its own SDK sends back.
  std::vector<Seal> sealed_anew(JsonSlice output) const {
    std::vector<Seal> out;
    JsonReader json(output);
    if (json.kind() != JsonKind::array) return out;
    json.begin_array();
    while (json.next_item()) {
      JsonSlice source;
      if (!json.value(source)) break;
      OutputItem item;
      if (!read_item(source, item) || !(item.type == "reasoning")) continue;
      if (item.encrypted.empty() || item.id.empty()) continue;
      if (std::find(told_.begin(), told_.end(), hash(item.encrypted)) == told_.end()) {
        out.push_back(Seal{kFormat, item.encrypted, item.id});
      }
    }
    return out;
  }

  static std::size_t hash(Text token) { return std::hash<std::string_view>()(token.bytes()); }

  Result<void> finish(const ResponseObject& response, std::vector<Seal> seals = {}) {
    terminated_ = true;
    if (response.status == "failed" ||
        (!response.error.empty() && !(response.status == "completed") &&
         !(response.status == "incomplete"))) {
      std::string wrapped = "{\"error\":";
      wrapped += response.error.empty() ? JsonSlice("{}") : response.error;
      wrapped += '}';
      Error error = decode_stream_error(wrapped);
      if (error.message.empty()) error.message = "The upstream's response failed.";
      sink_->on_event(std::move(error));
      return {};
    }
    if (!response.usage.empty()) sink_->on_event(UsageUpdate{read_usage(response.usage)});
    Finish finish{.reason = called_ ? FinishReason::tool_calls : FinishReason::stop};
    finish.word = response.status.bytes();
    if (response.status == "incomplete") {
      const bool filtered = response.incomplete_reason == "content_filter";
      finish.reason = filtered ? FinishReason::content_filter : FinishReason::length;
      if (!response.incomplete_reason.empty()) finish.word = response.incomplete_reason.bytes();
    } else if (response.status == "cancelled") {
      finish.reason = FinishReason::other;
    }
    finish.seals = std::move(seals);
    sink_->on_event(finish);
    return {};
  }

  static constexpr std::size_t kMaxHeld = std::size_t{16} << 20;

  EventSink* sink_ = nullptr;
  bool started_ = false, terminated_ = false, called_ = false, items_seen_ = false;
  std::vector<std::size_t> told_;  // seals, by their hash
  std::uint32_t part_ = 0;         // index of the next part
  Open open_ = Open::nothing;
  PartKind kind_ = PartKind::text;  // of the open content part
  bool part_said_ = false;          // the open part has had text
  bool spoke_ = false;              // the open message has had text
  std::int64_t open_index_ = -1;    // output_index of the open item
  std::int64_t last_piece_ = -1;    // content_index or summary_index of the last delta
  std::string phase_, item_id_;
  std::vector<Held> held_;
  std::size_t held_bytes_ = 0;
};

}  // namespace

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation&) {
  return std::make_unique<Decoder>();
}

}  // namespace llm_proxy::openai_responses
