// Anthropic Messages: reads an upstream's reply, whole or streamed, as events.

#include <array>

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"

namespace llm_proxy::anthropic_messages {

namespace {

struct FinishRow {
  std::string_view word;
  FinishReason reason;
};

constexpr std::array kFinishRows{
    FinishRow{"end_turn", FinishReason::stop},
    FinishRow{"max_tokens", FinishReason::length},
    FinishRow{"stop_sequence", FinishReason::stop_sequence},
    FinishRow{"tool_use", FinishReason::tool_calls},
    FinishRow{"pause_turn", FinishReason::pause},
    FinishRow{"refusal", FinishReason::content_filter},
    FinishRow{"model_context_window_exceeded", FinishReason::context_full},
};

FinishReason finish_of(std::string_view word, bool has_calls) {
  FinishReason reason = word.empty() ? FinishReason::stop : FinishReason::other;
  for (const FinishRow& row : kFinishRows) {
    if (row.word == word) reason = row.reason;
  }
  if (reason == FinishReason::tool_calls && !has_calls) return FinishReason::stop;
  return reason;
}

// Decodes Messages replies.
//
//   fresh ─► started ─► finished          any ─► failed (an error event was given)
class Decoder : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    if (!valid_utf8(body)) return garbled("not valid UTF-8");
    JsonReader json(body);
    std::string_view key;
    Text type;
    JsonSlice content, error;
    ReplyStart start;
    if (!json.begin_object()) return garbled("not a JSON object");
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "id") {
        json.maybe_string(start.id);
      } else if (key == "model") {
        json.maybe_string(start.model);
      } else if (key == "content" && json.kind() == JsonKind::array) {
        json.value(content);
      } else if (key == "error") {
        json.value(error);
      } else if (key == "usage") {
        counts_.read_from(json);
      } else {
        read_stop_member(key, json);
      }
    }
    if (!json.finish()) return garbled(json.error(ErrorKind::upstream_garbled).message);
    if (type == "error" || (!error.empty() && error != "null" && content.empty())) {
      fail(decode_stream_error(body), sink);
      return {};
    }
    if (content.empty()) return garbled("without content");
    state_ = State::started;
    sink.on_event(start);
    JsonReader blocks(content);
    JsonSlice block;
    blocks.begin_array();
    while (blocks.next_item() && blocks.value(block)) {
      start_block(block, sink);
      close(sink);
    }
    finish(sink);
    return {};
  }

  Result<void> on_stream_event(std::string_view event, std::string_view data,
                               EventSink& sink) override {
    if (state_ == State::finished || state_ == State::failed || data.empty()) return {};
    if (event == "ping" || data == "[DONE]") return {};
    if (!valid_utf8(data)) return garbled("not valid UTF-8");
    JsonReader json(data);
    std::string_view key;
    Text type;
    JsonSlice delta, block, message, usage, error;
    if (!json.begin_object()) return garbled("not a JSON object");
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "delta") {
        json.value(delta);
      } else if (key == "content_block") {
        json.value(block);
      } else if (key == "message") {
        json.value(message);
      } else if (key == "usage") {
        json.value(usage);
      } else if (key == "error") {
        json.value(error);
      }
    }
    if (!json.finish()) return garbled(json.error(ErrorKind::upstream_garbled).message);
    std::string room;
    const std::string_view what = type.empty() ? event : type.decode_in(room);
    if (what == "content_block_delta") {
      return on_delta(delta, sink);
    } else if (what == "content_block_start") {
      if (state_ == State::fresh) return garbled("a block before message_start");
      close(sink);
      start_block(block, sink);
    } else if (what == "content_block_stop") {
      close(sink);
    } else if (what == "message_start") {
      on_message_start(message, sink);
    } else if (what == "message_delta") {
      on_message_delta(delta, usage);
    } else if (what == "message_stop") {
      if (state_ == State::fresh) return garbled("message_stop before message_start");
      finish(sink);
    } else if (what == "error" || (!error.empty() && error != "null")) {
      fail(decode_stream_error(data), sink);
    }
    return {};
  }

  Result<void> on_stream_end(EventSink& sink) override {
    if (state_ == State::finished || state_ == State::failed) return {};
    if (state_ == State::started && !stop_word_.empty()) {  // all but the last word was said
      finish(sink);
      return {};
    }
    return cut_short();
  }

 private:
  enum class State : std::uint8_t { fresh, started, finished, failed };

  static Error garbled(std::string_view why) {
    return llm_proxy::garbled("an Anthropic message", why);
  }

  void fail(Error error, EventSink& sink) {
    state_ = State::failed;
    sink.on_event(std::move(error));
  }

  void read_stop_member(std::string_view key, JsonReader& json) {
    Text text;
    if (key == "stop_reason") {
      if (json.maybe_string(text)) stop_word_ = text.decode();
    } else if (key == "stop_sequence") {
      if (json.maybe_string(text)) stop_sequence_ = text.decode();
    }
  }

  void on_message_start(JsonSlice message, EventSink& sink) {
    JsonReader json(message);
    std::string_view key;
    ReplyStart start;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "id") {
        json.maybe_string(start.id);
      } else if (key == "model") {
        json.maybe_string(start.model);
      } else if (key == "usage") {
        counts_.read_from(json);
      }
    }
    if (state_ != State::fresh) return;
    state_ = State::started;
    sink.on_event(start);
    if (const Usage usage = counts_.usage(); !usage.empty()) sink.on_event(UsageUpdate{usage});
  }

  void on_message_delta(JsonSlice delta, JsonSlice usage) {
    JsonReader json(delta);
    std::string_view key;
    if (json.kind() == JsonKind::object && json.begin_object()) {
      while (json.next_key(key)) read_stop_member(key, json);
    }
    JsonReader counts(usage);
    counts_.read_from(counts);
  }

  void start_block(JsonSlice block, EventSink& sink) {
    JsonReader json(block);
    std::string_view key;
    Text type, text, thinking, signature, data;
    JsonSlice input, citations;
    PartStart start;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "id") {
        json.maybe_string(start.call_id);
      } else if (key == "name") {
        json.maybe_string(start.name);
      } else if (key == "text") {
        json.maybe_string(text);
      } else if (key == "thinking") {
        json.maybe_string(thinking);
      } else if (key == "signature") {
        json.maybe_string(signature);
      } else if (key == "data") {
        json.maybe_string(data);
      } else if (key == "input") {
        json.value(input);
      } else if (key == "citations") {
        json.value(citations);
      }
    }
    start.index = index_;
    open_ = true;
    given_ = false;
    whole_input_.clear();
    if (type == "text") {
      start.kind = PartKind::text;
    } else if (type == "thinking" || type == "redacted_thinking") {
      start.kind = PartKind::thinking;
      start.redacted = type == "redacted_thinking";
    } else if (type == "tool_use") {
      start.kind = PartKind::tool_call;
      ++calls_;
      // Given at the end, unless pieces come.
      if (!input.empty() && input != "null") compact_to(input, whole_input_);
    } else {
      start.kind = PartKind::raw;
      start.owner = kFormat;
      start.raw_type = type.bytes();
      start.raw = block;
    }
    kind_ = start.kind;
    sink.on_event(start);
    give(kind_ == PartKind::thinking ? thinking : text, sink);
    if (kind_ == PartKind::text) give_citations(citations, sink);
    if (kind_ == PartKind::thinking) give_seal(start.redacted ? data : signature, sink);
  }

  void give(Text text, EventSink& sink) {
    if (text.empty() || kind_ == PartKind::raw) return;
    given_ = true;
    sink.on_event(PartDelta{index_, text});
  }

  void give_seal(Text token, EventSink& sink) {
    if (token.empty()) return;
    Seal seal;
    seal.maker = kFormat;
    seal.token = token;
    sink.on_event(PartSeal{index_, seal});
  }

  void give_citations(JsonSlice citations, EventSink& sink) {
    JsonReader json(citations);
    JsonSlice citation;
    if (json.kind() != JsonKind::array || !json.begin_array()) return;
    while (json.next_item() && json.value(citation)) {
      sink.on_event(PartAnnotation{index_, kFormat, citation});
    }
  }

  Result<void> on_delta(JsonSlice delta, EventSink& sink) {
    if (!open_) return garbled("a delta outside a block");
    JsonReader json(delta);
    std::string_view key;
    Text text, signature;
    JsonSlice citation;
    if (json.kind() != JsonKind::object || !json.begin_object()) return {};
    while (json.next_key(key)) {
      if (key == "text" || key == "partial_json" || key == "thinking") {
        json.maybe_string(text);
      } else if (key == "signature") {
        json.maybe_string(signature);
      } else if (key == "citation") {
        json.value(citation);
      }
    }
    give(text, sink);
    if (kind_ == PartKind::thinking) give_seal(signature, sink);
    if (!citation.empty()) sink.on_event(PartAnnotation{index_, kFormat, citation});
    return {};
  }

  void close(EventSink& sink) {
    if (!open_) return;
    if (kind_ == PartKind::tool_call && !given_) {
      sink.on_event(PartDelta{index_, Text::plain(whole_input_.empty() ? "{}" : whole_input_)});
    }
    sink.on_event(PartEnd{index_});
    ++index_;
    open_ = false;
  }

  void finish(EventSink& sink) {
    close(sink);
    if (const Usage usage = counts_.usage(); !usage.empty()) sink.on_event(UsageUpdate{usage});
    state_ = State::finished;
    Finish end;
    end.reason = finish_of(stop_word_, calls_ > 0);
    end.stop_sequence = Text::plain(stop_sequence_);
    end.word = stop_word_;
    sink.on_event(end);
  }

  State state_ = State::fresh;
  std::uint32_t index_ = 0;
  bool open_ = false;
  bool given_ = false;  // the open part has had text
  PartKind kind_ = PartKind::text;
  std::size_t calls_ = 0;
  std::string whole_input_;
  std::string stop_word_, stop_sequence_;
  Counts counts_;
};

}  // namespace

std::unique_ptr<ReplyDecoder> make_reply_decoder(const Translation&) {
  return std::make_unique<Decoder>();
}

}  // namespace llm_proxy::anthropic_messages
