// Anthropic Messages: reads a client's request into the canonical model.

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/seals.h"
#include "json/reader.h"

namespace llm_proxy::anthropic_messages {

namespace {

// Builds a Request from a Messages body. One per call.
class RequestDecoder {
 public:
  explicit RequestDecoder(std::string_view body) : json_(body), own_(request_) {}
  // Of a piece of the body; `whole` keeps the strings that stand nowhere in it.
  RequestDecoder(std::string_view piece, Request& whole) : json_(piece), own_(whole) {}

  Result<Request> run() {
    std::string_view key;
    bool has_messages = false;
    request_.format = kFormat;
    if (!json_.begin_object()) return json_.error(ErrorKind::malformed_request);
    while (json_.next_key(key)) {
      const std::size_t start = json_.position();
      const std::string_view name = request_.own(std::string(key)).bytes();
      if (json_.null()) {
        request_.members.emplace_back(name, json_.since(start));
        continue;
      }
      if (name == "messages") {
        has_messages = true;
        read_messages();
      } else if (name == "system") {
        read_system();
      } else if (!read_setting(name)) {
        JsonSlice value;
        json_.value(value);
        request_.rest.emplace_back(name, value);
      }
      request_.members.emplace_back(name, json_.since(start));
    }
    if (!json_.finish()) return json_.error(ErrorKind::malformed_request);
    if (!has_messages) return malformed("'messages' is required and must be an array.", "messages");
    if (!system_.parts.empty()) request_.messages.push_back(std::move(system_));
    for (Message& message : messages_) request_.messages.push_back(std::move(message));
    return std::move(request_);
  }

 private:
  bool read_setting(std::string_view key) {
    Sampling& sampling = request_.sampling;
    if (key == "model") return json_.string(request_.model), true;
    if (key == "stream") return json_.boolean(request_.stream), true;
    if (key == "max_tokens") {
      std::int64_t limit = 0;
      if (json_.integer(limit)) sampling.max_output_tokens = limit;
      return true;
    }
    if (key == "temperature") return json_.number(sampling.temperature), true;
    if (key == "top_p") return json_.number(sampling.top_p), true;
    if (key == "top_k") return json_.number(sampling.top_k), true;
    if (key == "stop_sequences") return read_stop(), true;
    if (key == "tools") return read_tools(), true;
    if (key == "tool_choice") return read_tool_choice(), true;
    if (key == "thinking") return read_thinking(), true;
    if (key == "output_config") return read_output_config(true), true;
    if (key == "output_format") return read_output_format(), true;
    if (key == "metadata") {
      JsonSlice metadata;
      if (json_.object(metadata)) request_.user = string_member(metadata, "user_id");
      return true;
    }
    return false;
  }

  void read_stop() {
    Text stop;
    request_.sampling.stop.clear();
    if (!json_.begin_array()) return;
    while (json_.next_item()) {
      if (json_.string(stop)) request_.sampling.stop.push_back(stop);
    }
  }

  void read_thinking() {
    JsonSlice object;
    if (!json_.object(object)) return;
    const Text type = string_member(object, "type");
    std::int64_t budget = 0;
    if (type == "adaptive") {
      request_.reasoning.adaptive = true;
    } else if (type == "disabled") {
      request_.reasoning.budget_tokens = 0;
    } else if (type == "enabled" &&
               JsonReader(member(object, "budget_tokens")).maybe_integer(budget)) {
      request_.reasoning.budget_tokens = budget;
    }
    if (const Text display = string_member(object, "display"); !display.empty()) {
      request_.reasoning.visible = !(display == "omitted");
    }
  }

  void read_output_config(bool whole_request) {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "effort" && json_.kind() == JsonKind::string) {
        Text effort;
        json_.string(effort);
        if (whole_request || !request_.reasoning.effort) {
          request_.reasoning.effort = effort_named(effort);
        }
      } else if (key == "format" && whole_request && json_.kind() == JsonKind::object) {
        read_output_format();
      }
    }
  }

  void read_output_format() {
    JsonSlice object;
    if (!json_.object(object)) return;
    if (!(string_member(object, "type") == "json_schema")) return;
    OutputFormat format;
    format.kind = OutputFormat::Kind::json_schema;
    format.schema = member(object, "schema");
    request_.output = format;
  }

  void read_tools() {
    request_.tools.clear();
    if (!json_.begin_array()) return;
    while (json_.next_item()) {
      const std::size_t start = json_.position();
      Tool tool;
      Text type;
      std::string_view key;
      if (!json_.begin_object()) return;
      while (json_.next_key(key)) {
        if (json_.null()) continue;
        if (key == "type") {
          json_.string(type);
        } else if (key == "name") {
          json_.string(tool.name);
        } else if (key == "description") {
          json_.string(tool.description);
        } else if (key == "input_schema") {
          json_.object(tool.schema);
        } else if (key == "strict") {
          bool strict = false;
          if (json_.boolean(strict)) tool.strict = strict;
        } else if (key == "defer_loading") {
          json_.boolean(tool.deferred);
        } else if (key == "cache_control") {
          json_.value(tool.cache_control);
        }
      }
      if (json_.failed()) return;
      tool.type = own_.unescaped(type).bytes();
      tool.kind = type.empty() || type == "custom" ? Tool::Kind::function : Tool::Kind::server;
      if (tool.kind == Tool::Kind::function && tool.name.empty()) {
        json_.fail("has a tool without a name");
        return;
      }
      tool.source = json_.since(start);
      tool.owner = kFormat;
      request_.tools.push_back(tool);
    }
  }

  void read_tool_choice() {
    JsonSlice object;
    if (!json_.object(object)) return;
    ToolChoice choice;
    const Text type = string_member(object, "type");
    if (type == "any") {
      choice.mode = ToolChoice::Mode::required;
    } else if (type == "none") {
      choice.mode = ToolChoice::Mode::none;
    } else if (type == "tool") {
      choice.mode = ToolChoice::Mode::one;
      choice.names.push_back(string_member(object, "name"));
    }
    if (member(object, "disable_parallel_tool_use") == "true") request_.parallel_tool_calls = false;
    request_.tool_choice = std::move(choice);
  }

  // --- messages

  void read_system() {
    system_ = Message{};
    system_.role = Role::system;
    const std::size_t start = json_.position();
    read_content(system_.parts);
    system_.source = json_.since(start);
  }

  void read_messages() {
    messages_.clear();
    if (!json_.begin_array()) return;
    while (json_.next_item()) {
      const std::size_t start = json_.position();
      Message message;
      Text role;
      std::string_view key;
      if (!json_.begin_object()) return;
      while (json_.next_key(key)) {
        if (json_.null()) continue;
        if (key == "role") {
          json_.string(role);
        } else if (key == "content") {
          read_content(message.parts);
        } else if (key == "output_config" && json_.kind() == JsonKind::object) {
          read_output_config(false);
        }
      }
      if (json_.failed()) return;
      if (role == "user") {
        message.role = Role::user;
      } else if (role == "assistant") {
        message.role = Role::assistant;
      } else if (role == "system") {
        message.role = Role::system;
      } else {
        json_.fail("has a message whose role is none of user, assistant, system");
        return;
      }
      message.source = json_.since(start);
      messages_.push_back(std::move(message));
    }
  }

  void read_content(std::vector<Part>& parts) {
    parts.clear();
    Text text;
    if (json_.kind() == JsonKind::string) {
      if (json_.string(text) && !text.empty()) parts.emplace_back(TextPart{text});
    } else if (json_.kind() == JsonKind::array) {
      json_.begin_array();
      while (json_.next_item()) read_block(parts);
    } else {
      json_.fail("must be a string or an array of blocks");
    }
  }

  // Everything a block of any type may hold.
  struct Block {
    Text type, text, id, name, tool_use_id, thinking, signature, data, title;
    JsonSlice input, source, cache_control, citations;
    std::vector<Part> content;
    bool is_error = false;
  };

  void read_block(std::vector<Part>& parts) {
    const std::size_t start = json_.position();
    Block block;
    std::string_view key;
    JsonSlice content;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (json_.null()) continue;
      if (key == "type") {
        json_.string(block.type);
      } else if (key == "text") {
        json_.string(block.text);
      } else if (key == "id") {
        json_.string(block.id);
      } else if (key == "name") {
        json_.string(block.name);
      } else if (key == "tool_use_id") {
        json_.string(block.tool_use_id);
      } else if (key == "thinking") {
        json_.maybe_string(block.thinking);
      } else if (key == "signature") {
        json_.maybe_string(block.signature);
      } else if (key == "data") {
        json_.maybe_string(block.data);
      } else if (key == "title") {
        json_.maybe_string(block.title);
      } else if (key == "input") {
        json_.value(block.input);
      } else if (key == "source") {
        json_.value(block.source);
      } else if (key == "cache_control") {
        json_.value(block.cache_control);
      } else if (key == "citations") {
        json_.value(block.citations);
      } else if (key == "is_error") {
        json_.boolean(block.is_error);
      } else if (key == "content") {
        // Blocks of server tools have content of their own shapes; only a tool_result's is ours to
        // read.
        json_.value(content);
      }
    }
    if (json_.failed()) return;
    if (block.type == "tool_result" && !content.empty()) {
      RequestDecoder inner(content, own_);
      inner.read_content(block.content);
      if (inner.json_.failed()) {
        json_.fail("has a tool_result whose content is neither a string nor an array of blocks");
        return;
      }
    }
    add_block(std::move(block), json_.since(start), parts);
  }

  void add_block(Block block, JsonSlice source, std::vector<Part>& parts) {
    if (block.type == "text") {
      if (!block.text.empty()) {
        parts.emplace_back(TextPart{block.text, block.cache_control, block.citations, {}});
      }
    } else if (block.type == "tool_use") {
      ToolCallPart call;
      call.id = block.id;
      call.name = block.name;
      call.arguments_object = block.input.empty() ? JsonSlice("{}") : block.input;
      call.cache_control = block.cache_control;
      if (call.arguments_object.front() != '{') call.arguments_object = "{}";
      parts.emplace_back(call);
    } else if (block.type == "tool_result") {
      ToolResultPart result;
      result.call_id = block.tool_use_id;
      result.content = std::move(block.content);
      result.is_error = block.is_error;
      result.cache_control = block.cache_control;
      parts.emplace_back(std::move(result));
    } else if (block.type == "image" || block.type == "document") {
      add_media(block, source, parts);
    } else if (block.type == "thinking" || block.type == "redacted_thinking") {
      ThinkingPart thinking;
      thinking.text = block.thinking;
      thinking.redacted = block.type == "redacted_thinking";
      const OpenedSeal opened =
          opened_seal(thinking.redacted ? block.data : block.signature, kFormat);
      thinking.seal = opened.seal;
      if (opened.carried) thinking.redacted = opened.redacted;
      parts.emplace_back(thinking);
    } else {
      parts.emplace_back(RawPart{kFormat, own_.unescaped(block.type).bytes(), source});
    }
  }

  void add_media(const Block& block, JsonSlice source, std::vector<Part>& parts) {
    MediaPart media;
    media.kind = block.type == "image" ? MediaKind::image : MediaKind::document;
    media.mime_type = own_.unescaped(string_member(block.source, "media_type"));
    media.filename = block.title;
    media.cache_control = block.cache_control;
    const Text type = string_member(block.source, "type");
    if (type == "base64") {
      media.source = MediaPart::Source::base64;
      media.data = string_member(block.source, "data");
    } else if (type == "url") {
      media.source = MediaPart::Source::url;
      media.data = own_.unescaped(string_member(block.source, "url"));
    } else if (type == "text") {
      media.source = MediaPart::Source::text;
      media.data = string_member(block.source, "data");
    } else if (type == "file") {
      media.source = MediaPart::Source::file_id;
      media.data = string_member(block.source, "file_id");
    } else {
      parts.emplace_back(RawPart{kFormat, own_.unescaped(block.type).bytes(), source});
      return;
    }
    parts.emplace_back(media);
  }

  JsonReader json_;
  Request request_;
  Request& own_;  // keeps the strings that stand nowhere in the body: request_, or the whole's
  Message system_;
  std::vector<Message> messages_;
};

}  // namespace

Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run();
}

}  // namespace llm_proxy::anthropic_messages
