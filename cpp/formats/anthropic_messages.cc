#include "formats/anthropic_messages.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/common.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

constexpr WireFormat kFormat = WireFormat::anthropic_messages;

// ================================================================================ client → hub

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

Result<Request> decode_request(std::string_view body, std::string_view, bool) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run();
}

// ============================================================================== hub → upstream

// What a family of models takes. The first row whose word is in the model's name counts.
struct ModelRow {
  enum class Thinking : std::uint8_t { none, budget, adaptive };

  std::string_view word;
  std::int64_t max_tokens;
  Thinking thinking;
  bool effort;         // output_config.effort beside budget thinking
  bool sampling;       // takes temperature and its kin
  bool output_format;  // output_config.format
};

constexpr auto kNone = ModelRow::Thinking::none;
constexpr auto kBudget = ModelRow::Thinking::budget;
constexpr auto kAdaptive = ModelRow::Thinking::adaptive;

constexpr std::array kModels{
    ModelRow{"claude-2", 4096, kNone, false, true, false},
    ModelRow{"claude-3-5", 8192, kNone, false, true, false},
    ModelRow{"claude-3-7", 64'000, kBudget, false, true, false},
    ModelRow{"claude-3", 4096, kNone, false, true, false},
    ModelRow{"opus-4-1", 32'000, kBudget, false, true, true},
    ModelRow{"opus-4-5", 64'000, kBudget, true, true, true},
    ModelRow{"opus-4-6", 128'000, kAdaptive, true, true, true},
    ModelRow{"opus-4-2", 32'000, kBudget, false, true, false},  // opus-4-20250514
    ModelRow{"opus-4-0", 32'000, kBudget, false, true, false},
    ModelRow{"sonnet-4-6", 64'000, kAdaptive, true, true, true},
    ModelRow{"sonnet-4-5", 64'000, kBudget, false, true, true},
    ModelRow{"sonnet-4", 64'000, kBudget, false, true, false},
    ModelRow{"haiku-4", 64'000, kBudget, false, true, true},
    ModelRow{"claude", 64'000, kAdaptive, true, false, true},  // whatever is newer
    ModelRow{"", 4096, kBudget, false, true, true},            // compatible servers
};

const ModelRow& model_row(const std::string& model) {
  for (const ModelRow& row : kModels) {
    if (model.find(row.word) != std::string::npos) return row;
  }
  return kModels.back();
}

constexpr std::size_t kMaxToolName = 128;

// Writes a Request as a Messages body. One per call.
class RequestEncoder {
 public:
  RequestEncoder(const Request& request, Translation& translation, std::string& out)
      : request_(request),
        translation_(translation),
        json_(out),
        model_(translation.upstream_model.empty() ? request.model.decode()
                                                  : translation.upstream_model),
        row_(model_row(model_)) {}

  Result<void> run() {
    if (request_.format == kFormat && !request_.members.empty()) {
      write_again();
      return {};
    }
    if (Result<void> rest = lose_rest(request_, translation_); !rest) return rest;
    gather_turns();
    choose_thinking();
    json_.begin_object();
    json_.member("model", std::string_view(model_));
    json_.member("max_tokens", max_tokens_);
    write_system();
    write_turns();
    write_tools();
    write_settings();
    json_.end_object();
    if (!refusal_.message.empty()) return std::move(refusal_);
    return {};
  }

 private:
  struct Turn {
    bool assistant;
    std::vector<const Part*> results;                  // a user turn's results come before all else
    std::vector<std::pair<const Part*, bool>> others;  // true: system text in mid conversation
  };

  void lose(Loss::Class what, std::string_view field, std::string_view note = {}) {
    llm_proxy::lose(translation_, what, field, note);
  }
  void refuse(std::string_view field, std::string_view why) {
    if (refusal_.message.empty()) refusal_ = refusal_of(field, why);
  }

  // The same format: every member as it stood, but for the model, and without thinking that bears
  // another maker's seal: Anthropic would refuse it.
  void write_again() {
    json_.begin_object();
    bool has_model = false;
    for (const auto& [key, value] : request_.members) {
      json_.key(Text::plain(key));
      if (key == "model") {
        has_model = true;
        json_.string(std::string_view(model_));
      } else if (key == "messages" && has_foreign_seal()) {
        write_messages_again(value);
      } else {
        json_.raw(value);
      }
    }
    if (!has_model) json_.member("model", std::string_view(model_));
    json_.end_object();
  }

  static bool is_foreign(const Part& part) {
    const auto* thinking = std::get_if<ThinkingPart>(&part);
    return thinking != nullptr && thinking->seal.maker != kFormat;
  }
  bool has_foreign_seal() const {
    for (const Message& message : request_.messages) {
      if (std::any_of(message.parts.begin(), message.parts.end(), is_foreign)) return true;
    }
    return false;
  }

  void write_messages_again(JsonSlice messages) {
    JsonReader items(messages);
    JsonSlice message, block;
    std::string_view key;
    json_.begin_array();
    items.begin_array();
    while (items.next_item() && items.value(message)) {
      JsonReader members(message);
      JsonSlice value;
      json_.begin_object();
      members.begin_object();
      while (members.next_key(key)) {
        json_.key(Text::plain(key));
        if (key != "content" || members.kind() != JsonKind::array) {
          members.value(value);
          json_.raw(value);
          continue;
        }
        json_.begin_array();
        members.begin_array();
        while (members.next_item() && members.value(block)) {
          Text seal = string_member(block, "signature");
          if (seal.empty() && string_member(block, "type") == "redacted_thinking") {
            seal = string_member(block, "data");
          }
          if (!opened_seal(seal, kFormat).carried) json_.raw(block);
        }
        json_.end_array();
      }
      json_.end_object();
    }
    json_.end_array();
  }

  // --- turns

  static bool is_system(const Message& message) {
    return message.role == Role::system || message.role == Role::developer;
  }

  // Would this part be written at all?
  bool counts(const Part& part, bool assistant) {
    if (const auto* text = std::get_if<TextPart>(&part)) return !text->text.empty();
    if (const auto* refusal = std::get_if<RefusalPart>(&part)) return !refusal->text.empty();
    if (const auto* thinking = std::get_if<ThinkingPart>(&part)) {
      const bool ours = assistant && thinking->seal.maker == kFormat && !thinking->seal.empty();
      if (!ours) lose(Loss::Class::drop, "thinking", "of another provider");
      return ours;
    }
    if (const auto* raw = std::get_if<RawPart>(&part)) {
      if (raw->owner != kFormat) lose(Loss::Class::degrade, raw->type);
      return raw->owner == kFormat;
    }
    return true;
  }

  // Neighbours of one role become one turn; leading system messages are kept apart.
  void gather_turns() {
    const auto& messages = request_.messages;
    while (system_end_ < messages.size() && is_system(messages[system_end_])) ++system_end_;
    for (std::size_t i = system_end_; i < messages.size(); ++i) {
      const Message& message = messages[i];
      const bool assistant = message.role == Role::assistant;
      if (!message.name.empty() && message.role != Role::tool) lose(Loss::Class::degrade, "name");
      for (const Part& part : message.parts) {
        if (!counts(part, assistant)) continue;
        if (turns_.empty() || turns_.back().assistant != assistant) {
          turns_.emplace_back();
          turns_.back().assistant = assistant;
        }
        if (std::holds_alternative<ToolResultPart>(part)) {
          turns_.back().results.push_back(&part);
        } else {
          turns_.back().others.emplace_back(&part, is_system(message));
        }
      }
    }
  }

  // Budget thinking demands that the assistant turn of an open tool loop begins with its thinking.
  bool loop_lacks_thinking() const {
    for (std::size_t i = turns_.size(); i-- > 0;) {
      if (!turns_[i].assistant) {
        if (turns_[i].results.empty()) return false;
        continue;
      }
      bool calls = false;
      for (const auto& [part, system] : turns_[i].others) {
        calls |= std::holds_alternative<ToolCallPart>(*part);
      }
      return calls && !std::holds_alternative<ThinkingPart>(*turns_[i].others.front().first);
    }
    return false;
  }

  // Sections 2.1 and 7.8: which kind of thinking the model takes, and what must give way to it.
  void choose_thinking() {
    const auto limit = request_.sampling.max_output_tokens;
    max_tokens_ = limit.value_or(row_.max_tokens);
    const auto effort = effort_of(request_.reasoning);
    if (!effort) return;
    if (row_.thinking == kNone) return lose(Loss::Class::degrade, "reasoning effort");
    if (*effort == Reasoning::Effort::none) {
      thinking_ = R"({"type":"disabled"})";
      return;
    }
    if (row_.thinking == kAdaptive) {
      thinking_ = R"({"type":"adaptive"})";
      effort_ = *effort == Reasoning::Effort::minimal ? "low" : word(*effort);
      thinks_ = true;
      return;
    }
    if (loop_lacks_thinking()) {
      return lose(Loss::Class::degrade, "reasoning effort", "a tool loop begun without thinking");
    }
    std::int64_t budget = budget_of(*effort);
    if (request_.reasoning.budget_tokens.value_or(0) > 0)
      budget = *request_.reasoning.budget_tokens;
    budget = std::max<std::int64_t>(budget, 1024);
    if (limit && *limit <= budget) max_tokens_ = *limit + budget;
    if (!limit && max_tokens_ <= budget) max_tokens_ = budget + 4096;
    thinking_ = R"({"type":"enabled","budget_tokens":)" + std::to_string(budget) + '}';
    if (row_.effort) effort_ = *effort == Reasoning::Effort::minimal ? "low" : word(*effort);
    thinks_ = budget_thinks_ = true;
  }

  void write_system() {
    std::vector<const TextPart*> texts;
    bool marked = false;
    for (std::size_t i = 0; i < system_end_; ++i) {
      for (const Part& part : request_.messages[i].parts) {
        const auto* text = std::get_if<TextPart>(&part);
        if (text == nullptr || text->text.empty()) continue;
        texts.push_back(text);
        marked |= !text->cache_control.empty();
      }
    }
    if (texts.empty()) return;
    json_.key("system");
    if (marked) {
      json_.begin_array();
      for (const TextPart* text : texts) write_text(text->text, text->cache_control);
      json_.end_array();
      return;
    }
    json_.begin_string();
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (i > 0) json_.append(std::string_view("\n\n"));
      json_.append(texts[i]->text);
    }
    json_.end_string();
  }

  void write_turns() {
    json_.key("messages").begin_array();
    for (std::size_t i = 0; i < turns_.size(); ++i) {
      const Turn& turn = turns_[i];
      json_.begin_object().member("role", turn.assistant ? "assistant" : "user").key("content");
      const auto* only = turn.results.empty() && turn.others.size() == 1 && !turn.others[0].second
                             ? std::get_if<TextPart>(turn.others[0].first)
                             : nullptr;
      const bool prefill = turn.assistant && i + 1 == turns_.size();
      if (only != nullptr && only->cache_control.empty()) {
        json_.string(prefill ? without_trailing_space(only->text) : only->text);
      } else {
        json_.begin_array();
        for (const Part* part : turn.results) write_result(std::get<ToolResultPart>(*part));
        for (const auto& [part, system] : turn.others) {
          const bool last = prefill && part == turn.others.back().first;
          write_block(*part, system, last);
        }
        json_.end_array();
      }
      json_.end_object();
    }
    json_.end_array();
  }

  // A prefill must not end in white space.
  Text without_trailing_space(Text text) {
    trimmed_ = text.decode();
    trimmed_.erase(trimmed_.find_last_not_of(" \t\r\n") + 1);
    return Text::plain(trimmed_);
  }

  void write_text(Text text, JsonSlice cache_control) {
    json_.begin_object().member("type", "text").member("text", text);
    json_.optional_raw("cache_control", cache_control).end_object();
  }

  void write_block(const Part& part, bool system, bool prefill) {
    if (const auto* text = std::get_if<TextPart>(&part)) {
      if (system) {
        lose(Loss::Class::degrade, "system message", "sent as user text in its place");
        json_.begin_object().member("type", "text").key("text").begin_string();
        json_.append(std::string_view("<system>")).append(text->text);
        json_.append(std::string_view("</system>")).end_string().end_object();
      } else {
        write_text(prefill ? without_trailing_space(text->text) : text->text, text->cache_control);
      }
    } else if (const auto* refusal = std::get_if<RefusalPart>(&part)) {
      write_text(refusal->text, {});
    } else if (const auto* media = std::get_if<MediaPart>(&part)) {
      write_media(*media);
    } else if (const auto* thinking = std::get_if<ThinkingPart>(&part)) {
      json_.begin_object();
      if (thinking->redacted) {
        json_.member("type", "redacted_thinking").member("data", thinking->seal.token);
      } else {
        json_.member("type", "thinking").member("thinking", thinking->text);
        json_.member("signature", thinking->seal.token);
      }
      json_.end_object();
    } else if (const auto* call = std::get_if<ToolCallPart>(&part)) {
      json_.begin_object().member("type", "tool_use");
      json_.member("id", std::string_view(call_id(call->id)));
      json_.member("name",
                   std::string_view(upstream_tool_name(
                       translation_, call->name, call->tool_namespace, call->kind, kMaxToolName)));
      json_.key("input");
      write_arguments_object(*call, json_);
      json_.optional_raw("cache_control", call->cache_control).end_object();
    } else if (const auto* raw = std::get_if<RawPart>(&part)) {
      json_.raw(raw->json);
    }
  }

  static std::string call_id(Text id) {
    IdRule rule;
    rule.max_length = 200;
    rule.word_only = true;
    rule.prefix = "toolu_";
    return mapped_id(id, rule);
  }

  void write_result(const ToolResultPart& result) {
    json_.begin_object().member("type", "tool_result");
    json_.member("tool_use_id", std::string_view(call_id(result.call_id)));
    std::vector<const Part*> content;
    for (const Part& part : result.content) {
      if (counts(part, false)) content.push_back(&part);
    }
    const auto* only = content.size() == 1 ? std::get_if<TextPart>(content[0]) : nullptr;
    if (content.empty() && !result.response_object.empty()) {
      json_.member("content", Text::escaped(response_text(result.response_object)));
    } else if (only != nullptr && only->cache_control.empty()) {
      json_.member("content", only->text);
    } else if (!content.empty()) {
      json_.key("content").begin_array();
      for (const Part* part : content) write_block(*part, false, false);
      json_.end_array();
    }
    if (result.is_error) json_.member_bool("is_error", true);
    json_.optional_raw("cache_control", result.cache_control).end_object();
  }

  void write_media(const MediaPart& media) {
    if (media.kind == MediaKind::audio) return refuse("audio", "is not taken by this upstream");
    if (media.kind == MediaKind::video) return refuse("video", "is not taken by this upstream");
    if (media.source == MediaPart::Source::file_id) {
      return refuse("file_id", "belongs to one provider's account and cannot be translated");
    }
    const bool image = media.kind == MediaKind::image;
    json_.begin_object().member("type", image ? "image" : "document");
    json_.key("source").begin_object();
    if (media.source == MediaPart::Source::url) {
      json_.member("type", "url").member("url", media.data);
    } else if (media.source == MediaPart::Source::text) {
      json_.member("type", "text").member("media_type", "text/plain").member("data", media.data);
    } else if (!image && !media.mime_type.empty() && !(media.mime_type == "application/pdf")) {
      // Documents are PDF or text; a word processor's file is neither.
      const auto text = decode_base64(media.data.decode());
      if (!text || !valid_utf8(*text) || text->find('\0') != std::string::npos)
        return refuse("file", "is neither PDF nor text, which is all this upstream takes");
      json_.member("type", "text").member("media_type", "text/plain");
      json_.member("data", std::string_view(*text));
    } else {
      json_.member("type", "base64");
      json_.member("media_type", media.mime_type.empty()
                                     ? Text::plain(image ? "image/png" : "application/pdf")
                                     : media.mime_type);
      json_.member("data", media.data);
    }
    json_.end_object();
    if (!image) json_.optional("title", media.filename);
    json_.optional_raw("cache_control", media.cache_control).end_object();
  }

  // --- tools

  bool is_chosen(const Tool& tool) const {
    if (!request_.tool_choice || request_.tool_choice->mode != ToolChoice::Mode::subset)
      return true;
    const std::string name = tool.name.decode();
    const auto& names = request_.tool_choice->names;
    return std::any_of(names.begin(), names.end(), [&](Text each) { return each == name; });
  }

  void write_tools() {
    const bool forced_output = emulates_output();
    std::size_t written = 0;
    for (const Tool& tool : request_.tools) {
      if (tool.kind == Tool::Kind::server && may_be_left_out(request_, tool)) {
        lose(Loss::Class::degrade, "server tool", tool.type);
        continue;
      }
      if (tool.kind == Tool::Kind::server) {
        return refuse("tools", "holds a tool that its own provider runs (" +
                                   std::string(tool.type.substr(0, 60)) + ")");
      }
      if (!is_offered(tool) || !is_chosen(tool)) continue;
      if (written++ == 0) json_.key("tools").begin_array();
      write_tool(tool);
    }
    if (forced_output) {
      if (written++ == 0) json_.key("tools").begin_array();
      translation_.forced_output_tool = "structured_output";
      json_.begin_object().member("name", "structured_output");
      json_.member("description", "Gives the answer in the form that was asked for.");
      json_.key("input_schema");
      write_schema(request_.output->schema);
      json_.end_object();
    }
    if (written == 0) return;
    json_.end_array();
    write_tool_choice(forced_output, written);
  }

  void write_tool(const Tool& tool) {
    const bool custom = tool.kind == Tool::Kind::custom;
    json_.begin_object();
    json_.member("name", std::string_view(upstream_tool_name(
                             translation_, tool.name, tool.tool_namespace,
                             custom ? CallKind::custom : CallKind::function, kMaxToolName)));
    json_.optional("description", tool.description);
    json_.key("input_schema");
    write_schema(custom ? JsonSlice(kWrappedInputSchema) : tool.schema);
    if (tool.strict.value_or(false) && !custom) json_.member_bool("strict", true);
    json_.optional_raw("cache_control", tool.cache_control).end_object();
    if (custom) lose(Loss::Class::degrade, "custom tool", "wrapped as a function");
  }

  // An input schema must say that it is an object's.
  void write_schema(JsonSlice schema) {
    if (schema.empty() || !member(schema, "type").empty()) {
      json_.raw(schema.empty() ? JsonSlice(R"({"type":"object"})") : schema);
      return;
    }
    JsonReader members(schema);
    std::string_view key;
    JsonSlice value;
    json_.begin_object().member("type", "object");
    members.begin_object();
    while (members.next_key(key)) {
      json_.key(Text::plain(key));
      members.value(value);
      json_.raw(value);
    }
    json_.end_object();
  }

  void write_tool_choice(bool forced_output, std::size_t tools) {
    using Mode = ToolChoice::Mode;
    const bool one_at_a_time = request_.parallel_tool_calls == false;
    Mode mode = Mode::automatic;
    if (request_.tool_choice) mode = request_.tool_choice->mode;
    if (mode == Mode::subset) {
      lose(Loss::Class::degrade, "tool_choice", "a subset of tools is sent as the only ones");
      mode = request_.tool_choice->subset_required ? Mode::required : Mode::automatic;
    }
    if (!request_.tool_choice && !one_at_a_time && !forced_output) return;
    const bool forces = mode == Mode::required || mode == Mode::one || forced_output;
    if (forces && budget_thinks_) {
      lose(Loss::Class::degrade, "tool_choice", "cannot be forced beside budget thinking");
      mode = Mode::automatic;
      forced_output = false;
    }
    json_.key("tool_choice").begin_object();
    if (forced_output && tools == 1) {
      json_.member("type", "tool")
          .member("name", std::string_view(translation_.forced_output_tool));
    } else if (forced_output || mode == Mode::required) {
      json_.member("type", "any");
    } else if (mode == Mode::one) {
      json_.member("type", "tool").member("name", std::string_view(chosen_name()));
    } else {
      json_.member("type", mode == Mode::none ? "none" : "auto");
    }
    if (one_at_a_time && mode != Mode::none) json_.member_bool("disable_parallel_tool_use", true);
    json_.end_object();
  }

  std::string chosen_name() {
    const std::string plain = request_.tool_choice->names.front().decode();
    for (const Tool& tool : request_.tools) {
      if (!(tool.name == plain)) continue;
      return upstream_tool_name(
          translation_, tool.name, tool.tool_namespace,
          tool.kind == Tool::Kind::custom ? CallKind::custom : CallKind::function, kMaxToolName);
    }
    return plain;
  }

  // --- settings

  bool wants_schema() const {
    return request_.output && request_.output->kind == OutputFormat::Kind::json_schema &&
           !request_.output->schema.empty();
  }
  bool emulates_output() const { return wants_schema() && !row_.output_format; }

  void write_sampling(std::string_view name, JsonSlice number, bool clamped) {
    if (number.empty()) return;
    if (thinks_ || !row_.sampling) {
      return lose(Loss::Class::degrade, name, "not taken beside thinking or by this model");
    }
    double value = 0;
    std::from_chars(number.data(), number.data() + number.size(), value);
    if (clamped && value > 1) {
      lose(Loss::Class::degrade, name, "clamped to 1");
      number = "1";
    }
    json_.member_raw(name, number);
  }

  void write_settings() {
    const Sampling& sampling = request_.sampling;
    write_sampling("temperature", sampling.temperature, true);
    write_sampling("top_p", sampling.top_p, false);
    write_sampling("top_k", sampling.top_k, false);
    const std::array<std::pair<std::string_view, JsonSlice>, 5> unknown{
        {{"seed", sampling.seed},
         {"presence_penalty", sampling.presence_penalty},
         {"frequency_penalty", sampling.frequency_penalty},
         {"logit_bias", sampling.logit_bias},
         {"logprobs", sampling.logprobs}}};
    for (const auto& [name, value] : unknown) {
      if (!value.empty() && value != "false") lose(Loss::Class::degrade, name);
    }
    if (sampling.n && *sampling.n > 1) refuse("n", "above 1 cannot be translated");
    if (!request_.verbosity.empty()) lose(Loss::Class::drop, "verbosity");
    write_stop();
    json_.optional_raw("thinking", thinking_);
    if (!effort_.empty() || (wants_schema() && row_.output_format)) {
      json_.key("output_config").begin_object();
      if (!effort_.empty()) json_.member("effort", effort_);
      if (wants_schema() && row_.output_format) {
        json_.key("format").begin_object().member("type", "json_schema");
        json_.member_raw("schema", request_.output->schema).end_object();
      }
      json_.end_object();
    }
    if (request_.output && request_.output->kind == OutputFormat::Kind::json) {
      lose(Loss::Class::degrade, "response_format", "JSON without a schema has no counterpart");
    }
    if (!request_.user.empty()) {
      json_.key("metadata").begin_object().member("user_id", request_.user).end_object();
    }
    if (request_.stream) json_.member_bool("stream", true);
  }

  void write_stop() {
    std::vector<Text> stops;
    for (const Text stop : request_.sampling.stop) {
      if (stop.decode().find_first_not_of(" \t\r\n") == std::string::npos) {
        lose(Loss::Class::degrade, "stop", "of white space only");
      } else {
        stops.push_back(stop);
      }
    }
    if (stops.empty()) return;
    json_.key("stop_sequences").begin_array();
    for (const Text stop : stops) json_.string(stop);
    json_.end_array();
  }

  const Request& request_;
  Translation& translation_;
  JsonWriter json_;
  std::string model_;
  const ModelRow& row_;
  std::size_t system_end_ = 0;
  std::vector<Turn> turns_;
  std::int64_t max_tokens_ = 0;
  std::string thinking_;
  std::string_view effort_;
  bool thinks_ = false;
  bool budget_thinks_ = false;
  std::string trimmed_;
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
    FinishRow{"end_turn", FinishReason::stop},
    FinishRow{"max_tokens", FinishReason::length},
    FinishRow{"stop_sequence", FinishReason::stop_sequence},
    FinishRow{"tool_use", FinishReason::tool_calls},
    FinishRow{"pause_turn", FinishReason::pause},
    FinishRow{"refusal", FinishReason::content_filter},
    FinishRow{"model_context_window_exceeded", FinishReason::context_full},
};

FinishReason finish_of(std::string_view word, bool has_calls) {
  FinishReason reason = word.empty() ? FinishReason::stop : FinishReason::other;
  for (const FinishRow& row : kFinishRows) {
    if (row.word == word) reason = row.reason;
  }
  if (reason == FinishReason::tool_calls && !has_calls) return FinishReason::stop;
  return reason;
}

// Anthropic's counts as they stand; message_delta's replace message_start's one by one.
struct Counts {
  std::optional<std::int64_t> input, read, written, output, thinking;

  void read_from(JsonReader& json) {
    std::string_view key;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    const auto count = [&](std::optional<std::int64_t>& slot) {
      std::int64_t value = 0;
      if (json.maybe_integer(value)) slot = value;
    };
    while (json.next_key(key)) {
      if (key == "input_tokens") {
        count(input);
      } else if (key == "cache_read_input_tokens") {
        count(read);
      } else if (key == "cache_creation_input_tokens") {
        count(written);
      } else if (key == "output_tokens") {
        count(output);
      } else if (key == "output_tokens_details" && json.kind() == JsonKind::object) {
        json.begin_object();
        while (json.next_key(key)) {
          if (key == "thinking_tokens") count(thinking);
        }
      }
    }
  }

  Usage usage() const {
    Usage usage;
    if (input || read || written) {
      usage.input = input.value_or(0) + read.value_or(0) + written.value_or(0);
    }
    usage.cached = read;
    usage.written = written;
    usage.output = output;
    usage.reasoning = thinking;
    return usage;
  }
};

// Decodes Messages replies.
//
//   fresh ─► started ─► finished          any ─► failed (an error event was given)
class MessagesReplyDecoder : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    if (!valid_utf8(body)) return garbled("not valid UTF-8");
    JsonReader json(body);
    std::string_view key;
    Text type;
    JsonSlice content, error;
    ReplyStart start;
    if (!json.begin_object()) return garbled("not a JSON object");
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "id") {
        json.maybe_string(start.id);
      } else if (key == "model") {
        json.maybe_string(start.model);
      } else if (key == "content" && json.kind() == JsonKind::array) {
        json.value(content);
      } else if (key == "error") {
        json.value(error);
      } else if (key == "usage") {
        counts_.read_from(json);
      } else {
        read_stop_member(key, json);
      }
    }
    if (!json.finish()) return garbled(json.error(ErrorKind::upstream_garbled).message);
    if (type == "error" || (!error.empty() && error != "null" && content.empty())) {
      fail(decode_stream_error(body), sink);
      return {};
    }
    if (content.empty()) return garbled("without content");
    state_ = State::started;
    sink.on_event(start);
    JsonReader blocks(content);
    JsonSlice block;
    blocks.begin_array();
    while (blocks.next_item() && blocks.value(block)) {
      start_block(block, sink);
      close(sink);
    }
    finish(sink);
    return {};
  }

  Result<void> on_stream_event(std::string_view event, std::string_view data,
                               EventSink& sink) override {
    if (state_ == State::finished || state_ == State::failed || data.empty()) return {};
    if (event == "ping" || data == "[DONE]") return {};
    if (!valid_utf8(data)) return garbled("not valid UTF-8");
    JsonReader json(data);
    std::string_view key;
    Text type;
    JsonSlice delta, block, message, usage, error;
    if (!json.begin_object()) return garbled("not a JSON object");
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "delta") {
        json.value(delta);
      } else if (key == "content_block") {
        json.value(block);
      } else if (key == "message") {
        json.value(message);
      } else if (key == "usage") {
        json.value(usage);
      } else if (key == "error") {
        json.value(error);
      }
    }
    if (!json.finish()) return garbled(json.error(ErrorKind::upstream_garbled).message);
    std::string room;
    const std::string_view what = type.empty() ? event : type.decode_in(room);
    if (what == "content_block_delta") {
      return on_delta(delta, sink);
    } else if (what == "content_block_start") {
      if (state_ == State::fresh) return garbled("a block before message_start");
      close(sink);
      start_block(block, sink);
    } else if (what == "content_block_stop") {
      close(sink);
    } else if (what == "message_start") {
      on_message_start(message, sink);
    } else if (what == "message_delta") {
      on_message_delta(delta, usage);
    } else if (what == "message_stop") {
      if (state_ == State::fresh) return garbled("message_stop before message_start");
      finish(sink);
    } else if (what == "error" || (!error.empty() && error != "null")) {
      fail(decode_stream_error(data), sink);
    }
    return {};
  }

  Result<void> on_stream_end(EventSink& sink) override {
    if (state_ == State::finished || state_ == State::failed) return {};
    if (state_ == State::started && !stop_word_.empty()) {  // all but the last word was said
      finish(sink);
      return {};
    }
    return cut_short();
  }

 private:
  enum class State : std::uint8_t { fresh, started, finished, failed };

  static Error garbled(std::string_view why) {
    return llm_proxy::garbled("an Anthropic message", why);
  }

  void fail(Error error, EventSink& sink) {
    state_ = State::failed;
    sink.on_event(std::move(error));
  }

  void read_stop_member(std::string_view key, JsonReader& json) {
    Text text;
    if (key == "stop_reason") {
      if (json.maybe_string(text)) stop_word_ = text.decode();
    } else if (key == "stop_sequence") {
      if (json.maybe_string(text)) stop_sequence_ = text.decode();
    }
  }

  void on_message_start(JsonSlice message, EventSink& sink) {
    JsonReader json(message);
    std::string_view key;
    ReplyStart start;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "id") {
        json.maybe_string(start.id);
      } else if (key == "model") {
        json.maybe_string(start.model);
      } else if (key == "usage") {
        counts_.read_from(json);
      }
    }
    if (state_ != State::fresh) return;
    state_ = State::started;
    sink.on_event(start);
    if (const Usage usage = counts_.usage(); !usage.empty()) sink.on_event(UsageUpdate{usage});
  }

  void on_message_delta(JsonSlice delta, JsonSlice usage) {
    JsonReader json(delta);
    std::string_view key;
    if (json.kind() == JsonKind::object && json.begin_object()) {
      while (json.next_key(key)) read_stop_member(key, json);
    }
    JsonReader counts(usage);
    counts_.read_from(counts);
  }

  void start_block(JsonSlice block, EventSink& sink) {
    JsonReader json(block);
    std::string_view key;
    Text type, text, thinking, signature, data;
    JsonSlice input, citations;
    PartStart start;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "id") {
        json.maybe_string(start.call_id);
      } else if (key == "name") {
        json.maybe_string(start.name);
      } else if (key == "text") {
        json.maybe_string(text);
      } else if (key == "thinking") {
        json.maybe_string(thinking);
      } else if (key == "signature") {
        json.maybe_string(signature);
      } else if (key == "data") {
        json.maybe_string(data);
      } else if (key == "input") {
        json.value(input);
      } else if (key == "citations") {
        json.value(citations);
      }
    }
    start.index = index_;
    open_ = true;
    given_ = false;
    whole_input_.clear();
    if (type == "text") {
      start.kind = PartKind::text;
    } else if (type == "thinking" || type == "redacted_thinking") {
      start.kind = PartKind::thinking;
      start.redacted = type == "redacted_thinking";
    } else if (type == "tool_use") {
      start.kind = PartKind::tool_call;
      ++calls_;
      // Given at the end, unless pieces come.
      if (!input.empty() && input != "null") compact_to(input, whole_input_);
    } else {
      start.kind = PartKind::raw;
      start.owner = kFormat;
      start.raw_type = type.bytes();
      start.raw = block;
    }
    kind_ = start.kind;
    sink.on_event(start);
    give(kind_ == PartKind::thinking ? thinking : text, sink);
    if (kind_ == PartKind::text) give_citations(citations, sink);
    if (kind_ == PartKind::thinking) give_seal(start.redacted ? data : signature, sink);
  }

  void give(Text text, EventSink& sink) {
    if (text.empty() || kind_ == PartKind::raw) return;
    given_ = true;
    sink.on_event(PartDelta{index_, text});
  }

  void give_seal(Text token, EventSink& sink) {
    if (token.empty()) return;
    Seal seal;
    seal.maker = kFormat;
    seal.token = token;
    sink.on_event(PartSeal{index_, seal});
  }

  void give_citations(JsonSlice citations, EventSink& sink) {
    JsonReader json(citations);
    JsonSlice citation;
    if (json.kind() != JsonKind::array || !json.begin_array()) return;
    while (json.next_item() && json.value(citation)) {
      sink.on_event(PartAnnotation{index_, kFormat, citation});
    }
  }

  Result<void> on_delta(JsonSlice delta, EventSink& sink) {
    if (!open_) return garbled("a delta outside a block");
    JsonReader json(delta);
    std::string_view key;
    Text text, signature;
    JsonSlice citation;
    if (json.kind() != JsonKind::object || !json.begin_object()) return {};
    while (json.next_key(key)) {
      if (key == "text" || key == "partial_json" || key == "thinking") {
        json.maybe_string(text);
      } else if (key == "signature") {
        json.maybe_string(signature);
      } else if (key == "citation") {
        json.value(citation);
      }
    }
    give(text, sink);
    if (kind_ == PartKind::thinking) give_seal(signature, sink);
    if (!citation.empty()) sink.on_event(PartAnnotation{index_, kFormat, citation});
    return {};
  }

  void close(EventSink& sink) {
    if (!open_) return;
    if (kind_ == PartKind::tool_call && !given_) {
      sink.on_event(PartDelta{index_, Text::plain(whole_input_.empty() ? "{}" : whole_input_)});
    }
    sink.on_event(PartEnd{index_});
    ++index_;
    open_ = false;
  }

  void finish(EventSink& sink) {
    close(sink);
    if (const Usage usage = counts_.usage(); !usage.empty()) sink.on_event(UsageUpdate{usage});
    state_ = State::finished;
    Finish end;
    end.reason = finish_of(stop_word_, calls_ > 0);
    end.stop_sequence = Text::plain(stop_sequence_);
    end.word = stop_word_;
    sink.on_event(end);
  }

  State state_ = State::fresh;
  std::uint32_t index_ = 0;
  bool open_ = false;
  bool given_ = false;  // the open part has had text
  PartKind kind_ = PartKind::text;
  std::size_t calls_ = 0;
  std::string whole_input_;
  std::string stop_word_, stop_sequence_;
  Counts counts_;
};

// ================================================================================ hub → client

std::string_view stop_word(FinishReason reason, bool has_calls) {
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
class MessagesReplyEncoder : public ReplyEncoder {
 public:
  explicit MessagesReplyEncoder(const EncodeContext& context) : context_(context) {}

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
    json.member("stop_reason", stop_word(finish.reason, has_calls));
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
class StreamEncoder : public MessagesReplyEncoder {
 public:
  using MessagesReplyEncoder::MessagesReplyEncoder;

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

  void on(const Error& error) { kAnthropicMessages.encode_stream_error(error, out_); }

  bool started_ = false;
  std::uint32_t index_ = 0;
  std::string delta_head_, seal_behind_, buffer_;
  std::string refusal_;  // escaped; not told yet
};

// A reply as one message, written on Finish.
class WholeEncoder : public MessagesReplyEncoder {
 public:
  using MessagesReplyEncoder::MessagesReplyEncoder;

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
    kAnthropicMessages.encode_error(error, out_);
  }

  std::string head_, content_, text_, token_, id_, name_, raw_;
};

// ==================================================================================== observer

// A block that is output by its start alone: tool_use, server_tool_use.
bool is_call(std::string_view block_start) {
  return block_start.find("_use\"") != std::string_view::npos;
}

class MessagesObserver : public ReplyObserver {
 public:
  void on_stream_event(std::string_view event, std::string_view data) override {
    if (event == "content_block_delta" || (event == "content_block_start" && is_call(data))) {
      meaningful_ = true;  // an empty block is no output yet
    } else if (event == "message_stop") {
      terminated_ = true;
    } else if (event != "ping" && event != "content_block_stop") {
      read(data);
    }
  }

  void on_whole(std::string_view body) override {
    read(body);
    terminated_ = true;
    meaningful_ = !member(body, "content").empty();
  }

 private:
  void read(std::string_view data) {
    JsonReader json(data);
    std::string_view key;
    Text type;
    JsonSlice error;
    if (json.kind() != JsonKind::object || !json.begin_object()) return;
    while (json.next_key(key)) {
      if (key == "type") {
        json.maybe_string(type);
      } else if (key == "usage") {
        counts_.read_from(json);
      } else if (key == "error") {
        json.value(error);
      } else if (key == "stop_reason") {
        read_word(json);
      } else if ((key == "message" || key == "delta") && json.kind() == JsonKind::object) {
        json.begin_object();
        while (json.next_key(key)) {
          if (key == "usage") counts_.read_from(json);
          if (key == "stop_reason") read_word(json);
        }
      }
    }
    if (json.failed()) return;
    usage_ = counts_.usage();
    if (type == "error" || (!error.empty() && error != "null")) error_ = decode_stream_error(data);
    if (type == "message_stop") terminated_ = true;
    meaningful_ = meaningful_ || type == "content_block_delta" ||
                  (type == "content_block_start" && is_call(data));
  }

  void read_word(JsonReader& json) {
    Text word;
    if (json.maybe_string(word)) finish_word_ = word.decode();
  }

  Counts counts_;
};

// ====================================================================================== errors

struct ErrorTypeRow {
  ErrorKind kind;
  std::string_view type;
};

// Section 9.2. Kinds without a row are api_error.
constexpr std::array kErrorTypes{
    ErrorTypeRow{ErrorKind::malformed_request, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::unsupported, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::unauthenticated, "authentication_error"},
    ErrorTypeRow{ErrorKind::payment_required, "billing_error"},
    ErrorTypeRow{ErrorKind::forbidden, "permission_error"},
    ErrorTypeRow{ErrorKind::not_found, "not_found_error"},
    ErrorTypeRow{ErrorKind::unknown_model, "not_found_error"},
    ErrorTypeRow{ErrorKind::method_not_allowed, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::client_timeout, "timeout_error"},
    ErrorTypeRow{ErrorKind::body_too_large, "request_too_large"},
    ErrorTypeRow{ErrorKind::unprocessable, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::upgrade_required, "invalid_request_error"},
    ErrorTypeRow{ErrorKind::rate_limited, "rate_limit_error"},
    ErrorTypeRow{ErrorKind::head_too_large, "request_too_large"},
    ErrorTypeRow{ErrorKind::upstream_timeout, "timeout_error"},
    ErrorTypeRow{ErrorKind::overloaded, "overloaded_error"},
};

void encode_error(const Error& error, std::string& out) {
  std::string_view type = "api_error";
  for (const ErrorTypeRow& row : kErrorTypes) {
    if (row.kind == error.kind) type = row.type;
  }
  JsonWriter json(out);
  json.begin_object().member("type", "error").key("error").begin_object();
  json.member("type", type).member("message", std::string_view(error.message));
  if (!error.code.empty()) json.member("code", std::string_view(error.code));
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  out += "event: error\ndata: ";
  encode_error(error, out);
  out += "\n\n";
}

}  // namespace

const Codec kAnthropicMessages{
    kFormat,
    decode_request,
    encode_request,
    [](const Translation&) -> std::unique_ptr<ReplyDecoder> {
      return std::make_unique<MessagesReplyDecoder>();
    },
    make_encoder<StreamEncoder>,
    make_encoder<WholeEncoder>,
    []() -> std::unique_ptr<ReplyObserver> { return std::make_unique<MessagesObserver>(); },
    encode_error,
    encode_stream_error,
    decode_any_error,
};

}  // namespace llm_proxy
