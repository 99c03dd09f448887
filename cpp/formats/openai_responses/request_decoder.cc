// OpenAI Responses: reads a client's request into the canonical model.

#include <algorithm>
#include <array>

#include "formats/openai_responses/wire.h"
#include "formats/shared/media.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/seals.h"
#include "json/reader.h"

namespace llm_proxy::openai_responses {

namespace {

// Reads one body. Lives for one decode_request(); every function takes the value that comes next.
class RequestDecoder {
 public:
  explicit RequestDecoder(std::string_view body) : json_(body) { request_.format = kFormat; }

  Result<Request> run() {
    std::string_view key;
    if (json_.begin_object()) {
      while (json_.next_key(key)) {
        const std::string_view name = stable(key);
        const std::size_t start = json_.position();
        if (!read_setting(name)) {
          json_.skip();
          const JsonSlice value = json_.since(start);
          if (value != "null") request_.rest.emplace_back(name, value);
        }
        request_.members.emplace_back(name, json_.since(start));
      }
    }
    if (!json_.finish()) return json_.error(ErrorKind::malformed_request);
    forget_odd_namespaces();
    if (!instructions_.empty()) {
      Message system{.role = Role::system};
      system.parts.push_back(TextPart{.text = instructions_});
      request_.messages.insert(request_.messages.begin(), std::move(system));
    }
    return std::move(request_);
  }

 private:
  // A tool search names the tool it found as its call's namespace; such a tool stands in no
  // namespace.
  void forget_odd_namespaces() {
    for (Message& message : request_.messages) {
      for (Part& part : message.parts) {
        auto* call = std::get_if<ToolCallPart>(&part);
        if (call == nullptr || call->tool_namespace.empty()) continue;
        const bool known =
            std::any_of(request_.tools.begin(), request_.tools.end(), [&](const Tool& tool) {
              return tool.tool_namespace.bytes() == call->tool_namespace.bytes();
            });
        if (!known && call->tool_namespace.bytes() == call->name.bytes()) call->tool_namespace = {};
      }
    }
  }

  // A key is a view into the body unless it had escapes.
  std::string_view stable(std::string_view key) {
    static constexpr std::array kKnown{"model",       "input",  "instructions", "tools",
                                       "tool_choice", "stream", "store",        "include",
                                       "text",        "user",   "metadata",     "truncation"};
    for (const std::string_view known : kKnown) {
      if (known == key) return known;
    }
    return request_.owned.emplace_back(key);
  }

  // False: not ours, nothing was taken.
  bool read_setting(std::string_view key) {
    if (json_.kind() == JsonKind::null) return key != "input" && json_.null();
    Sampling& sampling = request_.sampling;
    if (key == "model") return json_.string(request_.model), true;
    if (key == "input") return read_messages(), true;
    if (key == "instructions") {
      if (json_.kind() != JsonKind::string) return false;
      return json_.string(instructions_), true;
    }
    if (key == "tools") {
      // What the conversation loaded on its way stands last: the list grows at its end.
      const auto loaded = static_cast<std::ptrdiff_t>(request_.tools.size());
      read_tools(false);
      std::rotate(request_.tools.begin(), request_.tools.begin() + loaded, request_.tools.end());
      return true;
    }
    if (key == "tool_choice") return read_tool_choice();
    if (key == "stream") return json_.boolean(request_.stream), true;
    if (key == "temperature") return json_.number(sampling.temperature), true;
    if (key == "top_p") return json_.number(sampling.top_p), true;
    if (key == "top_logprobs") return json_.number(sampling.top_logprobs), true;
    if (key == "max_output_tokens")
      return json_.integer(sampling.max_output_tokens.emplace()), true;
    if (key == "parallel_tool_calls") {
      return json_.boolean(request_.parallel_tool_calls.emplace()), true;
    }
    if (key == "previous_response_id") return json_.string(request_.previous_response_id), true;
    if (key == "conversation") return read_conversation(), true;
    if (key == "reasoning") return read_reasoning(), true;
    if (key == "text") return read_text_settings(), true;
    if (key == "safety_identifier") return json_.string(request_.user), true;
    if (key == "user") {
      Text user;
      json_.string(user);
      if (request_.user.empty()) request_.user = user;
      return true;
    }
    return false;
  }

  void read_conversation() {
    if (json_.kind() == JsonKind::string) {
      json_.string(request_.conversation);
      return;
    }
    JsonSlice object;
    if (json_.object(object)) request_.conversation = string_member(object, "id");
  }

  void read_reasoning() {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      Text word;
      if (key == "effort") {
        if (json_.maybe_string(word)) request_.reasoning.effort = effort_named(word);
      } else if (key == "summary" || key == "generate_summary") {
        if (json_.maybe_string(word)) request_.reasoning.visible = true;
      }
    }
  }

  void read_text_settings() {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "verbosity") {
        json_.maybe_string(request_.verbosity);
      } else if (key == "format" && json_.kind() == JsonKind::object) {
        read_output_format();
      }
    }
  }

  void read_output_format() {
    OutputFormat format;
    Text type;
    std::string_view key;
    json_.begin_object();
    while (json_.next_key(key)) {
      if (key == "type") json_.string(type);
      if (key == "name") json_.maybe_string(format.name);
      if (key == "description") json_.maybe_string(format.description);
      if (key == "schema" && json_.kind() == JsonKind::object) json_.object(format.schema);
      if (key == "strict" && json_.kind() == JsonKind::boolean)
        json_.boolean(format.strict.emplace());
    }
    if (type == "json_schema") {
      format.kind = OutputFormat::Kind::json_schema;
    } else if (type == "json_object") {
      format.kind = OutputFormat::Kind::json;
    } else {
      return;
    }
    request_.output = format;
  }

  // --- tools

  // `loaded`: named by an earlier tool search, so offered whatever defer_loading says.
  void read_tools(bool loaded) {
    if (!json_.begin_array()) return;
    while (json_.next_item()) read_tool({}, loaded);
  }

  void read_tool(Text tool_namespace, bool loaded) {
    const std::size_t start = json_.position();
    Tool tool;
    tool.owner = kFormat;
    tool.tool_namespace = tool_namespace;
    Text type, execution;
    std::size_t first_of_group = request_.tools.size();
    std::string_view key;
    JsonSlice group;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "type") json_.string(type);
      if (key == "name") json_.maybe_string(tool.name);
      if (key == "description") json_.maybe_string(tool.description);
      if (key == "execution") json_.maybe_string(execution);
      if (key == "parameters" && json_.kind() == JsonKind::object) json_.object(tool.schema);
      if (key == "strict" && json_.kind() == JsonKind::boolean)
        json_.boolean(tool.strict.emplace());
      if (key == "defer_loading" && json_.kind() == JsonKind::boolean) json_.boolean(tool.deferred);
      if (key == "tools" && json_.kind() == JsonKind::array) json_.value(group);
      if (key == "function" && json_.kind() == JsonKind::object) read_function(tool);
    }
    tool.source = json_.since(start);
    tool.type = request_.unescaped(type).bytes();
    tool.name = request_.unescaped(tool.name);
    if (loaded) tool.deferred = false;
    if (type == "namespace") {
      JsonReader members(group);
      std::swap(members, json_);
      if (json_.begin_array()) {
        while (json_.next_item()) this->read_tool(tool.name, loaded);
      }
      const bool good = json_.finish();
      std::swap(members, json_);
      if (!good) json_.fail("must list tools");
      return;
    }
    if (type == "custom") {
      tool.kind = Tool::Kind::custom;
    } else if (type == kToolSearch && execution == "client") {
      tool.name = Text::plain(kToolSearch);
    } else if (!(type == "function")) {
      tool.kind = Tool::Kind::server;
      if (tool.name.empty()) tool.name = type;
    }
    const bool known =
        std::any_of(request_.tools.begin(),
                    request_.tools.begin() + static_cast<std::ptrdiff_t>(first_of_group),
                    [&](const Tool& other) {
                      return other.name.bytes() == tool.name.bytes() &&
                             other.tool_namespace.bytes() == tool.tool_namespace.bytes();
                    });
    if (!known) request_.tools.push_back(tool);
    if (known && loaded) {
      for (Tool& other : request_.tools) {
        if (other.name.bytes() == tool.name.bytes() &&
            other.tool_namespace.bytes() == tool.tool_namespace.bytes()) {
          other.deferred = false;
        }
      }
    }
  }

  // Chat's nesting, which some clients send here.
  void read_function(Tool& tool) {
    std::string_view key;
    json_.begin_object();
    while (json_.next_key(key)) {
      if (key == "name") json_.maybe_string(tool.name);
      if (key == "description") json_.maybe_string(tool.description);
      if (key == "parameters" && json_.kind() == JsonKind::object) json_.object(tool.schema);
    }
  }

  bool read_tool_choice() {
    ToolChoice choice;
    if (json_.kind() == JsonKind::string) {
      Text mode;
      json_.string(mode);
      choice.mode = mode == "none"       ? ToolChoice::Mode::none
                    : mode == "required" ? ToolChoice::Mode::required
                                         : ToolChoice::Mode::automatic;
      request_.tool_choice = choice;
      return true;
    }
    Text type, mode, name;
    std::string_view key;
    if (!json_.begin_object()) return true;
    while (json_.next_key(key)) {
      if (key == "type") json_.string(type);
      if (key == "mode") json_.maybe_string(mode);
      if (key == "name") json_.maybe_string(name);
      if (key == "function" && json_.kind() == JsonKind::object) {
        JsonSlice function;
        json_.object(function);
        name = string_member(function, "name");
      }
      if (key == "tools" && json_.kind() == JsonKind::array) {
        json_.begin_array();
        while (json_.next_item()) {
          JsonSlice entry;
          if (!json_.object(entry)) break;
          Text tool = string_member(entry, "name");
          if (tool.empty()) tool = string_member(entry, "type");
          choice.names.push_back(tool);
        }
      }
    }
    if (type == "allowed_tools" || (type.empty() && !choice.names.empty())) {
      choice.mode = ToolChoice::Mode::subset;
      choice.subset_required = mode == "required";
    } else {
      choice.mode = ToolChoice::Mode::one;
      choice.names = {name.empty() ? type : name};
    }
    request_.tool_choice = choice;
    return true;
  }

  // --- items

  void read_messages() {
    if (json_.kind() == JsonKind::string) {
      Message message;
      json_.string(message.parts.emplace_back(TextPart{}).emplace<TextPart>().text);
      request_.messages.push_back(std::move(message));
      return;
    }
    if (!json_.begin_array()) return;
    while (json_.next_item()) read_message();
  }

  struct Item {
    Text type, role, id, call_id, name, tool_namespace, arguments, input, encrypted, phase,
        execution;
    JsonSlice arguments_object;
    std::vector<Part> content, output;
    std::vector<Text> summary;
  };

  void read_message() {
    if (json_.kind() == JsonKind::string) {  // a bare string among the items
      Message message;
      const std::size_t start = json_.position();
      Text text;
      json_.string(text);
      message.source = json_.since(start);
      message.parts.push_back(TextPart{.text = text});
      request_.messages.push_back(std::move(message));
      return;
    }
    const std::size_t start = json_.position();
    Item item;
    std::string_view key;
    late_tools_ = {};
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "type") {
        json_.maybe_string(item.type);
      } else if (key == "role") {
        json_.string(item.role);
      } else if (key == "content") {
        read_content(item.content);
      } else if (key == "id") {
        json_.maybe_string(item.id);
      } else if (key == "call_id") {
        json_.maybe_string(item.call_id);
      } else if (key == "name") {
        json_.maybe_string(item.name);
      } else if (key == "namespace") {
        json_.maybe_string(item.tool_namespace);
      } else if (key == "arguments") {
        if (json_.kind() == JsonKind::object) {
          json_.object(item.arguments_object);
        } else {
          json_.maybe_string(item.arguments);
        }
      } else if (key == "input") {
        json_.maybe_string(item.input);
      } else if (key == "output") {
        read_content(item.output);
      } else if (key == "summary") {
        read_summary(item.summary);
      } else if (key == "encrypted_content") {
        json_.maybe_string(item.encrypted);
      } else if (key == "phase") {
        json_.maybe_string(item.phase);
      } else if (key == "execution") {
        json_.maybe_string(item.execution);
      } else if (key == "tools" && json_.kind() == JsonKind::array &&
                 (item.type == "additional_tools" || item.type == "tool_search_output")) {
        read_tools(true);
      } else if (key == "tools" && json_.kind() == JsonKind::array) {
        json_.value(late_tools_);  // `type` may still come
      }
    }
    if (json_.failed()) return;
    Message message;
    message.source = json_.since(start);
    message.phase = item.phase;
    add_item(item, message);
    request_.messages.push_back(std::move(message));
  }

  void add_item(Item& item, Message& message) {
    const Text& type = item.type;
    if (type.empty() || type == "message") {
      message.role = role_of(item.role);
      message.parts = std::move(item.content);
    } else if (type == "function_call" || type == "custom_tool_call") {
      message.role = Role::assistant;
      ToolCallPart call{.id = item.call_id.empty() ? item.id : item.call_id,
                        .item_id = item.id,
                        .name = item.name,
                        .tool_namespace = request_.unescaped(item.tool_namespace)};
      call.name = request_.unescaped(call.name);
      if (type == "custom_tool_call") {
        call.kind = CallKind::custom;
        call.arguments_text = item.input;
      } else {
        call.arguments_text = item.arguments;
        call.arguments_object = item.arguments_object;
      }
      message.parts.push_back(call);
    } else if (type == "function_call_output" || type == "custom_tool_call_output") {
      message.role = Role::tool;
      ToolResultPart result{.call_id = item.call_id, .content = std::move(item.output)};
      if (type == "custom_tool_call_output") result.kind = CallKind::custom;
      message.parts.push_back(std::move(result));
    } else if (type == "reasoning") {
      message.role = Role::assistant;
      message.parts.push_back(thinking_part(item));
    } else if (type == "additional_tools") {
      message.role = Role::developer;  // its tools are in Request::tools; nothing is said
      read_late_tools();
    } else if (type == "tool_search_call" && item.execution == "client") {
      message.role = Role::assistant;
      message.parts.push_back(ToolCallPart{.id = item.call_id,
                                           .item_id = item.id,
                                           .name = Text::plain(kToolSearch),
                                           .arguments_object = item.arguments_object,
                                           .arguments_text = item.arguments});
    } else if (type == "tool_search_output" && item.execution == "client") {
      message.role = Role::tool;
      read_late_tools();
      ToolResultPart result{.call_id = item.call_id};
      result.content.push_back(TextPart{.text = read_found_tools(message.source)});
      message.parts.push_back(std::move(result));
    } else {
      message.role = Role::assistant;
      message.parts.push_back(RawPart{kFormat, request_.unescaped(type).bytes(), message.source});
    }
  }

  void read_late_tools() {
    if (late_tools_.empty()) return;
    JsonReader late(late_tools_);
    std::swap(late, json_);
    read_tools(true);
    const bool good = json_.finish();
    std::swap(late, json_);
    if (!good) json_.fail("must list tools");
    late_tools_ = {};
  }

  // What a tool search found, as the text of its result.
  Text read_found_tools(JsonSlice item) {
    std::string names;
    JsonReader json(llm_proxy::member(item, "tools"));
    if (json.kind() == JsonKind::array && json.begin_array()) {
      while (json.next_item()) {
        JsonSlice tool;
        if (!json.object(tool)) break;
        if (!names.empty()) names += ", ";
        names += string_member(tool, "name").decode();
      }
    }
    return request_.own(names.empty() ? "No tools found." : "Tools loaded: " + names);
  }

  Part thinking_part(Item& item) {
    ThinkingPart part;
    std::vector<Text> pieces = item.summary;
    if (pieces.empty()) {
      for (const Part& piece : item.content) {
        if (const auto* text = std::get_if<TextPart>(&piece)) pieces.push_back(text->text);
      }
    }
    if (pieces.size() == 1) {
      part.text = pieces[0];
    } else if (!pieces.empty()) {
      std::string joined;
      for (const Text& piece : pieces) {
        if (!joined.empty()) joined += "\n\n";
        piece.decode_to(joined);
      }
      part.text = request_.own(std::move(joined));
    }
    if (!item.encrypted.empty()) {
      const OpenedSeal opened = opened_seal(item.encrypted, kFormat);
      part.seal = opened.seal;
      part.redacted = opened.redacted;
      if (!opened.carried) part.seal.item_id = item.id;
    }
    return part;
  }

  Role role_of(Text word) {
    if (word == "assistant") return Role::assistant;
    if (word == "system") return Role::system;
    if (word == "developer") return Role::developer;
    if (word == "user" || word.empty()) return Role::user;
    json_.fail("has a role that is none of user, assistant, system, developer");
    return Role::user;
  }

  void read_summary(std::vector<Text>& out) {
    if (json_.kind() != JsonKind::array) return;
    json_.begin_array();
    while (json_.next_item()) {
      JsonSlice piece;
      if (!json_.object(piece)) return;
      out.push_back(string_member(piece, "text"));
    }
  }

  void read_content(std::vector<Part>& out) {
    if (json_.kind() == JsonKind::string) {
      Text text;
      json_.string(text);
      out.push_back(TextPart{.text = text});
      return;
    }
    if (json_.kind() != JsonKind::array) return;
    json_.begin_array();
    while (json_.next_item()) read_part(out);
  }

  void read_part(std::vector<Part>& out) {
    if (json_.kind() == JsonKind::string) {
      Text text;
      json_.string(text);
      out.push_back(TextPart{.text = text});
      return;
    }
    const std::size_t start = json_.position();
    Text type, text, refusal, image_url, file_id, file_data, file_url, filename, detail;
    JsonSlice annotations;
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "type") {
        json_.maybe_string(type);
      } else if (key == "text") {
        json_.maybe_string(text);
      } else if (key == "refusal") {
        json_.maybe_string(refusal);
      } else if (key == "image_url") {
        if (json_.kind() == JsonKind::object) {
          JsonSlice nested;
          json_.object(nested);
          image_url = string_member(nested, "url");
        } else {
          json_.maybe_string(image_url);
        }
      } else if (key == "file_id") {
        json_.maybe_string(file_id);
      } else if (key == "file_data") {
        json_.maybe_string(file_data);
      } else if (key == "file_url") {
        json_.maybe_string(file_url);
      } else if (key == "filename") {
        json_.maybe_string(filename);
      } else if (key == "detail") {
        json_.maybe_string(detail);
      } else if (key == "annotations" && json_.kind() == JsonKind::array) {
        json_.value(annotations);
      }
    }
    if (json_.failed()) return;
    if (type == "input_image" || type == "image_url") {
      out.push_back(media_part(MediaKind::image, image_url, file_id, {}, {}, detail));
    } else if (type == "input_file") {
      out.push_back(media_part(MediaKind::document, file_data, file_id, file_url, filename, {}));
    } else if (type == "refusal") {
      out.push_back(RefusalPart{refusal});
    } else if (type == "input_text" || type == "output_text" || type == "text" ||
               type == "summary_text" || type == "reasoning_text" || type.empty()) {
      out.push_back(
          TextPart{.text = text, .citations = annotations == "[]" ? JsonSlice() : annotations});
    } else {
      out.push_back(RawPart{kFormat, request_.unescaped(type).bytes(), json_.since(start)});
    }
  }

  Part media_part(MediaKind kind, Text inline_data, Text file_id, Text url, Text filename,
                  Text detail) {
    MediaPart part{.kind = kind, .filename = filename, .detail = detail};
    if (!inline_data.empty()) {
      inline_data = request_.unescaped(inline_data);
      if (const auto split = split_data_url(inline_data)) {
        part.mime_type = split->mime_type;
        part.data = split->data;
        const std::string_view mime = split->mime_type.bytes();
        if (kind == MediaKind::document && mime.substr(0, 6) == "image/")
          part.kind = MediaKind::image;
      } else {
        part.source = kind == MediaKind::image ? MediaPart::Source::url : MediaPart::Source::base64;
        part.data = inline_data;
      }
    } else if (!url.empty()) {
      part.source = MediaPart::Source::url;
      part.data = url;
    } else {
      part.source = MediaPart::Source::file_id;
      part.data = file_id;
    }
    return part;
  }

  JsonReader json_;
  Request request_;
  Text instructions_;
  JsonSlice late_tools_;
};

}  // namespace

Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run();
}

}  // namespace llm_proxy::openai_responses
