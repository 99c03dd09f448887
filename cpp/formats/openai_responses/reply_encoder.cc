// OpenAI Responses: writes events as a reply to a client, whole or streamed.

#include <algorithm>
#include <array>

#include "formats/openai_responses/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/seals.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::openai_responses {

namespace {

// Events → a response object, whole or as events. Keeps every finished item's JSON for the final
// copy.
class Encoder final : public ReplyEncoder {
 public:
  Encoder(const EncodeContext& context, bool streamed) : context_(context), streamed_(streamed) {}

  void on_event(const Event& event) override {
    if (ended_) return;
    std::visit([this](const auto& value) { on(value); }, event);
  }

  void keep_alive() override {
    if (streamed_ && !ended_) out_ += ": keep-alive\n\n";
  }

 private:
  enum class Open : std::uint8_t {
    nothing,
    message,
    call,
    custom,
    wrapped,
    tool_search,
    reasoning,
    raw
  };

  void on(const ReplyStart& start) {
    if (started_) return;
    started_ = true;
    id_ = start.id.decode();
    if (id_.substr(0, 5) != "resp_") id_ = made_id("resp_", context_.reply_seed, 0);
    model_ = start.model.empty() && context_.request != nullptr ? context_.request->model.decode()
                                                                : start.model.decode();
    created_ = start.created != 0 ? start.created : context_.now;
    make_echo();
    for (const std::string_view type : {"response.created", "response.in_progress"}) {
      if (!begin_event(type)) return;
      out_ += ",\"response\":";
      write_response("in_progress", {}, nullptr);
      end_event();
    }
  }

  void on(const PartStart& part) {
    on(ReplyStart{});
    if (part.kind == PartKind::text || part.kind == PartKind::refusal) return open_content(part);
    close_item("completed");
    switch (part.kind) {
      case PartKind::thinking:
        return open_reasoning(part);
      case PartKind::tool_call:
        return open_call(part);
      case PartKind::raw:
        if (part.owner == kFormat) write_raw_item(part.raw);
        return;
      default:
        return;
    }
  }

  void on(const PartDelta& delta) {
    if (delta.text.empty()) return;
    switch (open_) {
      case Open::message:
        delta.text.escape_to(text_);
        return tell_piece(
            kind_ == PartKind::refusal ? "response.refusal.delta" : "response.output_text.delta",
            delta.text);
      case Open::reasoning:
        if (text_.empty() && begin_event("response.reasoning_summary_part.added")) {
          write_place();
          out_ += R"(,"summary_index":0,"part":{"type":"summary_text","text":""})";
          end_event();
        }
        delta.text.escape_to(text_);
        return tell_piece("response.reasoning_summary_text.delta", delta.text);
      case Open::call:
        delta.text.escape_to(text_);
        return tell_piece("response.function_call_arguments.delta", delta.text);
      case Open::custom:
        delta.text.escape_to(text_);
        return tell_piece("response.custom_tool_call_input.delta", delta.text);
      case Open::wrapped:
      case Open::tool_search:
        delta.text.decode_to(text_);
        return;
      default:
        return;
    }
  }

  void on(const PartSeal& seal) {
    if (open_ != Open::reasoning) return;
    const std::string token =
        seal.seal.maker == kFormat ? seal.seal.token.decode() : carried_seal(seal.seal, redacted_);
    seal_.clear();
    Text::plain(token).escape_to(seal_);
  }

  void on(const PartAnnotation& annotation) {
    if (open_ != Open::message || kind_ != PartKind::text || annotation.owner != kFormat) return;
    std::string json;
    compact_to(annotation.json, json);
    if (begin_event("response.output_text.annotation.added")) {
      write_place();
      write_content_place();
      out_ += ",\"annotation_index\":";
      write_number(annotation_count_);
      out_ += ",\"annotation\":";
      out_ += json;
      end_event();
    }
    ++annotation_count_;
    if (!annotations_.empty()) annotations_ += ',';
    annotations_ += json;
  }

  void on(const PartEnd&) {
    if (open_ == Open::message)
      return close_content();  // the next part may belong to the same message
    close_item("completed");
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    on(ReplyStart{});
    std::string_view reason;
    switch (finish.reason) {
      case FinishReason::length:
      case FinishReason::context_full:
        reason = "max_output_tokens";
        break;
      case FinishReason::content_filter:
      case FinishReason::refusal:
        reason = "content_filter";
        break;
      default:
        break;
    }
    const std::string_view status = reason.empty() ? "completed" : "incomplete";
    close_item(status);
    ended_ = true;
    if (begin_event(reason.empty() ? "response.completed" : "response.incomplete"))
      out_ += ",\"response\":";
    write_response(status, reason, nullptr);
    if (streamed_) end_event();
  }

  void on(const Error& error) {
    if (!streamed_) {
      ended_ = true;
      out_.clear();
      encode_error(error, out_);
      return;
    }
    close_item("incomplete");
    ended_ = true;
    if (!started_) {
      begin_event("error");
      out_ += ',';
      std::string body;
      encode_error(error, body);
      out_.append(body, 1, body.size() - 2);
      end_event();
    }
    if (echo_.empty()) {
      id_ = made_id("resp_", context_.reply_seed, 0);
      created_ = context_.now;
      if (context_.request != nullptr) model_ = context_.request->model.decode();
      make_echo();
    }
    begin_event("response.failed");
    out_ += ",\"response\":";
    write_response("failed", {}, &error);
    end_event();
  }

  // --- items

  void open_content(const PartStart& part) {
    const std::string phase = part.phase.decode(), item = part.item_id.decode();
    if (open_ != Open::message || phase != phase_ || (!item.empty() && item != source_item_)) {
      close_item("completed");
      open_ = Open::message;
      phase_ = phase;
      source_item_ = item;
      item_id_ = fitting_item_id("msg_", part.item_id);
      contents_.clear();
      content_count_ = 0;
      tell_added([&] { write_message_item("in_progress"); });
    }
    kind_ = part.kind;
    content_open_ = true;
    text_.clear();
    annotations_.clear();
    annotation_count_ = 0;
    if (begin_event("response.content_part.added")) {
      write_place();
      write_content_place();
      out_ += ",\"part\":";
      write_content_part(out_, {});
      end_event();
    }
  }

  void close_content() {
    if (!content_open_) return;
    content_open_ = false;
    if (begin_event(kind_ == PartKind::refusal ? "response.refusal.done"
                                               : "response.output_text.done")) {
      write_place();
      write_content_place();
      out_ += kind_ == PartKind::refusal ? ",\"refusal\":\"" : ",\"text\":\"";
      out_ += text_;
      out_ += kind_ == PartKind::refusal ? "\"" : "\",\"logprobs\":[]";
      end_event();
    }
    if (begin_event("response.content_part.done")) {
      write_place();
      write_content_place();
      out_ += ",\"part\":";
      write_content_part(out_, text_);
      end_event();
    }
    if (!contents_.empty()) contents_ += ',';
    write_content_part(contents_, text_);
    ++content_count_;
  }

  void write_content_part(std::string& out, std::string_view text) {
    if (kind_ == PartKind::refusal) {
      out += R"({"type":"refusal","refusal":")";
      out += text;
      out += "\"}";
      return;
    }
    out += R"({"type":"output_text","text":")";
    out += text;
    out += R"(","annotations":[)";
    out += annotations_;
    out += R"(],"logprobs":[]})";
  }

  void write_message_item(std::string_view status) {
    item_ = R"({"id":")";
    item_ += item_id_;
    item_ += R"(","type":"message","status":")";
    item_ += status;
    item_ += R"(","role":"assistant","content":[)";
    item_ += contents_;
    item_ += ']';
    if (!phase_.empty()) {
      item_ += R"(,"phase":")";
      Text::plain(phase_).escape_to(item_);
      item_ += '"';
    }
    item_ += '}';
  }

  void open_reasoning(const PartStart& part) {
    open_ = Open::reasoning;
    redacted_ = part.redacted;
    item_id_ = fitting_item_id("rs_", part.item_id);
    text_.clear();
    seal_.clear();
    tell_added([&] { write_reasoning_item(); });
  }

  void write_reasoning_item() {
    item_ = R"({"id":")";
    item_ += item_id_;
    item_ += R"(","type":"reasoning","summary":[)";
    if (!text_.empty()) {
      item_ += R"({"type":"summary_text","text":")";
      item_ += text_;
      item_ += "\"}";
    }
    item_ += ']';
    if (!seal_.empty()) {
      item_ += R"(,"encrypted_content":")";
      item_ += seal_;
      item_ += '"';
    }
    item_ += '}';
  }

  void open_call(const PartStart& part) {
    const Translation::ToolAlias* alias = find_alias(context_.translation, part.name);
    name_.clear();
    namespace_.clear();
    if (alias != nullptr) {
      Text::plain(alias->name).escape_to(name_);
      Text::plain(alias->tool_namespace).escape_to(namespace_);
    } else {
      part.name.escape_to(name_);
      part.tool_namespace.escape_to(namespace_);
    }
    const bool custom_here = part.call_kind == CallKind::custom;
    const bool custom_asked = alias != nullptr && alias->kind == CallKind::custom;
    open_ = custom_here             ? Open::custom
            : custom_asked          ? Open::wrapped
            : is_tool_search(name_) ? Open::tool_search
                                    : Open::call;
    const bool custom = open_ == Open::custom || open_ == Open::wrapped;
    item_id_ = fitting_item_id(custom                       ? "ctc_"
                               : open_ == Open::tool_search ? "tsc_"
                                                            : "fc_",
                               part.item_id);
    call_id_.clear();
    const std::string id = part.call_id.empty()
                               ? made_id("call_", context_.reply_seed, output_index_)
                               : mapped_id(part.call_id, kCallIds);
    Text::plain(id).escape_to(call_id_);
    text_.clear();
    tell_added([&] { write_call_item("in_progress"); });
  }

  // Is `name` the client's own tool search, which its calls name by their type?
  bool is_tool_search(std::string_view name) const {
    if (name != kToolSearch || context_.request == nullptr) return false;
    return std::any_of(context_.request->tools.begin(), context_.request->tools.end(),
                       [](const Tool& tool) { return tool.type == kToolSearch; });
  }

  void write_call_item(std::string_view status) {
    item_ = R"({"id":")";
    item_ += item_id_;
    if (open_ == Open::tool_search) {
      item_ += R"(","type":"tool_search_call","execution":"client","status":")";
      item_ += status;
      item_ += R"(","call_id":")";
      item_ += call_id_;
      item_ += R"(","arguments":)";
      item_ += is_json_object(text_) ? std::string_view(text_) : "{}";
      item_ += '}';
      return;
    }
    const bool custom = open_ != Open::call;
    item_ += custom ? R"(","type":"custom_tool_call","status":")"
                    : R"(","type":"function_call","status":")";
    item_ += status;
    item_ += R"(","call_id":")";
    item_ += call_id_;
    if (!namespace_.empty()) {
      item_ += R"(","namespace":")";
      item_ += namespace_;
    }
    item_ += R"(","name":")";
    item_ += name_;
    item_ += custom ? R"(","input":")" : R"(","arguments":")";
    item_ += text_;
    item_ += "\"}";
  }

  void write_raw_item(JsonSlice raw) {
    item_.clear();
    compact_to(raw, item_);
    for (const std::string_view type :
         {"response.output_item.added", "response.output_item.done"}) {
      if (!begin_event(type)) break;
      out_ += ",\"output_index\":";
      write_number(output_index_);
      out_ += ",\"item\":";
      out_ += item_;
      end_event();
    }
    keep_item();
  }

  void close_item(std::string_view status) {
    switch (open_) {
      case Open::nothing:
      case Open::raw:
        return;
      case Open::message:
        close_content();
        write_message_item(status);
        break;
      case Open::reasoning:
        if (!text_.empty()) close_summary();
        write_reasoning_item();
        break;
      case Open::wrapped: {
        const std::string input = unwrapped_input(text_);
        text_.clear();
        Text::plain(input).escape_to(text_);
        if (!text_.empty())
          tell_piece("response.custom_tool_call_input.delta", Text::escaped(text_));
        close_call("response.custom_tool_call_input.done", "input");
        write_call_item(status);
        break;
      }
      case Open::custom:
        close_call("response.custom_tool_call_input.done", "input");
        write_call_item(status);
        break;
      case Open::tool_search:
        write_call_item(status);
        break;
      case Open::call:
        if (text_.find_first_not_of(" \t\r\n") == std::string::npos) {
          text_ = "{}";
          tell_piece("response.function_call_arguments.delta", Text::escaped(text_));
        }
        close_call("response.function_call_arguments.done", "arguments");
        write_call_item(status);
        break;
    }
    open_ = Open::nothing;
    if (begin_event("response.output_item.done")) {
      out_ += ",\"output_index\":";
      write_number(output_index_);
      out_ += ",\"item\":";
      out_ += item_;
      end_event();
    }
    keep_item();
  }

  void close_summary() {
    if (begin_event("response.reasoning_summary_text.done")) {
      write_place();
      out_ += R"(,"summary_index":0,"text":")";
      out_ += text_;
      out_ += '"';
      end_event();
    }
    if (begin_event("response.reasoning_summary_part.done")) {
      write_place();
      out_ += R"(,"summary_index":0,"part":{"type":"summary_text","text":")";
      out_ += text_;
      out_ += "\"}";
      end_event();
    }
  }

  void close_call(std::string_view type, std::string_view key) {
    if (!begin_event(type)) return;
    write_place();
    if (key == "arguments") {
      out_ += R"(,"name":")";
      out_ += name_;
      out_ += '"';
    }
    out_ += ",\"";
    out_ += key;
    out_ += "\":\"";
    out_ += text_;
    out_ += '"';
    end_event();
  }

  void keep_item() {
    if (!output_.empty()) output_ += ',';
    output_ += item_;
    ++output_index_;
  }

  template <typename Build>
  void tell_added(Build build) {
    build();
    if (!begin_event("response.output_item.added")) return;
    out_ += ",\"output_index\":";
    write_number(output_index_);
    out_ += ",\"item\":";
    out_ += item_;
    end_event();
  }

  std::string fitting_item_id(std::string_view prefix, Text id) const {
    const std::string_view bytes = id.bytes();
    const bool plain = bytes.size() <= 64 && bytes.find_first_of("\\\"") == std::string_view::npos;
    if (plain && bytes.substr(0, prefix.size()) == prefix) return std::string(bytes);
    return made_id(prefix, context_.reply_seed, 1 + output_index_);
  }

  // --- frames

  // Opens an event; false when nothing is streamed.
  bool begin_event(std::string_view type) {
    if (!streamed_) return false;
    out_ += "event: ";
    out_ += type;
    out_ += "\ndata: {\"type\":\"";
    out_ += type;
    out_ += "\",\"sequence_number\":";
    write_number(sequence_++);
    return true;
  }

  void end_event() { out_ += "}\n\n"; }

  void write_number(std::uint64_t value) {
    char digits[24];
    out_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  }

  void write_place() {
    out_ += ",\"item_id\":\"";
    out_ += item_id_;
    out_ += "\",\"output_index\":";
    write_number(output_index_);
  }

  void write_content_place() {
    out_ += ",\"content_index\":";
    write_number(content_count_);
  }

  void tell_piece(std::string_view type, Text delta) {
    if (!begin_event(type)) return;
    write_place();
    if (open_ == Open::message) write_content_place();
    if (open_ == Open::reasoning) out_ += ",\"summary_index\":0";
    out_ += ",\"delta\":\"";
    delta.escape_to(out_);
    out_ += '"';
    if (open_ == Open::message && kind_ == PartKind::text) out_ += ",\"logprobs\":[]";
    end_event();
  }

  // --- the response object

  // What the response repeats of its request, in one place and made once.
  void make_echo() {
    struct Row {
      std::string_view key, absent;
    };
    static constexpr std::array kRows{
        Row{"background", "false"},
        Row{"conversation", ""},  // empty: only where there is one
        Row{"instructions", "null"},
        Row{"max_output_tokens", "null"},
        Row{"metadata", "{}"},
        Row{"parallel_tool_calls", "true"},
        Row{"previous_response_id", "null"},
        Row{"reasoning", R"({"effort":null,"summary":null})"},
        Row{"service_tier", "\"default\""},
        Row{"store", "true"},
        Row{"temperature", "1.0"},
        Row{"text", R"({"format":{"type":"text"}})"},
        Row{"tool_choice", "\"auto\""},
        Row{"tools", "[]"},
        Row{"top_p", "1.0"},
        Row{"truncation", "\"disabled\""},
        Row{"user", "null"},
    };
    JsonWriter json(echo_);
    json.begin_object();
    for (const Row& row : kRows) {
      JsonSlice value = row.absent;
      if (context_.request != nullptr && context_.request->format == kFormat) {
        for (const auto& [key, given] : context_.request->members) {
          if (key == row.key && given != "null") value = given;
        }
      }
      if (value.empty()) continue;
      json.key(row.key);
      if (row.key == "conversation" && value.front() == '"') {
        json.begin_object().member_raw("id", value).end_object();
        continue;
      }
      compact_to(value, echo_);  // a line end would end the event's data line
    }
    echo_.erase(0, 1);
  }

  void write_response(std::string_view status, std::string_view incomplete, const Error* error) {
    JsonWriter json(out_);
    out_ += "{";
    json.member("id", std::string_view(id_)).member("object", "response");
    json.member("created_at", created_).member("status", status);
    if (error == nullptr) {
      json.member_null("error");
    } else {
      json.key("error").begin_object().member("code", failure_code(*error));
      json.member("message", std::string_view(error->message)).member("type", error_type(*error));
      json.member_null("param").end_object();
    }
    if (incomplete.empty()) {
      json.member_null("incomplete_details");
    } else {
      json.key("incomplete_details").begin_object().member("reason", incomplete).end_object();
    }
    json.member("model", std::string_view(model_));
    out_ += ",\"output\":[";
    if (status != "in_progress") out_ += output_;
    out_ += "],";
    out_ += echo_;
    if (status == "completed" || status == "incomplete") {
      write_usage(json);
    } else {
      json.member_null("usage");
    }
    out_ += '}';
  }

  void write_usage(JsonWriter& json) {
    const std::int64_t in = usage_.input.value_or(0), out = usage_.output.value_or(0);
    json.key("usage").begin_object().member("input_tokens", in);
    json.key("input_tokens_details").begin_object();
    json.member("cached_tokens", usage_.cached.value_or(0));
    json.member("cache_write_tokens", usage_.written.value_or(0)).end_object();
    json.member("output_tokens", out);
    json.key("output_tokens_details").begin_object();
    json.member("reasoning_tokens", usage_.reasoning.value_or(0)).end_object();
    json.member("total_tokens", in + out).end_object();
  }

  // The enum of response.error.code.
  static std::string_view failure_code(const Error& error) {
    if (error.kind == ErrorKind::rate_limited || error.http_status() == 429)
      return "rate_limit_exceeded";
    if (error.http_status() >= 400 && error.http_status() < 500) return "invalid_prompt";
    return "server_error";
  }

  const EncodeContext context_;
  const bool streamed_;
  bool started_ = false, ended_ = false;
  std::uint64_t sequence_ = 0;
  std::string id_, model_, echo_;
  std::int64_t created_ = 0;
  Usage usage_;

  Open open_ = Open::nothing;
  std::uint64_t output_index_ = 0;
  std::string item_id_, source_item_, phase_;  // of the open item
  std::string call_id_, name_, namespace_;     // of the open call, escaped
  std::string text_;                           // of the open part; escaped but for wrapped calls
  std::string seal_;                           // escaped
  bool redacted_ = false, content_open_ = false;
  PartKind kind_ = PartKind::text;
  std::string contents_, annotations_;  // JSON of what is done of the open message
  std::uint64_t content_count_ = 0, annotation_count_ = 0;
  std::string item_;    // the item being written
  std::string output_;  // all finished items, comma separated
};

}  // namespace

std::unique_ptr<ReplyEncoder> make_stream_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, true);
}

std::unique_ptr<ReplyEncoder> make_whole_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, false);
}

}  // namespace llm_proxy::openai_responses
