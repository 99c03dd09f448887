#include "formats/openai_chat.h"

#include <algorithm>
#include <array>

#include "formats/common.h"
#include "json/reader.h"
#include "json/scan.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

constexpr WireFormat kFormat = WireFormat::openai_chat;

// ================================================================================ client → hub

// Builds a Request from a Chat body. One per call.
class RequestDecoder {
 public:
  explicit RequestDecoder(std::string_view body) : json_(body) {}

  Result<Request> run() {
    std::string_view key;
    bool has_messages = false;
    request_.format = kFormat;
    if (!json_.begin_object()) return json_.error(ErrorKind::malformed_request);
    while (json_.next_key(key)) {
      const std::size_t start = json_.position();
      // A key with escapes lives in the reader's scratch: keep a copy.
      const std::string_view name = request_.own(std::string(key)).bytes();
      if (json_.null()) {
        request_.members.emplace_back(name, json_.since(start));
        continue;
      }
      if (name == "messages") {
        has_messages = true;
        request_.messages.clear();
        read_messages();
      } else if (!read_setting(name)) {
        JsonSlice value;
        json_.value(value);
        request_.rest.emplace_back(name, value);
      }
      request_.members.emplace_back(name, json_.since(start));
    }
    if (!json_.finish()) return json_.error(ErrorKind::malformed_request);
    if (!has_messages) return malformed("'messages' is required and must be an array.", "messages");
    return std::move(request_);
  }

 private:
  bool read_setting(std::string_view key) {
    Sampling& sampling = request_.sampling;
    const std::array numbers{
        std::pair{std::string_view("temperature"), &sampling.temperature},
        std::pair{std::string_view("top_p"), &sampling.top_p},
        std::pair{std::string_view("top_k"), &sampling.top_k},
        std::pair{std::string_view("seed"), &sampling.seed},
        std::pair{std::string_view("presence_penalty"), &sampling.presence_penalty},
        std::pair{std::string_view("frequency_penalty"), &sampling.frequency_penalty},
        std::pair{std::string_view("top_logprobs"), &sampling.top_logprobs},
    };
    for (const auto& [name, slot] : numbers) {
      if (key == name) return json_.number(*slot), true;
    }
    if (key == "model") return json_.string(request_.model), true;
    if (key == "stream") return json_.boolean(request_.stream), true;
    if (key == "stream_options") return read_stream_options(), true;
    if (key == "max_completion_tokens") return read_limit(true), true;
    if (key == "max_tokens") return read_limit(false), true;
    if (key == "n") return read_integer(sampling.n), true;
    if (key == "stop") return read_stop(), true;
    if (key == "logit_bias") return json_.object(sampling.logit_bias), true;
    if (key == "logprobs") return json_.value(sampling.logprobs), true;
    if (key == "tools") return read_tools(), true;
    if (key == "functions") return read_functions(), true;
    if (key == "tool_choice" || key == "function_call") return read_tool_choice(), true;
    if (key == "parallel_tool_calls") {
      bool parallel = true;
      if (json_.boolean(parallel)) request_.parallel_tool_calls = parallel;
      return true;
    }
    if (key == "response_format") return read_response_format(), true;
    if (key == "reasoning_effort") return read_effort(), true;
    if (key == "reasoning") return read_reasoning(), true;
    if (key == "verbosity") return json_.string(request_.verbosity), true;
    if (key == "user" || key == "safety_identifier") return json_.string(request_.user), true;
    return false;
  }

  void read_integer(std::optional<std::int64_t>& out) {
    std::int64_t value = 0;
    if (json_.integer(value)) out = value;
  }

  // max_completion_tokens wins over max_tokens, whichever comes first.
  void read_limit(bool newer) {
    std::int64_t limit = 0;
    if (!json_.integer(limit)) return;
    if (newer || !newer_limit_) request_.sampling.max_output_tokens = limit;
    newer_limit_ |= newer;
  }

  void read_stream_options() {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "include_usage" && json_.kind() == JsonKind::boolean) {
        json_.boolean(request_.include_usage);
      }
    }
  }

  void read_stop() {
    Text stop;
    request_.sampling.stop.clear();
    if (json_.kind() == JsonKind::string) {
      if (json_.string(stop)) request_.sampling.stop.push_back(stop);
    } else if (json_.begin_array()) {
      while (json_.next_item()) {
        if (json_.string(stop)) request_.sampling.stop.push_back(stop);
      }
    }
  }

  void read_effort() {
    Text effort;
    if (!json_.string(effort)) return;
    request_.reasoning.effort = effort_named(effort);
    // Groq's "default", and words of tomorrow.
    if (!request_.reasoning.effort) request_.reasoning.effort = Reasoning::Effort::medium;
  }

  // OpenRouter's {effort, max_tokens, enabled, exclude}.
  void read_reasoning() {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "effort" && json_.kind() == JsonKind::string) {
        read_effort();
      } else if (key == "max_tokens" && json_.kind() == JsonKind::number) {
        read_integer(request_.reasoning.budget_tokens);
      } else if (key == "enabled" && json_.kind() == JsonKind::boolean) {
        bool enabled = false;
        if (json_.boolean(enabled) && enabled) request_.reasoning.adaptive = true;
      }
    }
  }

  // --- tools

  void read_function(Tool& tool) {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (json_.null()) continue;
      if (key == "name") {
        json_.string(tool.name);
      } else if (key == "description") {
        json_.string(tool.description);
      } else if (key == "parameters") {
        json_.object(tool.schema);
      } else if (key == "strict") {
        bool strict = false;
        if (json_.boolean(strict)) tool.strict = strict;
      }
    }
  }

  void read_tools() {
    request_.tools.clear();
    if (!json_.begin_array()) return;
    while (json_.next_item()) {
      const std::size_t start = json_.position();
      Tool tool;
      Text type = Text::plain("function");
      std::string_view key;
      bool known = false;
      if (!json_.begin_object()) return;
      while (json_.next_key(key)) {
        if (key == "type") {
          json_.string(type);
        } else if (key == "function" || key == "custom") {
          known = true;
          read_function(tool);
        } else if (key == "cache_control") {
          json_.value(tool.cache_control);
        }
      }
      tool.type = request_.unescaped(type).bytes();
      tool.kind = !known             ? Tool::Kind::server
                  : type == "custom" ? Tool::Kind::custom
                                     : Tool::Kind::function;
      if (known && tool.name.empty()) {
        json_.fail("has a tool without a name");
        return;
      }
      tool.source = json_.since(start);
      tool.owner = kFormat;
      request_.tools.push_back(tool);
    }
  }

  void read_functions() {
    if (!json_.begin_array()) return;
    while (json_.next_item()) {
      Tool tool;
      tool.type = "function";
      read_function(tool);
      request_.tools.push_back(tool);
    }
  }

  void read_tool_choice() {
    ToolChoice choice;
    if (json_.kind() == JsonKind::string) {
      Text word;
      if (!json_.string(word)) return;
      choice.mode = word == "none"                        ? ToolChoice::Mode::none
                    : word == "required" || word == "any" ? ToolChoice::Mode::required
                                                          : ToolChoice::Mode::automatic;
      request_.tool_choice = choice;
      return;
    }
    JsonSlice object;
    if (!json_.object(object)) return;
    JsonSlice named = object;
    for (const std::string_view key : {"function", "custom"}) {
      if (const JsonSlice inner = member(object, key); !inner.empty()) named = inner;
    }
    if (const Text name = string_member(named, "name"); !name.empty()) {
      choice.mode = ToolChoice::Mode::one;
      choice.names.push_back(name);
    } else if (const JsonSlice allowed = member(object, "allowed_tools"); !allowed.empty()) {
      choice.mode = ToolChoice::Mode::subset;
      choice.subset_required = string_member(allowed, "mode") == "required";
      JsonReader tools(member(allowed, "tools"));
      JsonSlice tool;
      if (tools.begin_array()) {
        while (tools.next_item() && tools.value(tool)) {
          Text name = string_member(member(tool, "function"), "name");
          if (name.empty()) name = string_member(member(tool, "custom"), "name");
          if (!name.empty()) choice.names.push_back(name);
        }
      }
    } else {
      json_.fail("names no tool");
      return;
    }
    request_.tool_choice = std::move(choice);
  }

  void read_response_format() {
    JsonSlice object;
    if (!json_.object(object)) return;
    OutputFormat format;
    const Text type = string_member(object, "type");
    if (type == "json_object") {
      format.kind = OutputFormat::Kind::json;
    } else if (type == "json_schema") {
      const JsonSlice schema = member(object, "json_schema");
      format.kind = OutputFormat::Kind::json_schema;
      format.name = string_member(schema, "name");
      format.description = string_member(schema, "description");
      format.schema = member(schema, "schema");
      if (const JsonSlice strict = member(schema, "strict");
          strict == "true" || strict == "false") {
        format.strict = strict == "true";
      }
    }
    request_.output = format;
  }

  // --- messages

  void read_messages() {
    if (!json_.begin_array()) return;
    while (json_.next_item()) read_message();
  }

  struct MessageFields {
    Text role, name, call_id, refusal, reasoning;
    std::vector<Part> content;
    std::vector<Part> calls;
    JsonSlice details;
  };

  void read_message() {
    const std::size_t start = json_.position();
    MessageFields fields;
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (json_.null()) continue;
      if (key == "role") {
        json_.string(fields.role);
      } else if (key == "content") {
        read_content(fields.content);
      } else if (key == "name") {
        json_.string(fields.name);
      } else if (key == "tool_call_id") {
        json_.string(fields.call_id);
      } else if (key == "tool_calls") {
        read_calls(fields.calls);
      } else if (key == "function_call") {
        read_legacy_call(fields.calls);
      } else if (key == "refusal") {
        json_.string(fields.refusal);
      } else if (key == "reasoning_content") {
        json_.maybe_string(fields.reasoning);
      } else if (key == "reasoning") {
        if (fields.reasoning.empty()) json_.maybe_string(fields.reasoning);
      } else if (key == "reasoning_details") {
        json_.value(fields.details);
      }
    }
    if (json_.failed()) return;
    add_message(std::move(fields), json_.since(start));
  }

  void add_message(MessageFields fields, JsonSlice source) {
    constexpr std::array<std::pair<std::string_view, Role>, 6> kRoles{
        {{"system", Role::system},
         {"developer", Role::developer},
         {"user", Role::user},
         {"assistant", Role::assistant},
         {"tool", Role::tool},
         {"function", Role::tool}}};
    const auto row = std::find_if(kRoles.begin(), kRoles.end(),
                                  [&](const auto& each) { return fields.role == each.first; });
    if (row == kRoles.end()) {
      json_.fail("has a message whose role is none of system, developer, user, assistant, tool");
      return;
    }
    Message message;
    message.role = row->second;
    message.name = fields.name;
    message.source = source;
    if (message.role == Role::tool) {
      ToolResultPart result;
      result.call_id = fields.role == "function" ? legacy_call_ : fields.call_id;
      result.name = fields.name;
      result.content = std::move(fields.content);
      message.parts.emplace_back(std::move(result));
    } else {
      if (message.role == Role::assistant) add_thinking(fields, message.parts);
      for (Part& part : fields.content) message.parts.push_back(std::move(part));
      if (!fields.refusal.empty()) message.parts.emplace_back(RefusalPart{fields.refusal});
      for (Part& part : fields.calls) message.parts.push_back(std::move(part));
    }
    request_.messages.push_back(std::move(message));
  }

  // reasoning_content and reasoning_details. Entries in a format of ours hold the seals of other
  // makers, each with the length of its share of the text; entries of anybody else go back as they
  // came, with the first block.
  void add_thinking(const MessageFields& fields, std::vector<Part>& parts) {
    std::string text = fields.reasoning.decode();
    const std::size_t first = parts.size();
    JsonReader details(fields.details);
    JsonSlice entry;
    if (!fields.details.empty() && details.kind() == JsonKind::array && details.begin_array()) {
      while (details.next_item() && details.value(entry)) {
        const auto maker = wire_format_named(string_member(entry, "format").decode());
        if (!maker) continue;
        ThinkingPart thinking;
        thinking.seal.maker = *maker;
        thinking.seal.token = string_member(entry, "signature");
        thinking.seal.item_id = string_member(entry, "id");
        if (thinking.seal.token.empty()) {
          thinking.seal.token = string_member(entry, "data");
          thinking.redacted = *maker == WireFormat::anthropic_messages;
        }
        std::int64_t length = 0;
        if (JsonReader number(member(entry, "length")); number.maybe_integer(length)) {
          const auto share = std::min<std::size_t>(length < 0 ? 0 : length, text.size());
          thinking.text = request_.own(text.substr(0, share));
          text.erase(0, share);
        }
        parts.emplace_back(thinking);
      }
    }
    const bool ours = parts.size() > first;
    if (!text.empty() || (!fields.details.empty() && !ours)) {
      ThinkingPart thinking;
      thinking.text = ours ? request_.own(text) : fields.reasoning;
      if (!ours) thinking.details = fields.details;
      parts.emplace_back(thinking);
    }
  }

  void read_content(std::vector<Part>& parts) {
    parts.clear();
    Text text;
    if (json_.kind() == JsonKind::string) {
      if (json_.string(text) && !text.empty()) parts.emplace_back(TextPart{text});
    } else if (json_.kind() == JsonKind::array) {
      json_.begin_array();
      while (json_.next_item()) read_part(parts);
    } else {
      json_.fail("must be a string or an array of parts");
    }
  }

  // A URL as string or {url, detail}.
  void read_url(MediaPart& media) {
    std::string_view key;
    if (json_.kind() == JsonKind::string) {
      json_.string(media.data);
    } else if (json_.begin_object()) {
      while (json_.next_key(key)) {
        if (key == "url") json_.string(media.data);
        if (key == "detail") json_.maybe_string(media.detail);
      }
    }
    media.source = MediaPart::Source::url;
    take_data_url(media);
  }

  void take_data_url(MediaPart& media) {
    media.data = request_.unescaped(media.data);
    if (const auto split = split_data_url(media.data)) {
      media.data = split->data;
      media.mime_type = split->mime_type;
      media.source = split->base64 ? MediaPart::Source::base64 : MediaPart::Source::text;
    }
  }

  void read_audio(MediaPart& media) {
    std::string_view key;
    if (json_.kind() == JsonKind::string) {
      json_.string(media.data);
    } else if (json_.begin_object()) {
      Text format;
      while (json_.next_key(key)) {
        if (key == "data") json_.string(media.data);
        if (key == "format") json_.maybe_string(format);
      }
      media.mime_type = request_.own("audio/" + format.decode());
    }
    media.source = MediaPart::Source::base64;
  }

  void read_file(MediaPart& media) {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (json_.null()) continue;
      if (key == "file_data") {
        json_.string(media.data);
        media.source = MediaPart::Source::base64;
        take_data_url(media);
      } else if (key == "filename") {
        json_.string(media.filename);
      } else if (key == "file_id") {
        json_.string(media.data);
        media.source = MediaPart::Source::file_id;
      }
    }
  }

  // Mistral's {type: thinking, thinking: [{type: text, text}]}.
  Text thinking_text(JsonSlice thinking) {
    if (thinking.size() >= 2 && thinking.front() == '"') {
      return Text::escaped(thinking.substr(1, thinking.size() - 2));
    }
    std::string joined;
    JsonReader items(thinking);
    JsonSlice item;
    if (items.kind() == JsonKind::array && items.begin_array()) {
      while (items.next_item() && items.value(item)) string_member(item, "text").decode_to(joined);
    }
    return request_.own(std::move(joined));
  }

  void read_part(std::vector<Part>& parts) {
    const std::size_t start = json_.position();
    Text type, text, refusal;
    MediaPart media;
    JsonSlice cache_control, thinking;
    std::string_view key;
    if (json_.kind() == JsonKind::string) {
      if (json_.string(text) && !text.empty()) parts.emplace_back(TextPart{text});
      return;
    }
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (json_.null()) continue;
      if (key == "type") {
        json_.string(type);
      } else if (key == "text") {
        json_.string(text);
      } else if (key == "refusal") {
        json_.string(refusal);
      } else if (key == "image_url" || key == "document_url" || key == "video_url") {
        media.kind = key == "image_url"      ? MediaKind::image
                     : key == "document_url" ? MediaKind::document
                                             : MediaKind::video;
        read_url(media);
      } else if (key == "input_audio") {
        media.kind = MediaKind::audio;
        read_audio(media);
      } else if (key == "file") {
        media.kind = MediaKind::document;
        read_file(media);
      } else if (key == "thinking") {
        json_.value(thinking);
      } else if (key == "cache_control") {
        json_.value(cache_control);
      }
    }
    if (json_.failed()) return;
    if (type == "text") {
      if (!text.empty()) parts.emplace_back(TextPart{text, cache_control, {}, {}});
    } else if (type == "refusal") {
      if (!refusal.empty()) parts.emplace_back(RefusalPart{refusal});
    } else if (type == "thinking") {
      ThinkingPart part;
      part.text = thinking_text(thinking);
      parts.emplace_back(part);
    } else if (!media.data.empty()) {
      media.cache_control = cache_control;
      parts.emplace_back(media);
    } else {
      parts.emplace_back(RawPart{kFormat, request_.unescaped(type).bytes(), json_.since(start)});
    }
  }

  void read_call_function(ToolCallPart& call) {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (json_.null()) continue;
      if (key == "name") {
        json_.string(call.name);
      } else if (key == "input") {
        json_.string(call.arguments_text);
      } else if (key == "arguments") {
        if (json_.kind() == JsonKind::object) {
          json_.object(call.arguments_object);
        } else {
          json_.string(call.arguments_text);
        }
      }
    }
  }

  void read_calls(std::vector<Part>& calls) {
    if (!json_.begin_array()) return;
    while (json_.next_item()) {
      ToolCallPart call;
      std::string_view key;
      if (!json_.begin_object()) return;
      while (json_.next_key(key)) {
        if (key == "id") {
          json_.maybe_string(call.id);
        } else if (key == "function") {
          read_call_function(call);
        } else if (key == "custom") {
          call.kind = CallKind::custom;
          read_call_function(call);
        }
      }
      calls.emplace_back(call);
    }
  }

  // Legacy function_call has no id: call and result get one from the place of the call.
  void read_legacy_call(std::vector<Part>& calls) {
    ToolCallPart call;
    read_call_function(call);
    legacy_call_ = request_.own(made_id("call_", "function_call", request_.messages.size()));
    call.id = legacy_call_;
    calls.emplace_back(call);
  }

  JsonReader json_;
  Request request_;
  Text legacy_call_;
  bool newer_limit_ = false;
};

Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run();
}

// ============================================================================== hub → upstream

// Writes a Request as a Chat body. One per call.
class RequestEncoder {
 public:
  RequestEncoder(const Request& request, Translation& translation, std::string& out)
      : request_(request), translation_(translation), json_(out) {}

  Result<void> run() {
    if (request_.format == kFormat && !request_.members.empty()) {
      write_again();
      return {};
    }
    if (Result<void> rest = lose_rest(request_, translation_); !rest) return rest;
    json_.begin_object();
    json_.member("model", model());
    write_messages();
    write_tools();
    write_settings();
    json_.end_object();
    if (!refusal_.message.empty()) return std::move(refusal_);
    return {};
  }

 private:
  Text model() const {
    return translation_.upstream_model.empty() ? request_.model
                                               : Text::plain(translation_.upstream_model);
  }
  void lose(Loss::Class what, std::string_view field, std::string_view note = {}) {
    llm_proxy::lose(translation_, what, field, note);
  }
  void refuse(std::string_view field, std::string_view why) {
    if (translation_.view) return lose(Loss::Class::degrade, field);
    if (refusal_.message.empty()) refusal_ = refusal_of(field, why);
  }

  // The same format: every member as it stood, but for the model.
  void write_again() {
    json_.begin_object();
    bool has_model = false;
    for (const auto& [key, value] : request_.members) {
      json_.key(Text::plain(key));
      if (key == "model") {
        has_model = true;
        json_.string(model());
      } else {
        json_.raw(value);
      }
    }
    if (!has_model) json_.member("model", model());
    json_.end_object();
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
  Error refusal_;
};

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

// ============================================================================== upstream → hub

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

// A count that a lenient reader takes: a number, or nothing.
void read_count(JsonReader& json, std::optional<std::int64_t>& count) {
  std::int64_t value = 0;
  if (json.maybe_integer(value)) count = value;
}

// `usage` of Chat in any server's spelling. Servers that leave reasoning out of completion_tokens
// are seen by the total (section 7.2).
Usage read_usage(JsonReader& json) {
  Usage usage;
  std::optional<std::int64_t> total, hit;
  std::string_view key;
  if (!json.begin_object()) return usage;
  while (json.next_key(key)) {
    if (key == "prompt_tokens") {
      read_count(json, usage.input);
    } else if (key == "completion_tokens") {
      read_count(json, usage.output);
    } else if (key == "total_tokens") {
      read_count(json, total);
    } else if (key == "prompt_cache_hit_tokens" || key == "cached_tokens") {
      read_count(json, hit);
    } else if ((key == "prompt_tokens_details" || key == "completion_tokens_details") &&
               json.kind() == JsonKind::object) {
      json.begin_object();
      while (json.next_key(key)) {
        if (key == "cached_tokens") read_count(json, usage.cached);
        if (key == "cache_write_tokens") read_count(json, usage.written);
        if (key == "reasoning_tokens") read_count(json, usage.reasoning);
      }
    }
  }
  if (usage.cached.value_or(0) == 0 && hit) usage.cached = hit;
  if (total && usage.input && *total - *usage.input > usage.output.value_or(0)) {
    usage.output = *total - *usage.input;
  }
  return usage;
}

// Decodes Chat replies, leniently (section 4). Calls that the upstream interleaves, and text that
// comes while a call is unfinished, are held back, so that parts come one after the other.
//
//   fresh ─► started ─► finished          any ─► failed (an error event was given)
class ChatReplyDecoder : public ReplyDecoder {
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
      if (held_.empty() || held_.back().kind != kind) held_.push_back({kind, 0, {}, {}});
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
      if (held_.empty() || held_.back().kind != kind) held_.push_back({kind, 0, {}, {}});
      return held_.back().details;
    }
    if (!open_ || open_kind_ != kind) {
      close(sink);
      open(kind, sink);
    }
    return details_;
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
        held_.push_back({PartKind::tool_call, which, {}, {}});
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
  std::vector<Call> calls_;
  std::vector<Held> held_;
  std::string details_;
  std::string finish_word_;
  Usage usage_;
};

// ================================================================================ hub → client

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
class ChatReplyEncoder : public ReplyEncoder {
 public:
  explicit ChatReplyEncoder(const EncodeContext& context) : context_(context) {}

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
class StreamEncoder : public ChatReplyEncoder {
 public:
  using ChatReplyEncoder::ChatReplyEncoder;

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

  void on(const Error& error) { kOpenaiChat.encode_stream_error(error, out_); }

  std::string head_, tail_, call_head_, buffer_;
};

// A reply as one chat.completion, written on Finish.
class WholeEncoder : public ChatReplyEncoder {
 public:
  using ChatReplyEncoder::ChatReplyEncoder;

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
    kOpenaiChat.encode_error(error, out_);
  }

  std::string head_, content_, reasoning_, refusal_, calls_json_, details_, buffer_;
};

// ==================================================================================== observer

class ChatObserver : public ReplyObserver {
 public:
  void on_stream_event(std::string_view event, std::string_view data) override {
    usage_only_ = false;
    if (error_) return;
    if (data == "[DONE]") {
      terminated_ = true;
      return;
    }
    if (event == "error") {
      terminated_ = false;
      error_ = decode_stream_error(data);
      return;
    }
    if (meaningful_ && !is_telling(data)) return;
    read(data, false);
  }

  void on_whole(std::string_view body) override {
    read(body, true);
    terminated_ = true;
  }

 private:
  // Does `key`, quotes and colon included, have a value in `data`, and one that is not null?
  static bool has_value(std::string_view data, std::string_view key) {
    const char* const end = data.data() + data.size();
    const char* at = json_detail::find_bytes(data, key);
    if (at == end) return false;
    at += key.size();
    while (at != end && *at == ' ') ++at;
    return at == end || *at != 'n';
  }
  // Could say something but more content: a finish reason, usage, an error.
  static bool is_telling(std::string_view data) {
    return has_value(data, "\"finish_reason\":") || has_value(data, "\"usage\":") ||
           has_value(data, "\"error\":");
  }

  void read(std::string_view data, bool whole) {
    JsonReader json(data);
    std::string_view key;
    JsonSlice error;
    bool has_usage = false;
    bool no_choice = false;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "choices" && json.kind() == JsonKind::array) {
        no_choice = read_choices(json, whole) == 0;
      } else if (key == "usage" && json.kind() == JsonKind::object) {
        if (const Usage usage = read_usage(json); !usage.empty()) {
          usage_ = usage;
          has_usage = true;
        }
      } else if (key == "x_groq" && json.kind() == JsonKind::object) {
        json.begin_object();
        while (json.next_key(key)) {
          if (key == "usage" && json.kind() == JsonKind::object) usage_ = read_usage(json);
        }
      } else if (key == "error") {
        json.value(error);
      }
    }
    usage_only_ = has_usage && no_choice && error.empty();
    if (!json.failed() && !error.empty() && error != "null" && error != "{}" && error != "\"\"") {
      terminated_ = false;
      error_ = decode_stream_error(data);
    }
  }

  // How many there are.
  int read_choices(JsonReader& json, bool whole) {
    std::string_view key;
    int count = 0;
    json.begin_array();
    while (json.next_item()) {
      ++count;
      if (json.kind() != JsonKind::object || !json.begin_object()) continue;
      while (json.next_key(key)) {
        if ((key == "delta" || key == "message") && json.kind() == JsonKind::object) {
          json.begin_object();
          while (json.next_key(key)) {
            JsonSlice value;
            if (key != "role" && json.value(value) && value != "null" && value != "\"\"" &&
                value != "[]") {
              meaningful_ = true;
            }
          }
        } else if (key == "finish_reason") {
          Text word;
          if (json.maybe_string(word) && !word.empty()) {
            finish_word_ = word.decode();
            terminated_ = true;
          }
        }
      }
    }
    meaningful_ |= whole && count > 0;
    return count;
  }
};

// ====================================================================================== errors

struct ErrorTypeRow {
  ErrorKind kind;
  std::string_view type;
  std::string_view code;
};

// Section 9.2. Kinds without a row are the server's fault.
constexpr std::array kErrorTypes{
    ErrorTypeRow{ErrorKind::malformed_request, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::unsupported, "invalid_request_error", "unsupported_value"},
    ErrorTypeRow{ErrorKind::unauthenticated, "invalid_request_error", "invalid_api_key"},
    ErrorTypeRow{ErrorKind::payment_required, "insufficient_quota", "insufficient_quota"},
    ErrorTypeRow{ErrorKind::forbidden, "permission_error", ""},
    ErrorTypeRow{ErrorKind::not_found, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::unknown_model, "invalid_request_error", "model_not_found"},
    ErrorTypeRow{ErrorKind::method_not_allowed, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::client_timeout, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::body_too_large, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::unprocessable, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::upgrade_required, "invalid_request_error", ""},
    ErrorTypeRow{ErrorKind::rate_limited, "rate_limit_error", "rate_limit_exceeded"},
    ErrorTypeRow{ErrorKind::head_too_large, "invalid_request_error", ""},
};

void encode_error(const Error& error, std::string& out) {
  ErrorTypeRow row{error.kind, "server_error", ""};
  for (const ErrorTypeRow& each : kErrorTypes) {
    if (each.kind == error.kind) row = each;
  }
  // Another format's words for the same thing would be strange here; its code is kept.
  JsonWriter json(out);
  json.begin_object().key("error").begin_object();
  json.member("message", std::string_view(error.message)).member("type", row.type);
  if (error.param.empty()) {
    json.member_null("param");
  } else {
    json.member("param", std::string_view(error.param));
  }
  const std::string_view code = error.code.empty() ? row.code : std::string_view(error.code);
  if (code.empty()) {
    json.member_null("code");
  } else {
    json.member("code", code);
  }
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  out += "data: ";
  encode_error(error, out);
  out += "\n\n";
}

}  // namespace

const Codec kOpenaiChat{
    kFormat,
    decode_request,
    encode_request,
    [](const Translation&) -> std::unique_ptr<ReplyDecoder> {
      return std::make_unique<ChatReplyDecoder>();
    },
    make_encoder<StreamEncoder>,
    make_encoder<WholeEncoder>,
    []() -> std::unique_ptr<ReplyObserver> { return std::make_unique<ChatObserver>(); },
    encode_error,
    encode_stream_error,
    decode_any_error,
};

}  // namespace llm_proxy
