// Anthropic Messages: writes events as a reply to a client, whole or streamed.

#include <algorithm>

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/seals.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::anthropic_messages {

namespace {

std::string_view finish_word(FinishReason reason, bool has_calls) {
  switch (reason) {
    case FinishReason::length:
      return "max_tokens";
    case FinishReason::context_full:
      return "model_context_window_exceeded";
    case FinishReason::content_filter:
      return "refusal";
    case FinishReason::stop_sequence:
      return has_calls ? "tool_use" : "stop_sequence";
    case FinishReason::pause:
      return "pause_turn";
    default:
      return has_calls ? "tool_use" : "end_turn";
  }
}

void write_usage(const Usage& usage, JsonWriter& json) {
  const std::int64_t cached = usage.cached.value_or(0), written = usage.written.value_or(0);
  json.begin_object();
  json.member("input_tokens",
              std::max<std::int64_t>(0, usage.input.value_or(0) - cached - written));
  json.member("cache_creation_input_tokens", written).member("cache_read_input_tokens", cached);
  json.member("output_tokens", usage.output.value_or(0));
  if (usage.reasoning.value_or(0) > 0) {
    json.key("output_tokens_details").begin_object();
    json.member("thinking_tokens", *usage.reasoning).end_object();
  }
  json.end_object();
}

// What both reply encoders know of the block that is open.
class EncoderBase : public ReplyEncoder {
 public:
  explicit EncoderBase(const EncodeContext& context) : context_(context) {}

 protected:
  enum class Block : std::uint8_t { none, text, refusal, thinking, redacted, call, wrapped_call };

  Block block_of(const PartStart& start) {
    alias_ = nullptr;
    switch (start.kind) {
      case PartKind::text:
        return Block::text;
      case PartKind::refusal:
        return Block::refusal;
      case PartKind::thinking:
        return start.redacted ? Block::redacted : Block::thinking;
      case PartKind::raw:
        return Block::none;
      case PartKind::tool_call:
        break;
    }
    if (context_.translation != nullptr && !context_.translation->forced_output_tool.empty() &&
        start.name == context_.translation->forced_output_tool) {
      return Block::text;
    }
    alias_ = find_alias(context_.translation, start.name);
    ++calls_;
    return start.call_kind == CallKind::custom ? Block::wrapped_call : Block::call;
  }

  std::string call_id(const PartStart& start) const {
    if (start.call_id.empty()) return made_id("toolu_", context_.reply_seed, start.index);
    IdRule rule;
    rule.max_length = 200;
    rule.word_only = true;
    rule.prefix = "toolu_";
    return mapped_id(start.call_id, rule);
  }
  Text call_name(const PartStart& start) const {
    return alias_ != nullptr ? Text::plain(alias_->name) : start.name;
  }
  void write_head(const ReplyStart& start, JsonWriter& json) const {
    const bool own = start.id.bytes().substr(0, 4) == "msg_";
    json.member("id", own ? start.id.decode() : made_id("msg_", context_.reply_seed, 0));
    json.member("type", "message").member("role", "assistant");
    const bool named = !start.model.empty() || context_.request == nullptr;
    json.member("model", named ? start.model : context_.request->model);
  }
  static void write_stop(const Finish& finish, bool has_calls, JsonWriter& json) {
    json.member("stop_reason", finish_word(finish.reason, has_calls));
    if (finish.reason == FinishReason::stop_sequence && !finish.stop_sequence.empty()) {
      json.member("stop_sequence", finish.stop_sequence);
    } else {
      json.member_null("stop_sequence");
    }
  }
  // The seal as Anthropic's own field holds it: ours to mark when another made it.
  static std::string token_of(const Seal& seal) {
    return seal.maker == kFormat ? seal.token.decode() : carried_seal(seal, false);
  }

  EncodeContext context_;
  Block block_ = Block::none;
  const Translation::ToolAlias* alias_ = nullptr;
  std::size_t calls_ = 0;
  Usage usage_;
};

// A reply as Messages events. A refusal is text here, and half of one looks like half an answer: it
// is told when the reply goes on behind it or ends well.
class StreamEncoder : public EncoderBase {
 public:
  using EncoderBase::EncoderBase;

  void keep_alive() override {
    if (started_) out_ += "event: ping\ndata: {\"type\":\"ping\"}\n\n";
  }

  void on_event(const Event& event) override {
    std::visit([this](const auto& each) { on(each); }, event);
  }

 private:
  void on(const ReplyStart& start) {
    started_ = true;
    out_ += "event: message_start\ndata: {\"type\":\"message_start\",\"message\":";
    std::string message;
    JsonWriter json(message);
    json.begin_object();
    write_head(start, json);
    json.key("content").begin_array().end_array();
    json.member_null("stop_reason").member_null("stop_sequence");
    json.key("usage");
    write_usage(usage_, json);
    json.end_object();
    out_ += message;
    out_ += "}\n\n";
  }

  // Opens a block whose JSON is `content_block`, and makes what all its deltas begin with.
  void start_block(std::string_view content_block) {
    const std::string index = std::to_string(index_);
    out_ += "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":";
    out_ += index;
    out_ += ",\"content_block\":";
    out_ += content_block;
    out_ += "}\n\n";
    delta_head_ =
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":" + index +
        ",\"delta\":";
  }
  void delta(std::string_view head, Text text) {
    out_ += delta_head_;
    out_ += head;
    text.escape_to(out_);
    out_ += "\"}}\n\n";
  }
  void stop_block() {
    out_ += "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":";
    out_ += std::to_string(index_++);
    out_ += "}\n\n";
  }

  void tell_refusal() {
    if (refusal_.empty()) return;
    start_block(R"({"type":"text","text":""})");
    delta(R"({"type":"text_delta","text":")", Text::escaped(refusal_));
    stop_block();
    refusal_.clear();
  }

  void on(const PartStart& start) {
    tell_refusal();
    block_ = block_of(start);
    seal_behind_.clear();
    buffer_.clear();
    switch (block_) {
      case Block::refusal:
        return;
      case Block::none:
        if (start.owner == kFormat && !start.raw.empty()) {
          std::string on_one_line;
          compact_to(start.raw, on_one_line);
          start_block(on_one_line);
          stop_block();
        }
        return;
      case Block::text:
        return start_block(R"({"type":"text","text":""})");
      case Block::thinking:
        return start_block(R"({"type":"thinking","thinking":"","signature":""})");
      case Block::redacted:
        return;
      case Block::call:
      case Block::wrapped_call: {
        std::string block;
        JsonWriter json(block);
        json.begin_object().member("type", "tool_use");
        json.member("id", std::string_view(call_id(start))).member("name", call_name(start));
        json.key("input").begin_object().end_object().end_object();
        return start_block(block);
      }
    }
  }

  void on(const PartDelta& part) {
    switch (block_) {
      case Block::none:
      case Block::redacted:
        return;
      case Block::text:
        return delta(R"({"type":"text_delta","text":")", part.text);
      case Block::refusal:
        return part.text.escape_to(refusal_);
      case Block::thinking:
        return delta(R"({"type":"thinking_delta","thinking":")", part.text);
      case Block::call:
        return delta(R"({"type":"input_json_delta","partial_json":")", part.text);
      case Block::wrapped_call:
        return part.text.decode_to(buffer_);
    }
  }

  void on(const PartSeal& part) {
    if (block_ == Block::thinking) {
      delta(R"({"type":"signature_delta","signature":")", Text::plain(token_of(part.seal)));
    } else if (block_ == Block::redacted) {
      std::string block;
      JsonWriter json(block);
      json.begin_object().member("type", "redacted_thinking");
      const bool own = part.seal.maker == kFormat;
      json.member("data", own ? part.seal.token.decode() : carried_seal(part.seal, true))
          .end_object();
      start_block(block);
      stop_block();
    } else {
      seal_behind_ = token_of(part.seal);
    }
  }

  void on(const PartAnnotation&) {}

  void on(const PartEnd&) {
    if (block_ == Block::wrapped_call) {
      std::string wrapped;
      JsonWriter(wrapped).begin_object().member("input", std::string_view(buffer_)).end_object();
      delta(R"({"type":"input_json_delta","partial_json":")", Text::plain(wrapped));
    }
    const bool open =
        block_ != Block::none && block_ != Block::refusal && block_ != Block::redacted;
    if (open) stop_block();
    if (!seal_behind_.empty()) {
      // Gemini's signature on a text: carried by an empty thinking block behind it.
      start_block(R"({"type":"thinking","thinking":"","signature":""})");
      delta(R"({"type":"signature_delta","signature":")", Text::plain(seal_behind_));
      stop_block();
    }
    block_ = Block::none;
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    tell_refusal();
    std::string data;
    JsonWriter json(data);
    json.begin_object().member("type", "message_delta").key("delta").begin_object();
    write_stop(finish, calls_ > 0, json);
    json.end_object().key("usage");
    write_usage(usage_, json);
    json.end_object();
    out_ += "event: message_delta\ndata: ";
    out_ += data;
    out_ += "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }

  void on(const Error& error) { encode_stream_error(error, out_); }

  bool started_ = false;
  std::uint32_t index_ = 0;
  std::string delta_head_, seal_behind_, buffer_;
  std::string refusal_;  // escaped; not told yet
};

// A reply as one message, written on Finish.
class WholeEncoder : public EncoderBase {
 public:
  using EncoderBase::EncoderBase;

  void keep_alive() override {}

  void on_event(const Event& event) override {
    std::visit([this](const auto& each) { on(each); }, event);
  }

 private:
  void on(const ReplyStart& start) {
    JsonWriter json(head_);
    json.begin_object();
    write_head(start, json);
    json.key("content");
  }

  void on(const PartStart& start) {
    block_ = block_of(start);
    text_.clear();
    token_.clear();
    id_ = call_id(start);
    name_ = call_name(start).decode();
    raw_ = start.kind == PartKind::raw && start.owner == kFormat ? std::string(start.raw) : "";
  }

  void on(const PartDelta& part) { part.text.escape_to(text_); }

  void on(const PartSeal& part) {
    const bool redacted = block_ == Block::redacted && part.seal.maker != kFormat;
    token_ = redacted ? carried_seal(part.seal, true) : token_of(part.seal);
  }

  void on(const PartAnnotation&) {}

  void on(const PartEnd&) {
    std::string block;
    JsonWriter json(block);
    switch (block_) {
      case Block::none:
        block = raw_;
        break;
      case Block::text:
      case Block::refusal:
        if (text_.empty()) break;
        json.begin_object()
            .member("type", "text")
            .member("text", Text::escaped(text_))
            .end_object();
        break;
      case Block::thinking:
        json.begin_object().member("type", "thinking").member("thinking", Text::escaped(text_));
        json.member("signature", std::string_view(token_)).end_object();
        break;
      case Block::redacted:
        json.begin_object().member("type", "redacted_thinking");
        json.member("data", std::string_view(token_)).end_object();
        break;
      case Block::call:
      case Block::wrapped_call: {
        ToolCallPart call;
        call.kind = block_ == Block::wrapped_call ? CallKind::custom : CallKind::function;
        call.arguments_text = Text::escaped(text_);
        json.begin_object().member("type", "tool_use").member("id", std::string_view(id_));
        json.member("name", std::string_view(name_)).key("input");
        write_arguments_object(call, json);
        json.end_object();
        break;
      }
    }
    add(block);
    if (block_ == Block::text && !token_.empty()) {
      std::string behind;
      JsonWriter seal(behind);
      seal.begin_object().member("type", "thinking").member("thinking", "");
      seal.member("signature", std::string_view(token_)).end_object();
      add(behind);
    }
    block_ = Block::none;
  }

  void add(const std::string& block) {
    if (block.empty()) return;
    if (!content_.empty()) content_ += ',';
    content_ += block;
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    out_ += head_;
    out_ += '[';
    out_ += content_;
    out_ += "],";
    std::string rest;
    JsonWriter json(rest);
    write_stop(finish, calls_ > 0, json);
    json.key("usage");
    write_usage(usage_, json);
    out_ += rest;
    out_ += '}';
  }

  void on(const Error& error) {
    out_.clear();
    encode_error(error, out_);
  }

  std::string head_, content_, text_, token_, id_, name_, raw_;
};

}  // namespace

std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context) {
  return std::make_unique<StreamEncoder>(context);
}

std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context) {
  return std::make_unique<WholeEncoder>(context);
}

}  // namespace llm_proxy::anthropic_messages
