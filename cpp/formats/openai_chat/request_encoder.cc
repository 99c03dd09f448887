// OpenAI Chat Completions: writes the canonical request for an upstream.

#include "formats/openai_chat/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/losses.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/same_format.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/scan.h"
#include "json/writer.h"

namespace llm_proxy::openai_chat {

namespace {

// Writes a Request as a Chat body. One per call.
class RequestEncoder {
 public:
  RequestEncoder(const Request& request, Translation& translation, std::string& out)
      : request_(request),
        translation_(translation),
        json_(out),
        model_(upstream_model(request, translation)) {}

  Result<void> run() {
    if (keeps_format(request_, kFormat)) {
      write_again();
      return {};
    }
    if (Result<void> rest = lose_rest(request_, translation_); !rest) return rest;
    json_.begin_object();
    json_.member("model", model_);
    write_messages();
    write_tools();
    write_settings();
    json_.end_object();
    if (!refusal_.message.empty()) return std::move(refusal_);
    return {};
  }

 private:
  void lose(Loss::Class what, std::string_view field, std::string_view note = {}) {
    llm_proxy::lose(translation_, what, field, note);
  }
  void refuse(std::string_view field, std::string_view why) {
    if (translation_.view) return lose(Loss::Class::degrade, field);
    if (refusal_.message.empty()) refusal_ = refusal_of(field, why);
  }

  void write_again() {
    write_same_format(
        request_, "messages", /*foreign=*/false, json_,
        [this](JsonWriter& json) { json.member("model", model_); }, [](JsonSlice) {});
  }

  // --- messages

  void write_messages() {
    json_.key("messages").begin_array();
    const auto& messages = request_.messages;
    for (std::size_t i = 0; i < messages.size();) {
      // Chat has one message a turn of the assistant; Responses and Gemini may have several.
      std::size_t end = i + 1;
      const bool grouped = messages[i].role == Role::assistant || messages[i].role == Role::tool;
      while (grouped && end < messages.size() && messages[end].role == messages[i].role) ++end;
      switch (messages[i].role) {
        case Role::system:
        case Role::developer:
          write_system(messages[i]);
          break;
        case Role::assistant:
          write_assistant(i, end);
          break;
        case Role::user:
        case Role::tool:
          write_user(i, end);
          break;
      }
      i = end;
    }
    json_.end_array();
  }

  void write_system(const Message& message) {
    std::string joined;
    for (const Part& part : message.parts) {
      if (const auto* text = std::get_if<TextPart>(&part); text != nullptr && !text->text.empty()) {
        if (!joined.empty()) joined += "\\n\\n";
        text->text.escape_to(joined);
        if (!text->cache_control.empty()) lose(Loss::Class::degrade, "cache_control");
      }
    }
    if (joined.empty()) return;
    json_.begin_object();
    json_.member("role", translation_.quirks.developer_role ? "developer" : "system");
    json_.member("content", Text::escaped(joined)).end_object();
  }

  // A run of one assistant turn: text, calls and thinking of all its messages in one.
  void write_assistant(std::size_t begin, std::size_t end) {
    std::string content, refusal, reasoning;
    bool has_calls = false;
    JsonSlice details;
    Text sealed_details;
    for (std::size_t i = begin; i < end; ++i) {
      bool separate = !content.empty();
      for (const Part& part : request_.messages[i].parts) {
        if (const auto* text = std::get_if<TextPart>(&part)) {
          if (separate && !text->text.empty()) content += "\\n\\n";
          separate &= text->text.empty();
          text->text.escape_to(content);
        } else if (const auto* said = std::get_if<RefusalPart>(&part)) {
          said->text.escape_to(refusal);
        } else if (const auto* thinking = std::get_if<ThinkingPart>(&part)) {
          thinking->text.escape_to(reasoning);
          if (!thinking->details.empty()) details = thinking->details;
          if (thinking->seal.maker == kFormat && !thinking->seal.empty()) {
            sealed_details = thinking->seal.token;
          } else if (!thinking->seal.empty()) {
            lose(Loss::Class::drop, "thinking signature");
          }
        } else if (std::holds_alternative<ToolCallPart>(part)) {
          has_calls = true;
        } else if (std::holds_alternative<MediaPart>(part)) {
          lose(Loss::Class::degrade, "media of an assistant message");
        } else if (const auto* raw = std::get_if<RawPart>(&part)) {
          lose(Loss::Class::degrade, raw->type);
        }
      }
    }
    const bool carries = (translation_.quirks.reasoning_content && !reasoning.empty()) ||
                         (translation_.quirks.reasoning_details && !sealed_details.empty());
    if (!reasoning.empty() && !carries) lose(Loss::Class::drop, "thinking");
    if (content.empty() && refusal.empty() && !has_calls && !carries) return;
    json_.begin_object().member("role", "assistant");
    if (content.empty() && (has_calls || !refusal.empty())) {
      json_.member_null("content");
    } else {
      json_.member("content", Text::escaped(content));
    }
    if (!refusal.empty()) json_.member("refusal", Text::escaped(refusal));
    if (translation_.quirks.reasoning_content && !reasoning.empty()) {
      json_.member("reasoning_content", Text::escaped(reasoning));
    }
    if (translation_.quirks.reasoning_details) {
      const std::string sealed = sealed_details.decode();
      if (!sealed.empty() && JsonReader(sealed).kind() == JsonKind::array) details = sealed;
      JsonReader whole(details);
      if (!details.empty() && whole.skip() && whole.finish()) {
        json_.member_raw("reasoning_details", details);
      }
    }
    if (has_calls) write_calls(begin, end);
    json_.end_object();
  }

  void write_calls(std::size_t begin, std::size_t end) {
    json_.key("tool_calls").begin_array();
    for (std::size_t i = begin; i < end; ++i) {
      for (const Part& part : request_.messages[i].parts) {
        const auto* call = std::get_if<ToolCallPart>(&part);
        if (call == nullptr) continue;
        json_.begin_object();
        json_.member("id", std::string_view(call_id(call->id))).member("type", "function");
        json_.key("function").begin_object();
        json_.member("name", std::string_view(tool_name(*call)));
        json_.key("arguments").begin_string();
        append_arguments_text(*call, json_.out());
        json_.end_string().end_object().end_object();
      }
    }
    json_.end_array();
  }

  std::string call_id(Text id) const {
    IdRule rule;
    rule.nine_alphanumeric = translation_.quirks.nine_char_ids;
    return mapped_id(id, rule);
  }
  std::string tool_name(const ToolCallPart& call) {
    return upstream_tool_name(translation_, call.name, call.tool_namespace, call.kind, 64);
  }

  // A user message or a run of tool messages: results first, one message each; then, in one user
  // message, what else there is, media of the results included (Chat has no place for them in a
  // result).
  void write_user(std::size_t begin, std::size_t end) {
    std::vector<const Part*> rest;
    for (std::size_t i = begin; i < end; ++i) {
      for (const Part& part : request_.messages[i].parts) {
        if (const auto* result = std::get_if<ToolResultPart>(&part)) {
          write_result(*result, rest);
        } else {
          rest.push_back(&part);
        }
      }
    }
    std::size_t texts = 0;
    std::size_t usable = 0;
    for (const Part* part : rest) {
      const auto* text = std::get_if<TextPart>(part);
      texts += text != nullptr && !text->text.empty();
      usable += text != nullptr ? !text->text.empty() : is_usable(*part);
    }
    if (usable == 0) return;
    json_.begin_object().member("role", "user");
    if (request_.format == kFormat) json_.optional("name", request_.messages[begin].name);
    if (texts == 1 && usable == 1) {
      for (const Part* part : rest) {
        if (const auto* text = std::get_if<TextPart>(part);
            text != nullptr && !text->text.empty()) {
          json_.member("content", text->text);
          if (!text->cache_control.empty()) lose(Loss::Class::degrade, "cache_control");
        }
      }
    } else {
      json_.key("content").begin_array();
      for (const Part* part : rest) write_part(*part);
      json_.end_array();
    }
    json_.end_object();
  }

  // Has this part, which is no text, a place in a user message?
  static bool is_usable(const Part& part) {
    const auto* raw = std::get_if<RawPart>(&part);
    if (raw != nullptr) return raw->type == "tool_reference";
    return !std::holds_alternative<ThinkingPart>(part);
  }

  void write_result(const ToolResultPart& result, std::vector<const Part*>& moved) {
    if (result.is_error) lose(Loss::Class::degrade, "is_error");
    if (!result.cache_control.empty()) lose(Loss::Class::degrade, "cache_control");
    std::vector<std::string> texts;
    bool has_media = false;
    for (const Part& part : result.content) {
      if (std::string text = result_text(part); !text.empty()) {
        texts.push_back(std::move(text));
      } else if (const auto* raw = std::get_if<RawPart>(&part)) {
        if (raw->type == "tool_reference") {
          moved.push_back(&part);
        } else {
          texts.push_back(as_json(*raw));
        }
      } else if (!std::holds_alternative<TextPart>(part)) {
        has_media = true;
        moved.push_back(&part);
      }
    }
    if (texts.empty() && !result.response_object.empty()) {
      texts.push_back(response_text(result.response_object));
    }
    if (has_media) lose(Loss::Class::degrade, "media of a tool result", "moved to a user message");
    if (texts.empty() && has_media) texts.emplace_back("See the next message.");
    json_.begin_object().member("role", "tool");
    json_.member("tool_call_id", std::string_view(call_id(result.call_id)));
    if (texts.size() <= 1) {
      json_.member("content", Text::escaped(texts.empty() ? std::string_view() : texts.front()));
    } else {
      json_.key("content").begin_array();
      for (const std::string& text : texts) {
        json_.begin_object()
            .member("type", "text")
            .member("text", Text::escaped(text))
            .end_object();
      }
      json_.end_array();
    }
    json_.end_object();
  }

  // A block of a tool result that only its format knows, as JSON text.
  std::string as_json(const RawPart& raw) {
    std::string compact, escaped;
    lose(Loss::Class::degrade, raw.type, "sent as JSON text");
    compact_to(raw.json, compact);
    Text::plain(compact).escape_to(escaped);
    return escaped;
  }

  void write_part(const Part& part) {
    if (const auto* text = std::get_if<TextPart>(&part)) {
      if (text->text.empty()) return;
      if (!text->cache_control.empty()) lose(Loss::Class::degrade, "cache_control");
      json_.begin_object().member("type", "text").member("text", text->text).end_object();
    } else if (const auto* media = std::get_if<MediaPart>(&part)) {
      write_media(*media);
    } else if (const auto* refusal = std::get_if<RefusalPart>(&part)) {
      json_.begin_object().member("type", "text").member("text", refusal->text).end_object();
    } else if (const auto* raw = std::get_if<RawPart>(&part)) {
      lose(Loss::Class::degrade, raw->type);
      if (raw->type != "tool_reference") return;
      json_.begin_object().member("type", "text").key("text").begin_string();
      json_.append(std::string_view("Tool loaded: "));
      json_.append(string_member(raw->json, "tool_name")).end_string().end_object();
    }
  }

  void write_data_url(const MediaPart& media) {
    json_.begin_string().append("data:").append(media.mime_type).append(";base64,");
    json_.append(media.data).end_string();
  }

  void write_media(const MediaPart& media) {
    if (media.source == MediaPart::Source::file_id) {
      return refuse("file_id", "belongs to one provider's account and cannot be translated");
    }
    if (media.source == MediaPart::Source::text) {
      json_.begin_object().member("type", "text").member("text", media.data).end_object();
      return;
    }
    const bool is_url = media.source == MediaPart::Source::url;
    switch (media.kind) {
      case MediaKind::image:
        json_.begin_object().member("type", "image_url").key("image_url").begin_object();
        json_.key("url");
        is_url ? static_cast<void>(json_.string(media.data)) : write_data_url(media);
        json_.optional("detail", media.detail).end_object().end_object();
        return;
      case MediaKind::document:
        if (is_url) return refuse("document", "by URL has no place in Chat Completions");
        json_.begin_object().member("type", "file").key("file").begin_object();
        json_.member("filename",
                     media.filename.empty() ? Text::plain("document.pdf") : media.filename);
        json_.key("file_data");
        write_data_url(media);
        json_.end_object().end_object();
        return;
      case MediaKind::audio: {
        if (is_url) return refuse("audio", "by URL has no place in Chat Completions");
        const std::string mime = media.mime_type.decode();
        json_.begin_object().member("type", "input_audio").key("input_audio").begin_object();
        json_.member("data", media.data);
        const bool wav = mime.find("wav") != std::string::npos;
        json_.member("format", wav ? "wav" : "mp3").end_object().end_object();
        return;
      }
      case MediaKind::video:
        return refuse("video", "has no place in Chat Completions");
    }
  }

  // --- tools

  void write_tools() {
    std::size_t written = 0;
    for (const Tool& tool : request_.tools) {
      if (tool.kind == Tool::Kind::server && may_be_left_out(request_, tool)) {
        lose(Loss::Class::degrade, "server tool", tool.type);
        continue;
      }
      if (tool.kind == Tool::Kind::server) {
        refuse("tools", "holds a tool that its own provider runs (" +
                            std::string(tool.type.substr(0, 60)) + ")");
        continue;
      }
      if (!is_offered(tool)) continue;
      if (written++ == 0) json_.key("tools").begin_array();
      const bool custom = tool.kind == Tool::Kind::custom;
      json_.begin_object().member("type", "function").key("function").begin_object();
      json_.member("name", std::string_view(upstream_tool_name(
                               translation_, tool.name, tool.tool_namespace,
                               custom ? CallKind::custom : CallKind::function, 64)));
      json_.optional("description", tool.description);
      json_.optional_raw("parameters", custom ? kWrappedInputSchema : tool.schema);
      if (tool.strict && !custom) json_.member_bool("strict", *tool.strict);
      json_.end_object().end_object();
      if (!tool.cache_control.empty()) lose(Loss::Class::degrade, "cache_control");
      if (custom) lose(Loss::Class::degrade, "custom tool", "wrapped as a function");
    }
    if (written == 0) return;
    json_.end_array();
    write_tool_choice();
    if (request_.parallel_tool_calls) {
      json_.member_bool("parallel_tool_calls", *request_.parallel_tool_calls);
    }
  }

  // The upstream name of a tool the client named.
  std::string chosen_name(Text name) {
    const std::string plain = name.decode();
    for (const Tool& tool : request_.tools) {
      if (!(tool.name == plain)) continue;
      return upstream_tool_name(
          translation_, tool.name, tool.tool_namespace,
          tool.kind == Tool::Kind::custom ? CallKind::custom : CallKind::function, 64);
    }
    return plain;
  }

  void write_tool_choice() {
    if (!request_.tool_choice) return;
    const ToolChoice& choice = *request_.tool_choice;
    const auto write_function = [&](Text name) {
      json_.begin_object().member("type", "function").key("function").begin_object();
      json_.member("name", std::string_view(chosen_name(name))).end_object().end_object();
    };
    json_.key("tool_choice");
    switch (choice.mode) {
      case ToolChoice::Mode::automatic:
        json_.string("auto");
        return;
      case ToolChoice::Mode::none:
        json_.string("none");
        return;
      case ToolChoice::Mode::required:
        json_.string("required");
        return;
      case ToolChoice::Mode::one:
        write_function(choice.names.front());
        return;
      case ToolChoice::Mode::subset:
        json_.begin_object().member("type", "allowed_tools").key("allowed_tools").begin_object();
        json_.member("mode", choice.subset_required ? "required" : "auto");
        json_.key("tools").begin_array();
        for (const Text name : choice.names) write_function(name);
        json_.end_array().end_object().end_object();
        return;
    }
  }

  // --- settings

  void write_settings() {
    const Sampling& sampling = request_.sampling;
    if (sampling.max_output_tokens) {
      json_.member(
          translation_.quirks.max_completion_tokens ? "max_completion_tokens" : "max_tokens",
          *sampling.max_output_tokens);
    }
    json_.optional_raw("temperature", sampling.temperature);
    json_.optional_raw("top_p", sampling.top_p);
    if (!sampling.top_k.empty()) lose(Loss::Class::degrade, "top_k");
    json_.optional_raw("seed", sampling.seed);
    json_.optional_raw("presence_penalty", sampling.presence_penalty);
    json_.optional_raw("frequency_penalty", sampling.frequency_penalty);
    json_.optional_raw("logit_bias", sampling.logit_bias);
    if (sampling.logprobs == "true" || sampling.logprobs == "false") {
      json_.member_raw("logprobs", sampling.logprobs);
      json_.optional_raw("top_logprobs", sampling.top_logprobs);
    }
    if (sampling.n && *sampling.n > 1) {
      refuse("n", "above 1 cannot be translated");
    }
    if (!sampling.stop.empty()) {
      json_.key("stop").begin_array();
      for (const Text stop : sampling.stop) json_.string(stop);
      json_.end_array();
    }
    if (const auto effort = effort_of(request_.reasoning)) {
      json_.member("reasoning_effort", word(*effort));
    }
    json_.optional("verbosity", request_.verbosity);
    write_output_format();
    if (!request_.user.empty()) {
      if (request_.user.decode().size() <= 64) {
        json_.member("user", request_.user);
      } else {
        lose(Loss::Class::drop, "user");
      }
    }
    if (request_.stream) {
      json_.member_bool("stream", true);
      json_.key("stream_options").begin_object().member_bool("include_usage", true).end_object();
    }
  }

  void write_output_format() {
    if (!request_.output || request_.output->kind == OutputFormat::Kind::text) return;
    const OutputFormat& format = *request_.output;
    json_.key("response_format").begin_object();
    if (format.kind == OutputFormat::Kind::json || format.schema.empty()) {
      json_.member("type", "json_object");
    } else {
      json_.member("type", "json_schema").key("json_schema").begin_object();
      json_.member("name", format.name.empty() ? Text::plain("response") : format.name);
      json_.optional("description", format.description);
      json_.member_raw("schema", format.schema);
      if (format.strict) json_.member_bool("strict", *format.strict);
      json_.end_object();
    }
    json_.end_object();
  }

  const Request& request_;
  Translation& translation_;
  JsonWriter json_;
  const Text model_;
  Error refusal_;
};

}  // namespace

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

}  // namespace llm_proxy::openai_chat
