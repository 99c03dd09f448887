// OpenAI Chat Completions: reads a client's request into the canonical model.

#include <algorithm>
#include <array>

#include "formats/openai_chat/wire.h"
#include "formats/shared/ids.h"
#include "formats/shared/media.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "json/reader.h"
#include "json/scan.h"

namespace llm_proxy::openai_chat {

namespace {

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

}  // namespace

Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run();
}

}  // namespace llm_proxy::openai_chat
