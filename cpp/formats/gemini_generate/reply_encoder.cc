// Gemini generateContent: writes events as a reply to a client, whole or streamed.

#include <algorithm>

#include "formats/gemini_generate/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/media.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/seals.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::gemini_generate {

namespace {

// Events → chunks, or one whole answer. Calls go out whole, at their end; usage and finish in the
// last chunk.
class Encoder final : public ReplyEncoder {
 public:
  Encoder(const EncodeContext& context, Form form) : context_(context), form_(form) {}

  void on_event(const Event& event) override {
    if (ended_) return;
    std::visit([this](const auto& value) { on(value); }, event);
  }

  // An empty line: it is no event, and no client takes it for a broken chunk as some do a comment.
  void keep_alive() override {
    if (ended_ || form_ == Form::whole || (form_ == Form::array && !begun_)) return;
    out_ += "\r\n";
  }

 private:
  void on(const ReplyStart& start) {
    id_.clear();
    model_.clear();
    if (start.id.empty()) {
      id_ = made_id("", context_.reply_seed, 0);
    } else {
      start.id.escape_to(id_);
    }
    if (!start.model.empty()) {
      start.model.escape_to(model_);
    } else if (context_.request != nullptr) {
      context_.request->model.escape_to(model_);
    }
  }

  // A refusal is text here, and half of one looks like half an answer: it is told when the reply
  // goes on behind it or ends well.
  void tell_refusal() {
    if (refusal_.empty()) return;
    add_text(Text::escaped(refusal_), false);
    refusal_.clear();
  }

  void on(const PartStart& part) {
    tell_call();
    tell_refusal();
    kind_ = part.kind;
    redacted_ = part.redacted;
    arguments_.clear();
    if (part.kind == PartKind::tool_call) {
      const auto* alias = find_alias(context_.translation, part.name);
      name_.clear();
      if (alias != nullptr) {
        Text::plain(alias->name).escape_to(name_);
      } else {
        part.name.escape_to(name_);
      }
      custom_ = part.call_kind == CallKind::custom;
      call_id_.clear();
      part.call_id.escape_to(call_id_);
    } else if (part.kind == PartKind::raw && part.owner == kFormat) {
      std::string json;
      compact_to(part.raw, json);
      add_part(json);
    }
  }

  void on(const PartDelta& delta) {
    if (delta.text.empty()) return;
    switch (kind_) {
      case PartKind::text:
        return add_text(delta.text, false);
      case PartKind::refusal:
        return delta.text.escape_to(refusal_);
      case PartKind::thinking:
        return add_text(delta.text, true);
      case PartKind::tool_call:
        delta.text.decode_to(arguments_);
        return;
      case PartKind::raw:
        return;
    }
  }

  // Held for the call that follows; only that part is sure to come back.
  void on(const PartSeal& seal) {
    if (kind_ != PartKind::thinking && kind_ != PartKind::text) return;
    if (!signature_.empty()) add_signature(true);
    signature_.clear();
    signed_item_.clear();
    if (seal.seal.maker == kFormat) {
      seal.seal.token.escape_to(signature_);
    } else {
      signature_ = encode_base64(carried_seal(seal.seal, redacted_));
      signed_item_ = seal.seal.item_id.decode();
      signed_redacted_ = redacted_;
    }
  }

  void on(const PartAnnotation&) {}

  void on(const PartEnd&) {
    if (kind_ != PartKind::tool_call) return;
    call_ = "{\"functionCall\":{";
    if (!call_id_.empty()) call_ += "\"id\":\"" + call_id_ + "\",";
    call_ += "\"name\":\"" + name_ + "\",\"args\":";
    JsonWriter json(call_);
    ToolCallPart call{.arguments_text = Text::plain(arguments_)};
    if (custom_) call.kind = CallKind::custom;
    write_arguments_object(call, json);
    call_ += '}';
    kind_ = PartKind::raw;
    // The end of the stream may seal anew what this call carries.
    if (signature_.empty() || signed_item_.empty()) tell_call();
  }

  void tell_call() {
    if (call_.empty()) return;
    if (!signature_.empty()) call_ += ",\"thoughtSignature\":\"" + signature_ + '"';
    signature_.clear();
    call_ += '}';
    add_part(call_);
    call_.clear();
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    for (const Seal& seal : finish.seals) {
      if (!signature_.empty() && seal.item_id == signed_item_) {
        signature_ = encode_base64(carried_seal(seal, signed_redacted_));
      }
    }
    tell_call();
    tell_refusal();
    if (!signature_.empty()) add_signature(false);
    std::string_view word = "STOP";
    switch (finish.reason) {
      case FinishReason::length:
      case FinishReason::context_full:
        word = "MAX_TOKENS";
        break;
      case FinishReason::content_filter:
      case FinishReason::refusal:
        word = "SAFETY";
        break;
      case FinishReason::bad_call:
        word = "MALFORMED_FUNCTION_CALL";
        break;
      default:
        break;
    }
    if (parts_.empty()) parts_ = R"({"text":""})";
    write_chunk(word);
    if (form_ == Form::array) out_ += "]";
    ended_ = true;
  }

  void on(const Error& error) {
    tell_call();
    ended_ = true;
    if (form_ == Form::whole) out_.clear();
    open_chunk();
    encode_error(error, out_);
    close_chunk();
    if (form_ == Form::array) out_ += "]";
  }

  // --- parts

  void add_part(std::string_view part) {
    if (!parts_.empty()) parts_ += ',';
    parts_ += part;
    if (form_ != Form::whole) write_chunk({});
  }

  void add_text(Text text, bool thought) {
    if (form_ == Form::whole) {
      // One part for all of a part's text.
      const std::string_view tail = thought ? "\",\"thought\":true}" : "\"}";
      if (part_is_open_ == kind_ && parts_.size() >= tail.size() &&
          std::string_view(parts_).substr(parts_.size() - tail.size()) == tail) {
        parts_.resize(parts_.size() - tail.size());
      } else {
        if (!parts_.empty()) parts_ += ',';
        parts_ += "{\"text\":\"";
      }
      part_is_open_ = kind_;
      text.escape_to(parts_);
      parts_ += tail;
      return;
    }
    parts_ += "{\"text\":\"";
    text.escape_to(parts_);
    parts_ += thought ? "\",\"thought\":true}" : "\"}";
    write_chunk({});
  }

  void add_signature(bool thought) {
    std::string part = thought ? R"({"text":"","thought":true,"thoughtSignature":")"
                               : R"({"text":"","thoughtSignature":")";
    part += signature_;
    part += "\"}";
    signature_.clear();
    if (form_ == Form::whole || !thought) {
      if (!parts_.empty()) parts_ += ',';
      parts_ += part;
      part_is_open_ = PartKind::raw;
      return;
    }
    add_part(part);
  }

  // --- chunks

  void open_chunk() {
    if (form_ == Form::events) out_ += "data: ";
    if (form_ == Form::array) out_ += begun_ ? ",\r\n" : "[";
    begun_ = true;
  }

  void close_chunk() {
    if (form_ == Form::events) out_ += "\r\n\r\n";
  }

  void write_chunk(std::string_view finish_word) {
    open_chunk();
    out_ += R"({"candidates":[{"content":{"parts":[)";
    out_ += parts_;
    out_ += R"(],"role":"model"})";
    parts_.clear();
    if (!finish_word.empty()) {
      out_ += R"(,"finishReason":")";
      out_ += finish_word;
      out_ += '"';
    }
    out_ += R"(,"index":0}])";
    if (!finish_word.empty()) write_usage();
    out_ += R"(,"modelVersion":")";
    out_ += model_;
    out_ += R"(","responseId":")";
    out_ += id_;
    out_ += "\"}";
    close_chunk();
  }

  void write_usage() {
    if (usage_.empty()) return;
    const std::int64_t in = usage_.input.value_or(0), out = usage_.output.value_or(0);
    const std::int64_t thoughts = std::min(usage_.reasoning.value_or(0), out);
    out_ += ",\"usageMetadata\":";
    JsonWriter json(out_);
    json.begin_object()
        .member("promptTokenCount", in)
        .member("candidatesTokenCount", out - thoughts);
    json.member("totalTokenCount", in + out);
    if (usage_.cached.value_or(0) > 0) json.member("cachedContentTokenCount", *usage_.cached);
    if (thoughts > 0) json.member("thoughtsTokenCount", thoughts);
    json.end_object();
  }

  const EncodeContext context_;
  const Form form_;
  bool begun_ = false, ended_ = false;
  std::string id_, model_;  // escaped
  Usage usage_;
  PartKind kind_ = PartKind::raw;          // of the open part
  PartKind part_is_open_ = PartKind::raw;  // whole: of the last text written
  bool redacted_ = false, custom_ = false;
  std::string name_, call_id_;  // escaped
  std::string arguments_;       // plain
  std::string signature_;       // escaped; waits for the part that carries it
  std::string signed_item_;     // what it was made for; empty: Gemini's own
  bool signed_redacted_ = false;
  std::string call_;     // JSON, not closed; waits for its last signature
  std::string refusal_;  // escaped; not told yet
  std::string parts_;    // JSON, comma separated
};

}  // namespace

std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, context.json_array ? Form::array : Form::events);
}

std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, Form::whole);
}

}  // namespace llm_proxy::gemini_generate
