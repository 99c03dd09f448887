// OpenAI Chat Completions: writes events as a reply to a client, whole or streamed.

#include <algorithm>

#include "formats/openai_chat/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/scan.h"
#include "json/writer.h"

namespace llm_proxy::openai_chat {

namespace {

std::string_view finish_word(FinishReason reason, bool has_calls) {
  switch (reason) {
    case FinishReason::length:
    case FinishReason::context_full:
      return "length";
    case FinishReason::content_filter:
      return "content_filter";
    case FinishReason::tool_calls:
      return has_calls ? "tool_calls" : "stop";
    default:
      return has_calls ? "tool_calls" : "stop";
  }
}

void write_usage(const Usage& usage, JsonWriter& json) {
  const std::int64_t input = usage.input.value_or(0), output = usage.output.value_or(0);
  json.begin_object().member("prompt_tokens", input).member("completion_tokens", output);
  json.member("total_tokens", input + output);
  json.key("prompt_tokens_details").begin_object();
  json.member("cached_tokens", usage.cached.value_or(0));
  if (usage.written) json.member("cache_write_tokens", *usage.written);
  json.end_object().key("completion_tokens_details").begin_object();
  json.member("reasoning_tokens", usage.reasoning.value_or(0)).end_object().end_object();
}

// One entry of reasoning_details that carries another maker's seal in a format of ours.
void write_seal(const Seal& seal, bool has_text, std::size_t length, std::size_t index,
                JsonWriter& json) {
  json.begin_object();
  if (has_text) {
    json.member("type", "reasoning.text").member("signature", seal.token);
    json.member("length", static_cast<std::int64_t>(length));
  } else {
    json.member("type", "reasoning.encrypted").member("data", seal.token);
  }
  json.optional("id", seal.item_id).member("format", name(seal.maker));
  json.member("index", static_cast<std::int64_t>(index)).end_object();
}

// What both reply encoders know of the part that is open.
class EncoderBase : public ReplyEncoder {
 public:
  explicit EncoderBase(const EncodeContext& context) : context_(context) {}

 protected:
  enum class Place : std::uint8_t { nowhere, content, reasoning, refusal, call, custom_call };

  // Where the open part's text goes.
  Place place_of(const PartStart& start) {
    redacted_ = start.redacted;
    alias_ = nullptr;
    switch (start.kind) {
      case PartKind::text:
        return Place::content;
      case PartKind::thinking:
        return Place::reasoning;
      case PartKind::refusal:
        return Place::refusal;
      case PartKind::raw:
        return Place::nowhere;
      case PartKind::tool_call:
        break;
    }
    if (context_.translation != nullptr && !context_.translation->forced_output_tool.empty() &&
        start.name == context_.translation->forced_output_tool) {
      return Place::content;
    }
    alias_ = find_alias(context_.translation, start.name);
    const CallKind kind = alias_ != nullptr ? alias_->kind : start.call_kind;
    wrapped_ = alias_ != nullptr && alias_->kind == CallKind::custom;
    // A client that declared no such tool knows function calls only.
    input_open_ = kind == CallKind::custom && alias_ == nullptr && !declared_custom(start.name);
    return kind == CallKind::custom && !input_open_ ? Place::custom_call : Place::call;
  }

  bool declared_custom(Text name) const {
    if (context_.request == nullptr) return true;
    const std::string plain = name.decode();
    const auto& tools = context_.request->tools;
    return std::any_of(tools.begin(), tools.end(), [&](const Tool& tool) {
      return tool.kind == Tool::Kind::custom && tool.name == plain;
    });
  }

  // A piece of the open call's arguments, escaped: a wrapped input's text is inside a string inside
  // the string.
  void escape_arguments(Text piece, std::string& out) const {
    if (!input_open_) return piece.escape_to(out);
    std::string inner;
    piece.escape_to(inner);
    Text::plain(inner).escape_to(out);
  }
  static constexpr std::string_view kInputBegin = R"({\"input\":\")";
  static constexpr std::string_view kInputEnd = R"(\"})";

  // The call's id: the upstream's, or one made from its place.
  std::string call_id(const PartStart& start) const {
    if (start.call_id.empty()) return made_id("call_", context_.reply_seed, start.index);
    return mapped_id(start.call_id, IdRule{});
  }
  Text call_name(const PartStart& start) const {
    return alias_ != nullptr ? Text::plain(alias_->name) : start.name;
  }
  Text model(const ReplyStart& start) const {
    if (!start.model.empty() || context_.request == nullptr) return start.model;
    return context_.request->model;
  }
  std::string reply_id() const { return made_id("chatcmpl-", context_.reply_seed, 0); }
  std::int64_t created(const ReplyStart& start) const {
    return start.created != 0 ? start.created : context_.now;
  }
  // Two messages of a Responses reply become one here: a blank line between them.
  bool begins_another_message(const PartStart& start) {
    const std::string item = start.item_id.decode();
    const bool another = has_content_ && !item.empty() && item != last_item_;
    last_item_ = item;
    return another;
  }

  EncodeContext context_;
  Place place_ = Place::nowhere;
  const Translation::ToolAlias* alias_ = nullptr;
  bool redacted_ = false;
  bool wrapped_ = false;
  bool input_open_ = false;  // the open call's arguments are {"input": "its text"}
  bool has_content_ = false;
  std::string last_item_;
  std::size_t calls_ = 0;
  std::size_t seals_ = 0;
  std::size_t thinking_length_ = 0;
  Usage usage_;
};

// A reply as chat.completion.chunk events. Everything of a chunk but its delta is the same for all:
// made once.
class StreamEncoder : public EncoderBase {
 public:
  using EncoderBase::EncoderBase;

  void keep_alive() override { out_ += ": keep-alive\n\n"; }

  void on_event(const Event& event) override {
    std::visit([this](const auto& each) { on(each); }, event);
  }

 private:
  void on(const ReplyStart& start) {
    JsonWriter json(head_);
    json.begin_object().member("id", std::string_view(reply_id()));
    json.member("object", "chat.completion.chunk").member("created", created(start));
    json.member("model", model(start));
    head_.insert(0, "data: ");
    const bool asked = context_.request != nullptr && context_.request->include_usage;
    tail_ = asked ? "},\"finish_reason\":null}],\"usage\":null}\n\n"
                  : "},\"finish_reason\":null}]}\n\n";
    chunk(R"("role":"assistant","content":"","refusal":null)");
  }

  void begin() {
    out_ += head_;
    out_ += R"(,"choices":[{"index":0,"delta":{)";
  }
  void end() { out_ += tail_; }
  void chunk(std::string_view delta) {
    begin();
    out_ += delta;
    end();
  }
  void text_chunk(std::string_view key, Text text) {
    begin();
    out_ += key;
    text.escape_to(out_);
    out_ += '"';
    end();
  }

  void on(const PartStart& start) {
    place_ = place_of(start);
    thinking_length_ = 0;
    buffer_.clear();
    if (place_ == Place::content && begins_another_message(start)) {
      text_chunk("\"content\":\"", Text::plain("\n\n"));
    }
    if (place_ != Place::call && place_ != Place::custom_call) return;
    call_head_ = "\"tool_calls\":[{\"index\":" + std::to_string(calls_++);
    begin();
    out_ += call_head_;
    out_ += ",\"id\":\"";
    Text::plain(call_id(start)).escape_to(out_);
    const bool custom = place_ == Place::custom_call;
    out_ += custom ? R"(","type":"custom","custom":{"name":")"
                   : R"(","type":"function","function":{"name":")";
    call_name(start).escape_to(out_);
    out_ += custom ? R"(","input":"")" : R"(","arguments":")";
    if (!custom && input_open_) out_ += kInputBegin;
    out_ += custom ? "}}]" : "\"}}]";
    end();
  }

  void on(const PartDelta& delta) {
    switch (place_) {
      case Place::nowhere:
        return;
      case Place::content:
        has_content_ = true;
        text_chunk("\"content\":\"", delta.text);
        return;
      case Place::reasoning:
        thinking_length_ +=
            delta.text.has_escapes() ? delta.text.decode().size() : delta.text.bytes().size();
        text_chunk("\"reasoning_content\":\"", delta.text);
        return;
      case Place::refusal:
        text_chunk("\"refusal\":\"", delta.text);
        return;
      case Place::call:
        begin();
        out_ += call_head_;
        out_ += ",\"function\":{\"arguments\":\"";
        escape_arguments(delta.text, out_);
        out_ += "\"}}]";
        end();
        return;
      case Place::custom_call:
        delta.text.decode_to(buffer_);
        return;
    }
  }

  void on(const PartSeal& seal) {
    begin();
    out_ += "\"reasoning_details\":";
    if (seal.seal.maker == kFormat) {
      seal.seal.token.decode_to(out_);
    } else {
      std::string entry;
      JsonWriter json(entry);
      json.begin_array();
      write_seal(seal.seal, !redacted_ && seal.seal.maker == WireFormat::anthropic_messages,
                 thinking_length_, seals_++, json);
      json.end_array();
      out_ += entry;
    }
    end();
  }

  void on(const PartAnnotation&) {}

  void on(const PartEnd&) {
    if (place_ == Place::call && input_open_) {
      begin();
      out_ += call_head_;
      out_ += ",\"function\":{\"arguments\":\"";
      out_ += kInputEnd;
      out_ += "\"}}]";
      end();
    }
    if (place_ != Place::custom_call) return;
    begin();
    out_ += call_head_;
    out_ += ",\"custom\":{\"input\":\"";
    Text::plain(wrapped_ ? unwrapped_input(buffer_) : buffer_).escape_to(out_);
    out_ += "\"}}]";
    end();
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    const bool asked = context_.request != nullptr && context_.request->include_usage;
    out_ += head_;
    out_ += R"(,"choices":[{"index":0,"delta":{},"finish_reason":")";
    out_ += finish_word(finish.reason, calls_ > 0);
    out_ += asked ? "\"}],\"usage\":null}\n\n" : "\"}]}\n\n";
    if (asked && !usage_.empty()) {
      out_ += head_;
      out_ += R"(,"choices":[],"usage":)";
      std::string usage;
      JsonWriter json(usage);
      write_usage(usage_, json);
      out_ += usage;
      out_ += "}\n\n";
    }
    out_ += "data: [DONE]\n\n";
  }

  void on(const Error& error) { encode_stream_error(error, out_); }

  std::string head_, tail_, call_head_, buffer_;
};

// A reply as one chat.completion, written on Finish.
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
    json.begin_object().member("id", std::string_view(reply_id()));
    json.member("object", "chat.completion").member("created", created(start));
    json.member("model", model(start));
  }

  void on(const PartStart& start) {
    place_ = place_of(start);
    thinking_length_ = 0;
    buffer_.clear();
    if (place_ == Place::content && begins_another_message(start)) content_ += "\\n\\n";
    if (place_ != Place::call && place_ != Place::custom_call) return;
    ++calls_;
    if (!calls_json_.empty()) calls_json_ += ',';
    calls_json_ += "{\"id\":\"";
    Text::plain(call_id(start)).escape_to(calls_json_);
    const bool custom = place_ == Place::custom_call;
    calls_json_ += custom ? R"(","type":"custom","custom":{"name":")"
                          : R"(","type":"function","function":{"name":")";
    call_name(start).escape_to(calls_json_);
    calls_json_ += custom ? R"(","input":")" : R"(","arguments":")";
    if (!custom && input_open_) calls_json_ += kInputBegin;
  }

  void on(const PartDelta& delta) {
    switch (place_) {
      case Place::nowhere:
        return;
      case Place::content:
        has_content_ = true;
        delta.text.escape_to(content_);
        return;
      case Place::reasoning:
        thinking_length_ +=
            delta.text.has_escapes() ? delta.text.decode().size() : delta.text.bytes().size();
        delta.text.escape_to(reasoning_);
        return;
      case Place::refusal:
        delta.text.escape_to(refusal_);
        return;
      case Place::call:
        escape_arguments(delta.text, calls_json_);
        return;
      case Place::custom_call:
        delta.text.decode_to(buffer_);
        return;
    }
  }

  void on(const PartSeal& seal) {
    if (!details_.empty()) details_ += ',';
    if (seal.seal.maker == kFormat) {
      const std::string entries = seal.seal.token.decode();
      if (entries.size() > 2) details_ += entries.substr(1, entries.size() - 2);
      return;
    }
    std::string entry;
    JsonWriter json(entry);
    write_seal(seal.seal, !redacted_ && seal.seal.maker == WireFormat::anthropic_messages,
               thinking_length_, seals_++, json);
    details_ += entry;
  }

  void on(const PartAnnotation&) {}

  void on(const PartEnd&) {
    if (place_ == Place::custom_call) {
      Text::plain(wrapped_ ? unwrapped_input(buffer_) : buffer_).escape_to(calls_json_);
    }
    if (place_ == Place::call && input_open_) calls_json_ += kInputEnd;
    if (place_ == Place::call || place_ == Place::custom_call) calls_json_ += "\"}}";
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    out_ += head_;
    out_ += R"(,"choices":[{"index":0,"message":)";
    std::string message;
    JsonWriter json(message);
    json.begin_object().member("role", "assistant");
    if (content_.empty() && (calls_ > 0 || !refusal_.empty())) {
      json.member_null("content");
    } else {
      json.member("content", Text::escaped(content_));
    }
    if (refusal_.empty()) {
      json.member_null("refusal");
    } else {
      json.member("refusal", Text::escaped(refusal_));
    }
    json.optional("reasoning_content", Text::escaped(reasoning_));
    if (!details_.empty()) json.member_raw("reasoning_details", "[" + details_ + "]");
    if (calls_ > 0) json.member_raw("tool_calls", "[" + calls_json_ + "]");
    json.end_object();
    out_ += message;
    out_ += R"(,"logprobs":null,"finish_reason":")";
    out_ += finish_word(finish.reason, calls_ > 0);
    out_ += "\"}]";
    if (!usage_.empty()) {
      out_ += ",\"usage\":";
      std::string usage;
      JsonWriter writer(usage);
      write_usage(usage_, writer);
      out_ += usage;
    }
    out_ += '}';
  }

  void on(const Error& error) {
    out_.clear();
    encode_error(error, out_);
  }

  std::string head_, content_, reasoning_, refusal_, calls_json_, details_, buffer_;
};

}  // namespace

std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context) {
  return std::make_unique<StreamEncoder>(context);
}

std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context) {
  return std::make_unique<WholeEncoder>(context);
}

}  // namespace llm_proxy::openai_chat
