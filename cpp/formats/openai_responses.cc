#include "formats/openai_responses.h"

#include <algorithm>
#include <array>
#include <deque>
#include <functional>

#include "formats/common.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

constexpr WireFormat kFormat = WireFormat::openai_responses;
constexpr IdRule kCallIds{.max_length = 64};
constexpr std::int64_t kMinOutputTokens = 16;
constexpr std::string_view kToolSearch = "tool_search";

// ------------------------------------------------------------------------------------ requests in

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
        if (!member(name)) {
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
  bool member(std::string_view key) {
    if (json_.kind() == JsonKind::null) return key != "input" && json_.null();
    Sampling& sampling = request_.sampling;
    if (key == "model") return json_.string(request_.model), true;
    if (key == "input") return input(), true;
    if (key == "instructions") {
      if (json_.kind() != JsonKind::string) return false;
      return json_.string(instructions_), true;
    }
    if (key == "tools") {
      // What the conversation loaded on its way stands last: the list grows at its end.
      const auto loaded = static_cast<std::ptrdiff_t>(request_.tools.size());
      tools(false);
      std::rotate(request_.tools.begin(), request_.tools.begin() + loaded, request_.tools.end());
      return true;
    }
    if (key == "tool_choice") return tool_choice();
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
    if (key == "conversation") return conversation(), true;
    if (key == "reasoning") return reasoning(), true;
    if (key == "text") return text(), true;
    if (key == "safety_identifier") return json_.string(request_.user), true;
    if (key == "user") {
      Text user;
      json_.string(user);
      if (request_.user.empty()) request_.user = user;
      return true;
    }
    return false;
  }

  void conversation() {
    if (json_.kind() == JsonKind::string) {
      json_.string(request_.conversation);
      return;
    }
    JsonSlice object;
    if (json_.object(object)) request_.conversation = string_member(object, "id");
  }

  void reasoning() {
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

  void text() {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "verbosity") {
        json_.maybe_string(request_.verbosity);
      } else if (key == "format" && json_.kind() == JsonKind::object) {
        output_format();
      }
    }
  }

  void output_format() {
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
  void tools(bool loaded) {
    if (!json_.begin_array()) return;
    while (json_.next_item()) tool({}, loaded);
  }

  void tool(Text tool_namespace, bool loaded) {
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
      if (key == "function" && json_.kind() == JsonKind::object) nested_function(tool);
    }
    tool.source = json_.since(start);
    tool.type = request_.unescaped(type).bytes();
    tool.name = request_.unescaped(tool.name);
    if (loaded) tool.deferred = false;
    if (type == "namespace") {
      JsonReader members(group);
      std::swap(members, json_);
      if (json_.begin_array()) {
        while (json_.next_item()) this->tool(tool.name, loaded);
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
  void nested_function(Tool& tool) {
    std::string_view key;
    json_.begin_object();
    while (json_.next_key(key)) {
      if (key == "name") json_.maybe_string(tool.name);
      if (key == "description") json_.maybe_string(tool.description);
      if (key == "parameters" && json_.kind() == JsonKind::object) json_.object(tool.schema);
    }
  }

  bool tool_choice() {
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

  void input() {
    if (json_.kind() == JsonKind::string) {
      Message message;
      json_.string(message.parts.emplace_back(TextPart{}).emplace<TextPart>().text);
      request_.messages.push_back(std::move(message));
      return;
    }
    if (!json_.begin_array()) return;
    while (json_.next_item()) item();
  }

  struct Item {
    Text type, role, id, call_id, name, tool_namespace, arguments, input, encrypted, phase,
        execution;
    JsonSlice arguments_object;
    std::vector<Part> content, output;
    std::vector<Text> summary;
  };

  void item() {
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
        parts(item.content);
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
        parts(item.output);
      } else if (key == "summary") {
        summary(item.summary);
      } else if (key == "encrypted_content") {
        json_.maybe_string(item.encrypted);
      } else if (key == "phase") {
        json_.maybe_string(item.phase);
      } else if (key == "execution") {
        json_.maybe_string(item.execution);
      } else if (key == "tools" && json_.kind() == JsonKind::array &&
                 (item.type == "additional_tools" || item.type == "tool_search_output")) {
        tools(true);
      } else if (key == "tools" && json_.kind() == JsonKind::array) {
        json_.value(late_tools_);  // `type` may still come
      }
    }
    if (json_.failed()) return;
    Message message;
    message.source = json_.since(start);
    message.phase = item.phase;
    place(item, message);
    request_.messages.push_back(std::move(message));
  }

  void place(Item& item, Message& message) {
    const Text& type = item.type;
    if (type.empty() || type == "message") {
      message.role = role(item.role);
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
      message.parts.push_back(thinking(item));
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
      result.content.push_back(TextPart{.text = found_tools(message.source)});
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
    tools(true);
    const bool good = json_.finish();
    std::swap(late, json_);
    if (!good) json_.fail("must list tools");
    late_tools_ = {};
  }

  // What a tool search found, as the text of its result.
  Text found_tools(JsonSlice item) {
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

  Part thinking(Item& item) {
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

  Role role(Text word) {
    if (word == "assistant") return Role::assistant;
    if (word == "system") return Role::system;
    if (word == "developer") return Role::developer;
    if (word == "user" || word.empty()) return Role::user;
    json_.fail("has a role that is none of user, assistant, system, developer");
    return Role::user;
  }

  void summary(std::vector<Text>& out) {
    if (json_.kind() != JsonKind::array) return;
    json_.begin_array();
    while (json_.next_item()) {
      JsonSlice piece;
      if (!json_.object(piece)) return;
      out.push_back(string_member(piece, "text"));
    }
  }

  void parts(std::vector<Part>& out) {
    if (json_.kind() == JsonKind::string) {
      Text text;
      json_.string(text);
      out.push_back(TextPart{.text = text});
      return;
    }
    if (json_.kind() != JsonKind::array) return;
    json_.begin_array();
    while (json_.next_item()) part(out);
  }

  void part(std::vector<Part>& out) {
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
      out.push_back(media(MediaKind::image, image_url, file_id, {}, {}, detail));
    } else if (type == "input_file") {
      out.push_back(media(MediaKind::document, file_data, file_id, file_url, filename, {}));
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

  Part media(MediaKind kind, Text inline_data, Text file_id, Text url, Text filename, Text detail) {
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

Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run();
}

// ----------------------------------------------------------------------------------- requests out

// Writes one request for a Responses upstream.
class RequestEncoder {
 public:
  RequestEncoder(const Request& request, Translation& translation, std::string& out)
      : request_(request), translation_(translation), json_(out) {}

  Result<void> run() {
    if (request_.format == kFormat) return same_format();
    if (auto lost = lose_rest(request_, translation_); !lost) return lost;
    name_tools();
    json_.begin_object();
    json_.member("model", std::string_view(translation_.upstream_model));
    const std::size_t first = instructions();
    json_.key("input").begin_array();
    for (std::size_t i = first; i < request_.messages.size(); ++i) message(request_.messages[i]);
    json_.end_array();
    tools();
    output();
    reasoning();
    sampling();
    json_.member_bool("store", false);
    if (request_.stream) json_.member_bool("stream", true);
    json_.end_object();
    if (refused_) return *std::move(refused_);
    return {};
  }

 private:
  // Everything as it stood but the model; reasoning another provider sealed stays out.
  Result<void> same_format() {
    bool foreign = false;
    for (const Message& message : request_.messages)
      foreign = foreign || is_foreign(message, kFormat);
    json_.begin_object();
    bool has_model = false;
    for (const auto& [key, value] : request_.members) {
      if (key == "model") {
        has_model = true;
        json_.member("model", std::string_view(translation_.upstream_model));
      } else if (key == "input" && foreign) {
        json_.key("input").begin_array();
        for (const Message& message : request_.messages) {
          if (!message.source.empty() && !is_foreign(message, kFormat)) json_.raw(message.source);
        }
        json_.end_array();
      } else {
        json_.key(Text::plain(key)).raw(value);
      }
    }
    if (!has_model) json_.member("model", std::string_view(translation_.upstream_model));
    json_.end_object();
    return {};
  }

  void refuse(std::string_view field, std::string_view why) {
    if (!refused_) refused_ = refusal_of(field, why);
  }

  void name_tools() {
    for (const Tool& tool : request_.tools) {
      names_.push_back(tool.kind == Tool::Kind::server
                           ? std::string()
                           : upstream_tool_name(translation_, tool.name, tool.tool_namespace,
                                                CallKind::function, 64));
    }
  }

  std::string tool_name(Text name, Text tool_namespace) {
    return upstream_tool_name(translation_, name, tool_namespace, CallKind::function, 64);
  }

  // The leading system text; the index of the first message behind it.
  std::size_t instructions() {
    std::size_t end = 0;
    bool any = false;
    while (end < request_.messages.size() && is_system(request_.messages[end].role)) {
      for (const Part& part : request_.messages[end].parts) {
        const auto* text = std::get_if<TextPart>(&part);
        if (text == nullptr || text->text.empty()) continue;
        if (any) {
          json_.append("\n\n");
        } else {
          json_.key("instructions").begin_string();
        }
        json_.append(text->text);
        any = true;
      }
      ++end;
    }
    if (any) json_.end_string();
    return end;
  }

  void message(const Message& message) {
    for (const Part& part : message.parts) {
      std::visit([&](const auto& value) { this->part(message, value); }, part);
    }
    close_message();
  }

  // Opens the message item that the next content part belongs to.
  void open_message(const Message& message) {
    if (message_open_) return;
    message_open_ = true;
    const std::string_view role = message.role == Role::assistant   ? "assistant"
                                  : message.role == Role::system    ? "system"
                                  : message.role == Role::developer ? "developer"
                                                                    : "user";
    json_.begin_object().member("type", "message").member("role", role);
    json_.optional("phase", message.phase);
    json_.key("content").begin_array();
  }

  void close_message() {
    if (!message_open_) return;
    message_open_ = false;
    json_.end_array().end_object();
  }

  void part(const Message& message, const TextPart& text) {
    if (text.text.empty()) return;
    open_message(message);
    const bool said = message.role == Role::assistant;
    json_.begin_object()
        .member("type", said ? "output_text" : "input_text")
        .member("text", text.text);
    json_.end_object();
  }

  void part(const Message& message, const RefusalPart& refusal) {
    open_message(message);
    json_.begin_object().member("type", "refusal").member("refusal", refusal.text).end_object();
  }

  void part(const Message& message, const MediaPart& media) {
    if (message.role == Role::assistant) {
      lose(translation_, Loss::Class::degrade, "assistant media");
      return;
    }
    open_message(message);
    this->media(media);
  }

  void media(const MediaPart& media) {
    using Source = MediaPart::Source;
    if (media.source == Source::file_id)
      return refuse("file_id", "a file id belongs to one provider");
    if (media.kind == MediaKind::audio) return refuse("input_audio", "Responses takes no audio");
    if (media.kind == MediaKind::video) return refuse("video", "Responses takes no video");
    json_.begin_object();
    if (media.source == Source::text) {
      json_.member("type", "input_text").member("text", media.data);
    } else if (media.kind == MediaKind::image) {
      json_.member("type", "input_image");
      json_.member("detail", media.detail.empty() ? Text::plain("auto") : media.detail);
      inline_or_url("image_url", "image_url", media, "image/png");
    } else {
      json_.member("type", "input_file");
      if (media.source == Source::base64) {
        json_.member("filename", media.filename.empty() ? Text::plain("document") : media.filename);
      }
      inline_or_url("file_data", "file_url", media, "application/pdf");
    }
    json_.end_object();
  }

  void inline_or_url(std::string_view inline_key, std::string_view url_key, const MediaPart& media,
                     std::string_view default_mime) {
    if (media.source == MediaPart::Source::url) {
      json_.member(url_key, media.data);
      return;
    }
    json_.key(inline_key).begin_string().append("data:");
    json_.append(media.mime_type.empty() ? Text::plain(default_mime) : media.mime_type);
    json_.append(";base64,").append(media.data).end_string();
  }

  void part(const Message&, const ThinkingPart& thinking) {
    if (thinking.seal.empty() || thinking.seal.maker != kFormat) return;
    close_message();
    json_.begin_object().member("type", "reasoning");
    json_.optional("id", thinking.seal.item_id);
    json_.key("summary").begin_array();
    if (!thinking.text.empty()) {
      json_.begin_object()
          .member("type", "summary_text")
          .member("text", thinking.text)
          .end_object();
    }
    json_.end_array().member("encrypted_content", thinking.seal.token).end_object();
  }

  void part(const Message&, const ToolCallPart& call) {
    close_message();
    const bool custom = call.kind == CallKind::custom;
    json_.begin_object().member("type", custom ? "custom_tool_call" : "function_call");
    json_.member("call_id", std::string_view(mapped_id(call.id, kCallIds)));
    json_.member("name", std::string_view(tool_name(call.name, call.tool_namespace)));
    if (custom) {
      json_.member("input", call.arguments_text);
    } else {
      std::string escaped;
      append_arguments_text(call, escaped);
      if (escaped.empty()) escaped = "{}";
      json_.member("arguments", Text::escaped(escaped));
    }
    json_.end_object();
  }

  void part(const Message&, const ToolResultPart& result) {
    close_message();
    json_.begin_object();
    json_.member("type", result.kind == CallKind::custom ? "custom_tool_call_output"
                                                         : "function_call_output");
    json_.member("call_id", std::string_view(mapped_id(result.call_id, kCallIds)));
    json_.key("output");
    const bool plain =
        std::all_of(result.content.begin(), result.content.end(), [](const Part& part) {
          return !std::holds_alternative<MediaPart>(part) || !result_text(part).empty();
        });
    if (plain) {
      json_.begin_string();
      for (const Part& part : result.content) json_.append(Text::escaped(result_text(part)));
      json_.end_string();
    } else {
      json_.begin_array();
      for (const Part& part : result.content) {
        if (const std::string text = result_text(part); !text.empty()) {
          json_.begin_object().member("type", "input_text");
          json_.member("text", Text::escaped(text)).end_object();
        } else if (const auto* picture = std::get_if<MediaPart>(&part)) {
          media(*picture);
        }
      }
      json_.end_array();
    }
    json_.end_object();
    if (result.is_error) lose(translation_, Loss::Class::drop, "is_error");
  }

  void part(const Message&, const RawPart& raw) {
    lose(translation_, Loss::Class::degrade, "server tool items", raw.type);
  }

  void tools() {
    bool any = false;
    for (std::size_t i = 0; i < request_.tools.size(); ++i) {
      const Tool& tool = request_.tools[i];
      if (tool.kind == Tool::Kind::server && may_be_left_out(request_, tool)) {
        lose(translation_, Loss::Class::degrade, "server tool", tool.type);
        continue;
      }
      if (tool.kind == Tool::Kind::server) {
        refuse("tools", "a tool that another provider runs has no equal here");
        continue;
      }
      if (!is_offered(tool)) continue;
      if (!any) json_.key("tools").begin_array();
      any = true;
      json_.begin_object();
      json_.member("type", tool.kind == Tool::Kind::custom ? "custom" : "function");
      json_.member("name", std::string_view(names_[i]));
      json_.optional("description", tool.description);
      if (tool.kind == Tool::Kind::function) {
        json_.member_raw("parameters", tool.schema.empty()
                                           ? JsonSlice(R"({"type":"object","properties":{}})")
                                           : tool.schema);
        json_.member_bool("strict", tool.strict.value_or(false));
      }
      json_.end_object();
    }
    if (!any) return;
    json_.end_array();
    if (request_.tool_choice) tool_choice(*request_.tool_choice);
    if (request_.parallel_tool_calls) {
      json_.member_bool("parallel_tool_calls", *request_.parallel_tool_calls);
    }
  }

  void tool_choice(const ToolChoice& choice) {
    const auto named = [&](Text name) {
      for (const Tool& tool : request_.tools) {
        if (tool.name == name.decode() && tool.kind == Tool::Kind::custom) {
          json_.member("type", "custom");
          break;
        }
      }
      if (json_.out().back() == '{') json_.member("type", "function");
      json_.member("name", std::string_view(tool_name(name, {})));
    };
    switch (choice.mode) {
      case ToolChoice::Mode::automatic:
        json_.member("tool_choice", "auto");
        return;
      case ToolChoice::Mode::none:
        json_.member("tool_choice", "none");
        return;
      case ToolChoice::Mode::required:
        json_.member("tool_choice", "required");
        return;
      case ToolChoice::Mode::one:
        if (choice.names.empty()) return;
        json_.key("tool_choice").begin_object();
        named(choice.names[0]);
        json_.end_object();
        return;
      case ToolChoice::Mode::subset:
        json_.key("tool_choice").begin_object().member("type", "allowed_tools");
        json_.member("mode", choice.subset_required ? "required" : "auto");
        json_.key("tools").begin_array();
        for (const Text& name : choice.names) {
          json_.begin_object();
          named(name);
          json_.end_object();
        }
        json_.end_array().end_object();
        return;
    }
  }

  void output() {
    if (!request_.output && request_.verbosity.empty()) return;
    json_.key("text").begin_object();
    if (request_.output && request_.output->kind != OutputFormat::Kind::text) {
      const OutputFormat& format = *request_.output;
      json_.key("format").begin_object();
      if (format.kind == OutputFormat::Kind::json) {
        json_.member("type", "json_object");
      } else {
        json_.member("type", "json_schema");
        json_.member("name", format.name.empty() ? Text::plain("response") : format.name);
        json_.optional("description", format.description);
        json_.member_raw("schema", format.schema.empty() ? JsonSlice("{}") : format.schema);
        json_.member_bool("strict", format.strict.value_or(false));
      }
      json_.end_object();
    }
    json_.optional("verbosity", request_.verbosity);
    json_.end_object();
  }

  void reasoning() {
    const auto effort = effort_of(request_.reasoning);
    const bool visible = request_.reasoning.visible.value_or(false);
    const bool thinks = effort && *effort != Reasoning::Effort::none;
    if (effort || visible) {
      json_.key("reasoning").begin_object();
      if (effort) json_.member("effort", word(*effort));
      if (visible) json_.member("summary", "auto");
      json_.end_object();
    }
    const bool sealed =
        std::any_of(request_.messages.begin(), request_.messages.end(), [](const Message& m) {
          return std::any_of(m.parts.begin(), m.parts.end(), [](const Part& part) {
            const auto* thinking = std::get_if<ThinkingPart>(&part);
            return thinking != nullptr && !thinking->seal.empty() &&
                   thinking->seal.maker == kFormat;
          });
        });
    const bool logprobs =
        !request_.sampling.logprobs.empty() && request_.sampling.logprobs != "false";
    if (!thinks && !visible && !sealed && !logprobs) return;
    json_.key("include").begin_array();
    if (thinks || visible || sealed) json_.string("reasoning.encrypted_content");
    if (logprobs) json_.string("message.output_text.logprobs");
    json_.end_array();
  }

  void sampling() {
    const Sampling& s = request_.sampling;
    json_.optional_raw("temperature", s.temperature).optional_raw("top_p", s.top_p);
    if (!s.top_logprobs.empty()) json_.member_raw("top_logprobs", s.top_logprobs);
    if (s.max_output_tokens) {
      json_.member("max_output_tokens", std::max(*s.max_output_tokens, kMinOutputTokens));
    }
    if (!request_.user.empty()) {
      json_.member("safety_identifier",
                   std::string_view(mapped_id(request_.user, {.prefix = "user_"})));
    }
    if (s.n.value_or(1) > 1) refuse("n", "Responses gives one answer per request");
    struct Row {
      std::string_view field;
      bool present;
      Loss::Class what;
    };
    const Row rows[] = {
        {"stop", !s.stop.empty(), Loss::Class::degrade},
        {"seed", !s.seed.empty(), Loss::Class::drop},
        {"top_k", !s.top_k.empty(), Loss::Class::drop},
        {"logit_bias", !s.logit_bias.empty(), Loss::Class::drop},
        {"presence_penalty", !s.presence_penalty.empty(), Loss::Class::drop},
        {"frequency_penalty", !s.frequency_penalty.empty(), Loss::Class::drop},
    };
    for (const Row& row : rows) {
      if (row.present) lose(translation_, row.what, row.field);
    }
  }

  const Request& request_;
  Translation& translation_;
  JsonWriter json_;
  std::vector<std::string> names_;
  std::optional<Error> refused_;
  bool message_open_ = false;
};

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

// -------------------------------------------------------------------------------------- replies in

Usage read_usage(JsonSlice object) {
  Usage usage;
  const auto detail = [](JsonReader& json, std::string_view wanted,
                         std::optional<std::int64_t>& out) {
    std::string_view key;
    if (json.kind() != JsonKind::object) return;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == wanted && json.kind() == JsonKind::number) json.integer(out.emplace());
      if (key == "cache_write_tokens" && wanted == "cached_tokens") continue;
    }
  };
  JsonReader json(object);
  if (json.kind() != JsonKind::object) return usage;
  std::string_view key;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "input_tokens" && json.kind() == JsonKind::number)
      json.integer(usage.input.emplace());
    if (key == "output_tokens" && json.kind() == JsonKind::number)
      json.integer(usage.output.emplace());
    if (key == "input_tokens_details" && json.kind() == JsonKind::object) {
      JsonSlice details;
      json.object(details);
      JsonReader cached(details), written(details);
      detail(cached, "cached_tokens", usage.cached);
      detail(written, "cache_write_tokens", usage.written);
    }
    if (key == "output_tokens_details") detail(json, "reasoning_tokens", usage.reasoning);
  }
  return usage;
}

// The response object of an event or a whole body; the slices view into its source.
struct ResponseObject {
  Text id, model, status, incomplete_reason;
  std::int64_t created = 0;
  JsonSlice output, usage, error;
};

bool read_response(JsonSlice source, ResponseObject& out) {
  JsonReader json(source);
  std::string_view key;
  if (json.kind() != JsonKind::object) return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "id") {
      json.maybe_string(out.id);
    } else if (key == "model") {
      json.maybe_string(out.model);
    } else if (key == "status") {
      json.maybe_string(out.status);
    } else if (key == "created_at") {
      json.maybe_integer(out.created);
    } else if (key == "output" && json.kind() == JsonKind::array) {
      json.value(out.output);
    } else if (key == "usage" && json.kind() == JsonKind::object) {
      json.value(out.usage);
    } else if (key == "error" && json.kind() == JsonKind::object) {
      json.value(out.error);
    } else if (key == "incomplete_details" && json.kind() == JsonKind::object) {
      JsonSlice details;
      json.value(details);
      out.incomplete_reason = string_member(details, "reason");
    }
  }
  return json.finish();
}

// One output item.
struct OutputItem {
  Text type, id, call_id, name, tool_namespace, arguments, input, encrypted, phase;
  JsonSlice arguments_object, content, summary;
};

bool read_item(JsonSlice source, OutputItem& out) {
  JsonReader json(source);
  std::string_view key;
  if (json.kind() != JsonKind::object) return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "type") {
      json.maybe_string(out.type);
    } else if (key == "id") {
      json.maybe_string(out.id);
    } else if (key == "call_id") {
      json.maybe_string(out.call_id);
    } else if (key == "name") {
      json.maybe_string(out.name);
    } else if (key == "namespace") {
      json.maybe_string(out.tool_namespace);
    } else if (key == "arguments") {
      if (json.kind() == JsonKind::object) {
        json.object(out.arguments_object);
      } else {
        json.maybe_string(out.arguments);
      }
    } else if (key == "input") {
      json.maybe_string(out.input);
    } else if (key == "encrypted_content") {
      json.maybe_string(out.encrypted);
    } else if (key == "phase") {
      json.maybe_string(out.phase);
    } else if (key == "content" && json.kind() == JsonKind::array) {
      json.value(out.content);
    } else if (key == "summary" && json.kind() == JsonKind::array) {
      json.value(out.summary);
    }
  }
  return json.finish();
}

// What one stream event says; the slices view into its data.
struct StreamEvent {
  Text type, delta, text, refusal, arguments, input;
  std::int64_t output_index = -1, content_index = 0, summary_index = 0;
  JsonSlice item, response, annotation, error;
};

bool read_event(std::string_view data, StreamEvent& out) {
  JsonReader json(data);
  std::string_view key;
  if (json.kind() != JsonKind::object) return false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "type") {
      json.maybe_string(out.type);
    } else if (key == "delta") {
      json.maybe_string(out.delta);
    } else if (key == "output_index") {
      json.maybe_integer(out.output_index);
    } else if (key == "content_index") {
      json.maybe_integer(out.content_index);
    } else if (key == "summary_index") {
      json.maybe_integer(out.summary_index);
    } else if (key == "item" && json.kind() == JsonKind::object) {
      json.value(out.item);
    } else if (key == "response" && json.kind() == JsonKind::object) {
      json.value(out.response);
    } else if (key == "text") {
      json.maybe_string(out.text);
    } else if (key == "refusal") {
      json.maybe_string(out.refusal);
    } else if (key == "arguments") {
      json.maybe_string(out.arguments);
    } else if (key == "input") {
      json.maybe_string(out.input);
    } else if (key == "annotation" && json.kind() == JsonKind::object) {
      json.value(out.annotation);
    } else if (key == "error" && json.kind() == JsonKind::object) {
      json.value(out.error);
    }
  }
  return json.finish();
}

bool ends_with(std::string_view text, std::string_view tail) {
  return text.size() >= tail.size() && text.substr(text.size() - tail.size()) == tail;
}

// Responses → events. Follows output_index, never item ids (they may change on every event). One
// item is open at a time; events of another are kept until it is done.
class Decoder final : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    sink_ = &sink;
    if (!valid_utf8(body)) return garbled("The upstream's answer is not valid UTF-8.");
    ResponseObject response;
    if (!read_response(body, response))
      return garbled("The upstream's answer is not a JSON object.");
    if (response.output.empty() && response.error.empty() && response.status.empty()) {
      return garbled("The upstream's answer is no response object.");
    }
    start(response);
    if (!(response.status == "failed")) items_of(response.output);
    return finish(response);
  }

  Result<void> on_stream_event(std::string_view event, std::string_view data,
                               EventSink& sink) override {
    sink_ = &sink;
    if (terminated_ || data == "[DONE]") return {};
    if (!valid_utf8(data)) return garbled("The upstream sent a stream event that is not UTF-8.");
    return take(data, event);
  }

  Result<void> on_stream_end(EventSink& sink) override {
    if (terminated_) return {};
    return cut_short();
  }

 private:
  struct Held {
    std::int64_t output_index;
    std::string data;
  };

  Result<void> take(std::string_view data, std::string_view event_line) {
    StreamEvent event;
    if (!read_event(data, event))
      return garbled("The upstream sent a stream event that is not JSON.");
    std::string room;
    const std::string_view type = event.type.empty() ? event_line : event.type.decode_in(room);
    if (type == "error" || (type.empty() && !event.error.empty())) {
      fail(decode_stream_error(data));
      return {};
    }
    if (type == "response.completed" || type == "response.incomplete" ||
        type == "response.failed" || type == "response.done") {
      return terminal(event);
    }
    if (type == "response.created" || type == "response.in_progress" || type == "response.queued") {
      ResponseObject response;
      if (!started_ && read_response(event.response, response)) start(response);
      return {};
    }
    if (event.output_index < 0) return {};
    if (open_index_ >= 0 && event.output_index != open_index_) {
      held_bytes_ += data.size();
      if (held_bytes_ > kMaxHeld) return garbled("The upstream interleaved too much output.");
      held_.push_back({event.output_index, std::string(data)});
      return {};
    }
    item_event(type, event);
    if (open_index_ < 0) return replay();
    return {};
  }

  // Events that waited for the open item to be done, in their order, item by item.
  Result<void> replay() {
    while (!held_.empty() && open_index_ < 0) {
      const std::int64_t index = held_.front().output_index;
      std::vector<Held> mine, others;
      for (Held& held : held_)
        (held.output_index == index ? mine : others).push_back(std::move(held));
      held_ = std::move(others);
      for (const Held& held : mine) {
        held_bytes_ -= held.data.size();
        StreamEvent event;
        read_event(held.data, event);
        std::string room;
        item_event(event.type.decode_in(room), event);
      }
      if (open_index_ == index) break;
    }
    return {};
  }

  void item_event(std::string_view type, const StreamEvent& event) {
    constexpr std::string_view kPrefix = "response.";
    if (type.substr(0, kPrefix.size()) != kPrefix) return;
    type.remove_prefix(kPrefix.size());
    if (type == "output_item.added") {
      OutputItem item;
      if (read_item(event.item, item)) open_item(event.output_index, item);
      return;
    }
    if (type == "output_item.done") return item_done(event);
    if (open_index_ < 0) open_index_ = event.output_index;
    if (type == "output_text.delta") {
      content(PartKind::text, event.content_index, event.delta);
    } else if (type == "output_text.done") {
      if (!said(PartKind::text, event.content_index))
        content(PartKind::text, event.content_index, event.text);
    } else if (type == "refusal.delta") {
      content(PartKind::refusal, event.content_index, event.delta);
    } else if (type == "refusal.done") {
      if (!said(PartKind::refusal, event.content_index)) {
        content(PartKind::refusal, event.content_index, event.refusal);
      }
    } else if (type == "function_call_arguments.delta" || type == "custom_tool_call_input.delta") {
      if (open_ == Open::call) delta(event.delta);
    } else if (type == "function_call_arguments.done") {
      if (open_ == Open::call && !part_said_) delta(event.arguments);
    } else if (type == "custom_tool_call_input.done") {
      if (open_ == Open::call && !part_said_) delta(event.input);
    } else if (type == "reasoning_summary_text.delta") {
      thought(event.summary_index, event.delta);
    } else if (type == "reasoning_text.delta") {
      thought(event.content_index, event.delta);
    } else if (type == "output_text.annotation.added") {
      if (open_ == Open::content)
        sink_->on_event(PartAnnotation{part_ - 1, kFormat, event.annotation});
    }
  }

  // --- items

  enum class Open : std::uint8_t { nothing, content, call, thinking };

  void open_item(std::int64_t index, const OutputItem& item) {
    open_index_ = index;
    phase_ = item.phase.decode();
    item_id_ = item.id.decode();
    last_piece_ = -1;
    spoke_ = false;
    if (item.type == "function_call" || item.type == "custom_tool_call") open_call(item);
    if (item.type == "reasoning")
      open_part(PartStart{.kind = PartKind::thinking, .item_id = item.id}, Open::thinking);
  }

  void open_call(const OutputItem& item) {
    open_part(PartStart{.kind = PartKind::tool_call,
                        .call_id = item.call_id.empty() ? item.id : item.call_id,
                        .item_id = item.id,
                        .name = item.name,
                        .tool_namespace = item.tool_namespace,
                        .call_kind = item.type == "custom_tool_call" ? CallKind::custom
                                                                     : CallKind::function},
              Open::call);
    called_ = true;
  }

  void item_done(const StreamEvent& event) {
    OutputItem item;
    if (!read_item(event.item, item)) return;
    if (open_index_ < 0) open_item(event.output_index, item);
    complete(item, event.item);
  }

  // The rest of an item whose final state is known.
  void complete(const OutputItem& item, JsonSlice source) {
    if (item.type == "message") {
      if (!spoke_) contents(item);
    } else if (item.type == "function_call" || item.type == "custom_tool_call") {
      if (open_ != Open::call) open_call(item);
      if (!part_said_) {
        delta(!item.arguments_object.empty() ? Text::plain(item.arguments_object)
              : item.type == "function_call" ? item.arguments
                                             : item.input);
      }
    } else if (item.type == "reasoning") {
      if (open_ != Open::thinking) {
        open_part(PartStart{.kind = PartKind::thinking, .item_id = item.id}, Open::thinking);
      }
      if (!part_said_) thoughts(item);
      if (!item.encrypted.empty()) {
        told_.push_back(hash(item.encrypted));
        sink_->on_event(PartSeal{part_ - 1, Seal{kFormat, item.encrypted, item.id}});
      }
    } else if (!item.type.empty()) {
      close_part();
      open_part(PartStart{.kind = PartKind::raw,
                          .owner = kFormat,
                          .raw_type = item.type.bytes(),
                          .raw = source},
                Open::content);
    }
    close_item();
  }

  void contents(const OutputItem& item) {
    JsonReader json(item.content);
    if (json.kind() != JsonKind::array) return;
    json.begin_array();
    for (std::int64_t index = 0; json.next_item(); ++index) {
      JsonSlice piece;
      if (!json.object(piece)) return;
      const Text refusal = string_member(piece, "refusal");
      if (refusal.empty()) {
        content(PartKind::text, index, string_member(piece, "text"));
        annotations(piece);
      } else {
        content(PartKind::refusal, index, refusal);
      }
    }
  }

  void annotations(JsonSlice piece) {
    JsonReader json(llm_proxy::member(piece, "annotations"));
    if (open_ != Open::content || json.kind() != JsonKind::array) return;
    json.begin_array();
    while (json.next_item()) {
      JsonSlice annotation;
      if (!json.value(annotation)) return;
      sink_->on_event(PartAnnotation{part_ - 1, kFormat, annotation});
    }
  }

  void thoughts(const OutputItem& item) {
    std::int64_t index = 0;
    for (const JsonSlice list : {item.summary, item.content}) {
      JsonReader json(list);
      if (json.kind() != JsonKind::array) continue;
      json.begin_array();
      while (json.next_item()) {
        JsonSlice piece;
        if (!json.object(piece)) return;
        thought(index++, string_member(piece, "text"));
      }
      if (index > 0) return;
    }
  }

  void items_of(JsonSlice output) {
    JsonReader json(output);
    if (json.kind() != JsonKind::array) return;
    json.begin_array();
    for (std::int64_t index = 0; json.next_item(); ++index) {
      JsonSlice source;
      if (!json.value(source)) return;
      OutputItem item;
      if (!read_item(source, item)) continue;
      open_item(index, item);
      complete(item, source);
    }
  }

  // --- parts

  void open_part(PartStart part, Open kind) {
    start({});
    close_part();
    part.index = part_++;
    open_ = kind;
    part_said_ = false;
    items_seen_ = true;
    sink_->on_event(part);
  }

  void close_part() {
    if (open_ == Open::nothing) return;
    open_ = Open::nothing;
    sink_->on_event(PartEnd{part_ - 1});
  }

  void close_item() {
    close_part();
    open_index_ = -1;
  }

  void delta(Text text) {
    if (text.empty()) return;
    part_said_ = true;
    sink_->on_event(PartDelta{part_ - 1, text});
  }

  bool said(PartKind kind, std::int64_t index) const {
    return open_ == Open::content && kind_ == kind && last_piece_ == index && part_said_;
  }

  void content(PartKind kind, std::int64_t index, Text text) {
    if (text.empty()) return;
    if (open_ != Open::content || kind_ != kind || last_piece_ != index) {
      open_part(
          PartStart{.kind = kind, .item_id = Text::plain(item_id_), .phase = Text::plain(phase_)},
          Open::content);
      kind_ = kind;
      last_piece_ = index;
    }
    spoke_ = true;
    delta(text);
  }

  void thought(std::int64_t index, Text text) {
    if (text.empty()) return;
    if (open_ != Open::thinking) open_part(PartStart{.kind = PartKind::thinking}, Open::thinking);
    if (part_said_ && last_piece_ != index) delta(Text::plain("\n\n"));
    last_piece_ = index;
    delta(text);
  }

  // --- begin and end

  void start(const ResponseObject& response) {
    if (started_) return;
    started_ = true;
    sink_->on_event(ReplyStart{response.id, response.model, response.created});
  }

  void fail(Error error) {
    terminated_ = true;
    sink_->on_event(std::move(error));
  }

  Result<void> terminal(const StreamEvent& event) {
    ResponseObject response;
    if (!read_response(event.response, response)) {
      return garbled("The upstream's final event has no response.");
    }
    start(response);
    if (open_index_ >= 0) close_item();
    for (auto held = std::move(held_); !held.empty(); held = std::move(held_)) {
      held_ = std::move(held);
      if (auto replayed = replay(); !replayed) return replayed;
      if (open_index_ >= 0) close_item();
    }
    if (!items_seen_ && !(response.status == "failed")) items_of(response.output);
    return finish(response, told_.empty() ? std::vector<Seal>() : sealed_anew(response.output));
  }

  // OpenAI seals an item twice, for output_item.done and for the end of the stream. Both are good;
  // the second is the one that its own SDK sends back.
  std::vector<Seal> sealed_anew(JsonSlice output) const {
    std::vector<Seal> out;
    JsonReader json(output);
    if (json.kind() != JsonKind::array) return out;
    json.begin_array();
    while (json.next_item()) {
      JsonSlice source;
      if (!json.value(source)) break;
      OutputItem item;
      if (!read_item(source, item) || !(item.type == "reasoning")) continue;
      if (item.encrypted.empty() || item.id.empty()) continue;
      if (std::find(told_.begin(), told_.end(), hash(item.encrypted)) == told_.end()) {
        out.push_back(Seal{kFormat, item.encrypted, item.id});
      }
    }
    return out;
  }

  static std::size_t hash(Text token) { return std::hash<std::string_view>()(token.bytes()); }

  Result<void> finish(const ResponseObject& response, std::vector<Seal> seals = {}) {
    terminated_ = true;
    if (response.status == "failed" ||
        (!response.error.empty() && !(response.status == "completed") &&
         !(response.status == "incomplete"))) {
      std::string wrapped = "{\"error\":";
      wrapped += response.error.empty() ? JsonSlice("{}") : response.error;
      wrapped += '}';
      Error error = decode_stream_error(wrapped);
      if (error.message.empty()) error.message = "The upstream's response failed.";
      sink_->on_event(std::move(error));
      return {};
    }
    if (!response.usage.empty()) sink_->on_event(UsageUpdate{read_usage(response.usage)});
    Finish finish{.reason = called_ ? FinishReason::tool_calls : FinishReason::stop};
    finish.word = response.status.bytes();
    if (response.status == "incomplete") {
      const bool filtered = response.incomplete_reason == "content_filter";
      finish.reason = filtered ? FinishReason::content_filter : FinishReason::length;
      if (!response.incomplete_reason.empty()) finish.word = response.incomplete_reason.bytes();
    } else if (response.status == "cancelled") {
      finish.reason = FinishReason::other;
    }
    finish.seals = std::move(seals);
    sink_->on_event(finish);
    return {};
  }

  static constexpr std::size_t kMaxHeld = std::size_t{16} << 20;

  EventSink* sink_ = nullptr;
  bool started_ = false, terminated_ = false, called_ = false, items_seen_ = false;
  std::vector<std::size_t> told_;  // seals, by their hash
  std::uint32_t part_ = 0;         // index of the next part
  Open open_ = Open::nothing;
  PartKind kind_ = PartKind::text;  // of the open content part
  bool part_said_ = false;          // the open part has had text
  bool spoke_ = false;              // the open message has had text
  std::int64_t open_index_ = -1;    // output_index of the open item
  std::int64_t last_piece_ = -1;    // content_index or summary_index of the last delta
  std::string phase_, item_id_;
  std::vector<Held> held_;
  std::size_t held_bytes_ = 0;
};

// ------------------------------------------------------------------------------------- replies out

std::string_view error_type(const Error& error) {
  switch (error.kind) {
    case ErrorKind::rate_limited:
      return "rate_limit_error";
    case ErrorKind::payment_required:
      return "insufficient_quota";
    case ErrorKind::forbidden:
      return "permission_error";
    default:
      return error.http_status() >= 500 ? "server_error" : "invalid_request_error";
  }
}

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
      if (!begin(type)) return;
      out_ += ",\"response\":";
      response("in_progress", {}, nullptr);
      end();
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
        if (part.owner == kFormat) raw_item(part.raw);
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
        return piece(
            kind_ == PartKind::refusal ? "response.refusal.delta" : "response.output_text.delta",
            delta.text);
      case Open::reasoning:
        if (text_.empty() && begin("response.reasoning_summary_part.added")) {
          place();
          out_ += R"(,"summary_index":0,"part":{"type":"summary_text","text":""})";
          end();
        }
        delta.text.escape_to(text_);
        return piece("response.reasoning_summary_text.delta", delta.text);
      case Open::call:
        delta.text.escape_to(text_);
        return piece("response.function_call_arguments.delta", delta.text);
      case Open::custom:
        delta.text.escape_to(text_);
        return piece("response.custom_tool_call_input.delta", delta.text);
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
    if (begin("response.output_text.annotation.added")) {
      place();
      content_place();
      out_ += ",\"annotation_index\":";
      number(annotation_count_);
      out_ += ",\"annotation\":";
      out_ += json;
      end();
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
    if (begin(reason.empty() ? "response.completed" : "response.incomplete"))
      out_ += ",\"response\":";
    response(status, reason, nullptr);
    if (streamed_) end();
  }

  void on(const Error& error) {
    if (!streamed_) {
      ended_ = true;
      out_.clear();
      kOpenaiResponses.encode_error(error, out_);
      return;
    }
    close_item("incomplete");
    ended_ = true;
    if (!started_) {
      begin("error");
      out_ += ',';
      std::string body;
      kOpenaiResponses.encode_error(error, body);
      out_.append(body, 1, body.size() - 2);
      end();
    }
    if (echo_.empty()) {
      id_ = made_id("resp_", context_.reply_seed, 0);
      created_ = context_.now;
      if (context_.request != nullptr) model_ = context_.request->model.decode();
      make_echo();
    }
    begin("response.failed");
    out_ += ",\"response\":";
    response("failed", {}, &error);
    end();
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
      added([&] { message_item("in_progress"); });
    }
    kind_ = part.kind;
    content_open_ = true;
    text_.clear();
    annotations_.clear();
    annotation_count_ = 0;
    if (begin("response.content_part.added")) {
      place();
      content_place();
      out_ += ",\"part\":";
      content_part(out_, {});
      end();
    }
  }

  void close_content() {
    if (!content_open_) return;
    content_open_ = false;
    if (begin(kind_ == PartKind::refusal ? "response.refusal.done" : "response.output_text.done")) {
      place();
      content_place();
      out_ += kind_ == PartKind::refusal ? ",\"refusal\":\"" : ",\"text\":\"";
      out_ += text_;
      out_ += kind_ == PartKind::refusal ? "\"" : "\",\"logprobs\":[]";
      end();
    }
    if (begin("response.content_part.done")) {
      place();
      content_place();
      out_ += ",\"part\":";
      content_part(out_, text_);
      end();
    }
    if (!contents_.empty()) contents_ += ',';
    content_part(contents_, text_);
    ++content_count_;
  }

  void content_part(std::string& out, std::string_view text) {
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

  void message_item(std::string_view status) {
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
    added([&] { reasoning_item(); });
  }

  void reasoning_item() {
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
    added([&] { call_item("in_progress"); });
  }

  // Is `name` the client's own tool search, which its calls name by their type?
  bool is_tool_search(std::string_view name) const {
    if (name != kToolSearch || context_.request == nullptr) return false;
    return std::any_of(context_.request->tools.begin(), context_.request->tools.end(),
                       [](const Tool& tool) { return tool.type == kToolSearch; });
  }

  void call_item(std::string_view status) {
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

  void raw_item(JsonSlice raw) {
    item_.clear();
    compact_to(raw, item_);
    for (const std::string_view type :
         {"response.output_item.added", "response.output_item.done"}) {
      if (!begin(type)) break;
      out_ += ",\"output_index\":";
      number(output_index_);
      out_ += ",\"item\":";
      out_ += item_;
      end();
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
        message_item(status);
        break;
      case Open::reasoning:
        if (!text_.empty()) close_summary();
        reasoning_item();
        break;
      case Open::wrapped: {
        const std::string input = unwrapped_input(text_);
        text_.clear();
        Text::plain(input).escape_to(text_);
        if (!text_.empty()) piece("response.custom_tool_call_input.delta", Text::escaped(text_));
        close_call("response.custom_tool_call_input.done", "input");
        call_item(status);
        break;
      }
      case Open::custom:
        close_call("response.custom_tool_call_input.done", "input");
        call_item(status);
        break;
      case Open::tool_search:
        call_item(status);
        break;
      case Open::call:
        if (text_.find_first_not_of(" \t\r\n") == std::string::npos) {
          text_ = "{}";
          piece("response.function_call_arguments.delta", Text::escaped(text_));
        }
        close_call("response.function_call_arguments.done", "arguments");
        call_item(status);
        break;
    }
    open_ = Open::nothing;
    if (begin("response.output_item.done")) {
      out_ += ",\"output_index\":";
      number(output_index_);
      out_ += ",\"item\":";
      out_ += item_;
      end();
    }
    keep_item();
  }

  void close_summary() {
    if (begin("response.reasoning_summary_text.done")) {
      place();
      out_ += R"(,"summary_index":0,"text":")";
      out_ += text_;
      out_ += '"';
      end();
    }
    if (begin("response.reasoning_summary_part.done")) {
      place();
      out_ += R"(,"summary_index":0,"part":{"type":"summary_text","text":")";
      out_ += text_;
      out_ += "\"}";
      end();
    }
  }

  void close_call(std::string_view type, std::string_view key) {
    if (!begin(type)) return;
    place();
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
    end();
  }

  void keep_item() {
    if (!output_.empty()) output_ += ',';
    output_ += item_;
    ++output_index_;
  }

  template <typename Build>
  void added(Build build) {
    build();
    if (!begin("response.output_item.added")) return;
    out_ += ",\"output_index\":";
    number(output_index_);
    out_ += ",\"item\":";
    out_ += item_;
    end();
  }

  std::string fitting_item_id(std::string_view prefix, Text id) const {
    const std::string_view bytes = id.bytes();
    const bool plain = bytes.size() <= 64 && bytes.find_first_of("\\\"") == std::string_view::npos;
    if (plain && bytes.substr(0, prefix.size()) == prefix) return std::string(bytes);
    return made_id(prefix, context_.reply_seed, 1 + output_index_);
  }

  // --- frames

  // Opens an event; false when nothing is streamed.
  bool begin(std::string_view type) {
    if (!streamed_) return false;
    out_ += "event: ";
    out_ += type;
    out_ += "\ndata: {\"type\":\"";
    out_ += type;
    out_ += "\",\"sequence_number\":";
    number(sequence_++);
    return true;
  }

  void end() { out_ += "}\n\n"; }

  void number(std::uint64_t value) {
    char digits[24];
    out_.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  }

  void place() {
    out_ += ",\"item_id\":\"";
    out_ += item_id_;
    out_ += "\",\"output_index\":";
    number(output_index_);
  }

  void content_place() {
    out_ += ",\"content_index\":";
    number(content_count_);
  }

  void piece(std::string_view type, Text delta) {
    if (!begin(type)) return;
    place();
    if (open_ == Open::message) content_place();
    if (open_ == Open::reasoning) out_ += ",\"summary_index\":0";
    out_ += ",\"delta\":\"";
    delta.escape_to(out_);
    out_ += '"';
    if (open_ == Open::message && kind_ == PartKind::text) out_ += ",\"logprobs\":[]";
    end();
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

  void response(std::string_view status, std::string_view incomplete, const Error* error) {
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
      usage(json);
    } else {
      json.member_null("usage");
    }
    out_ += '}';
  }

  void usage(JsonWriter& json) {
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

// ------------------------------------------------------------------------------------ the observer

class Observer final : public ReplyObserver {
 public:
  void on_stream_event(std::string_view event, std::string_view data) override {
    std::string_view type = event;
    StreamEvent parsed;
    std::string room;
    if (type.empty() || type == "error" || type == "message") {
      if (data == "[DONE]" || !read_event(data, parsed)) return;
      if (!parsed.type.empty()) type = parsed.type.decode_in(room);
      if (type.empty() && is_error(data)) type = "error";
    }
    if (ends_with(type, ".delta") || type == "response.output_item.done") meaningful_ = true;
    if (type == "error") {
      error_ = decode_stream_error(data);
    } else if (type == "response.completed" || type == "response.incomplete" ||
               type == "response.failed") {
      if (parsed.response.empty() && !read_event(data, parsed)) return;
      final(parsed.response);
      terminated_ = true;
    }
  }

  void on_whole(std::string_view body) override {
    if (is_error(body)) error_ = decode_stream_error(body);
    final(body);
    terminated_ = true;
    meaningful_ = !member(body, "output").empty();
  }

 private:
  // An error object where a response or an event should be.
  static bool is_error(JsonSlice source) {
    const JsonSlice error = member(source, "error");
    return !error.empty() && error.front() == '{' && member(source, "output").empty();
  }

  void final(JsonSlice source) {
    ResponseObject response;
    if (!read_response(source, response)) return;
    if (!response.usage.empty()) usage_ = read_usage(response.usage);
    finish_word_ = response.incomplete_reason.empty() ? response.status.decode()
                                                      : response.incomplete_reason.decode();
    if (response.status == "failed") {
      std::string wrapped = "{\"error\":";
      wrapped += response.error.empty() ? JsonSlice("{}") : response.error;
      wrapped += '}';
      error_ = decode_stream_error(wrapped);
    }
  }
};

// ----------------------------------------------------------------------------------------- errors

void encode_error(const Error& error, std::string& out) {
  std::string_view code = error.code;
  if (code.empty() && error.kind == ErrorKind::unauthenticated) code = "invalid_api_key";
  if (code.empty() && error.kind == ErrorKind::unknown_model) code = "model_not_found";
  if (code.empty() && error.kind == ErrorKind::rate_limited) code = "rate_limit_exceeded";
  const auto word_or_null = [](JsonWriter& json, std::string_view key, std::string_view word) {
    if (word.empty()) {
      json.member_null(key);
    } else {
      json.member(key, word);
    }
  };
  JsonWriter json(out);
  json.begin_object().key("error").begin_object();
  json.member("message", std::string_view(error.message)).member("type", error_type(error));
  word_or_null(json, "param", error.param);
  word_or_null(json, "code", code);
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  std::string body;
  encode_error(error, body);
  out += "event: error\ndata: {\"type\":\"error\",\"sequence_number\":0,";
  out.append(body, 1, body.size() - 1);
  out += "\n\n";
}

std::unique_ptr<ReplyDecoder> reply_decoder(const Translation&) {
  return std::make_unique<Decoder>();
}
std::unique_ptr<ReplyEncoder> stream_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, true);
}
std::unique_ptr<ReplyEncoder> whole_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, false);
}
std::unique_ptr<ReplyObserver> observer() {
  return std::make_unique<Observer>();
}

}  // namespace

const Codec kOpenaiResponses{
    kFormat,       decode_request, encode_request, reply_decoder,       stream_encoder,
    whole_encoder, observer,       encode_error,   encode_stream_error, decode_any_error,
};

}  // namespace llm_proxy
