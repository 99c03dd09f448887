// Anthropic Messages: writes the canonical request for an upstream.

#include <algorithm>
#include <array>
#include <charconv>

#include "formats/anthropic_messages/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/losses.h"
#include "formats/shared/media.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/same_format.h"
#include "formats/shared/seals.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::anthropic_messages {

namespace {

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
        model_(upstream_model(request, translation).decode()),
        row_(model_row(model_)) {}

  Result<void> run() {
    if (keeps_format(request_, kFormat)) {
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

  void write_again() {
    write_same_format(
        request_, "messages", holds_foreign(request_, kFormat), json_,
        [this](JsonWriter& json) { json.member("model", std::string_view(model_)); },
        [this](JsonSlice messages) { write_messages_again(messages); });
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

  // Chooses the kind of thinking that the model takes, and leaves out what it excludes.
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

}  // namespace

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

}  // namespace llm_proxy::anthropic_messages
