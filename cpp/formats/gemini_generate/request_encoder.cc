// Gemini generateContent: writes the canonical request for an upstream.

#include <algorithm>
#include <array>
#include <map>

#include "formats/gemini_generate/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/losses.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/same_format.h"
#include "formats/shared/seals.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::gemini_generate {

namespace {

// The generation in "gemini-3.5-flash", 0 when the name does not say.
int generation(std::string_view model) {
  const std::size_t at = model.find("gemini-");
  if (at == std::string_view::npos || at + 7 >= model.size()) return 0;
  const char digit = model[at + 7];
  return digit >= '0' && digit <= '9' ? digit - '0' : 0;
}

// Writes one request for a Gemini upstream.
class RequestEncoder {
 public:
  RequestEncoder(const Request& request, Translation& translation, std::string& out)
      : request_(request),
        translation_(translation),
        json_(out),
        modern_(generation(translation.upstream_model) >= 3) {}

  Result<void> run() {
    if (keeps_format(request_, kFormat)) {
      write_again();
      if (refused_) return *std::move(refused_);
      return {};
    }
    if (auto lost = lose_rest(request_, translation_); !lost) return lost;
    json_.begin_object();
    const std::size_t first = first_message();
    write_system(first);
    json_.key("contents");
    write_messages(first);
    write_tools();
    write_settings();
    json_.end_object();
    if (refused_) return *std::move(refused_);
    return {};
  }

 private:
  void write_again() {
    // The path names the model.
    write_same_format(
        request_, "contents", holds_foreign(request_, kFormat), json_, [](JsonWriter&) {},
        [this](JsonSlice) { write_messages(first_message()); });
  }
  // The index of the first message behind the leading system text.
  std::size_t first_message() const {
    std::size_t first = 0;
    while (first < request_.messages.size() && is_system(request_.messages[first].role)) ++first;
    return first;
  }

  void refuse(std::string_view field, std::string_view why) {
    if (!refused_) refused_ = refusal_of(field, why);
  }

  std::string tool_name(Text name, Text tool_namespace, CallKind kind) {
    return upstream_tool_name(translation_, name, tool_namespace, kind, 64);
  }

  void write_system(std::size_t end) {
    bool any = false;
    for (std::size_t i = 0; i < end; ++i) {
      for (const Part& part : request_.messages[i].parts) {
        const auto* text = std::get_if<TextPart>(&part);
        if (text == nullptr || text->text.empty()) continue;
        if (!any) json_.key("systemInstruction").begin_object().key("parts").begin_array();
        any = true;
        json_.begin_object().member("text", text->text).end_object();
      }
    }
    if (any) json_.end_array().end_object();
  }

  void write_messages(std::size_t first) {
    // The current turn begins at the last message that a user wrote; only its calls need
    // signatures.
    current_turn_ = request_.messages.size();
    while (current_turn_ > first && !is_users(request_.messages[current_turn_ - 1]))
      --current_turn_;
    json_.begin_array();
    for (std::size_t i = first; i < request_.messages.size(); ++i) write_message(i);
    close_turn();
    json_.end_array();
  }

  static bool is_users(const Message& message) {
    return message.role == Role::user &&
           std::none_of(message.parts.begin(), message.parts.end(), [](const Part& part) {
             return std::holds_alternative<ToolResultPart>(part);
           });
  }

  // --- turns: neighbours of one role become one; results stand first in theirs

  void write_message(std::size_t index) {
    const Message& message = request_.messages[index];
    const bool model = message.role == Role::assistant;
    if (turn_open_ && model != turn_is_model_) close_turn();
    if (!turn_open_) {
      turn_open_ = true;
      turn_is_model_ = model;
      signed_ = false;
      if (model) calls_.clear();
    }
    index_ = index;
    for (const Part& part : message.parts) {
      std::visit([&](const auto& value) { this->write_part(message, value); }, part);
    }
  }

  void close_turn() {
    if (!turn_open_) return;
    turn_open_ = false;
    flush_signature();
    if (results_.empty() && parts_.empty()) return;
    json_.begin_object().member("role", turn_is_model_ ? "model" : "user");
    json_.key("parts").begin_array();
    std::stable_sort(results_.begin(), results_.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [order, result] : results_) json_.raw(result);
    if (!parts_.empty()) json_.raw(parts_);
    json_.end_array().end_object();
    results_.clear();
    parts_.clear();
  }

  // Adds one part object to the open turn.
  template <typename Build>
  void add_part(Build build) {
    if (!parts_.empty()) parts_ += ',';
    std::string one;
    JsonWriter json(one);
    json.begin_object();
    build(json);
    json.end_object();
    parts_ += one;
  }

  void flush_signature() {
    if (signature_.empty()) return;
    const Text signature = std::exchange(signature_, Text());
    add_part(
        [&](JsonWriter& json) { json.member("text", "").member("thoughtSignature", signature); });
  }

  void write_part(const Message& message, const TextPart& text) {
    const Text own = text.seal.maker == kFormat ? text.seal.token : Text();
    if (text.text.empty() && own.empty()) return;
    if (is_system(message.role)) {
      add_part([&](JsonWriter& json) {
        json.key("text")
            .begin_string()
            .append("<system>\n")
            .append(text.text)
            .append("\n</system>")
            .end_string();
      });
      lose(translation_, Loss::Class::degrade, "system message in the conversation");
      return;
    }
    if (!own.empty()) flush_signature();
    add_part([&](JsonWriter& json) {
      json.member("text", text.text).optional("thoughtSignature", own);
    });
  }

  void write_part(const Message&, const RefusalPart& refusal) {
    add_part([&](JsonWriter& json) { json.member("text", refusal.text); });
  }

  // Gemini's own thoughts go back; their signature stands on the call that follows, or on a last
  // empty text.
  void write_part(const Message&, const ThinkingPart& thinking) {
    if (thinking.seal.empty() || thinking.seal.maker != kFormat) return;
    flush_signature();
    if (!thinking.text.empty()) {
      add_part([&](JsonWriter& json) {
        json.member("text", thinking.text).member_bool("thought", true);
      });
    }
    signature_ = thinking.seal.token;
  }

  void write_part(const Message&, const ToolCallPart& call) {
    Text signature = call.seal.maker == kFormat ? call.seal.token : Text();
    if (signature.empty()) {
      signature = std::exchange(signature_, Text());
    } else {
      flush_signature();
    }
    if (signature.empty() && modern_ && !signed_ && index_ >= current_turn_)
      signature = Text::plain(kNoSignatureBytes);
    signed_ = true;
    calls_.push_back(call.id.decode());
    names_[calls_.back()] = tool_name(call.name, call.tool_namespace, call.kind);
    add_part([&](JsonWriter& json) {
      json.key("functionCall").begin_object();
      json.optional("id", call.id);
      json.member("name", std::string_view(names_[calls_.back()])).key("args");
      write_arguments_object(call, json);
      json.end_object();
      json.optional("thoughtSignature", signature);
    });
  }

  void write_part(const Message&, const ToolResultPart& result) {
    const std::string id = result.call_id.decode();
    const auto known = names_.find(id);
    const std::string name = known != names_.end()  ? known->second
                             : !result.name.empty() ? tool_name(result.name, {}, result.kind)
                                                    : "unknown";
    std::vector<const MediaPart*> media;
    std::string one;
    JsonWriter json(one);
    json.begin_object().key("functionResponse").begin_object();
    json.optional("id", result.call_id).member("name", std::string_view(name)).key("response");
    if (!result.response_object.empty()) {
      json.raw(result.response_object);
    } else {
      json.begin_object().key(result.is_error ? "error" : "output").begin_string();
      for (const Part& part : result.content) json.append(Text::escaped(result_text(part)));
      json.end_string().end_object();
    }
    for (const Part& part : result.content) {
      const auto* picture = std::get_if<MediaPart>(&part);
      if (picture != nullptr && picture->source != MediaPart::Source::text) {
        media.push_back(picture);
      }
    }
    if (modern_ && !media.empty()) {
      json.key("parts").begin_array();
      for (const MediaPart* picture : media) this->write_media(*picture, json);
      json.end_array();
    }
    json.end_object().end_object();
    const auto place = std::find(calls_.begin(), calls_.end(), id);
    results_.emplace_back(place - calls_.begin(), std::move(one));
    if (!modern_) {
      for (const MediaPart* picture : media) add_media_part(*picture);
    }
  }

  void write_part(const Message&, const MediaPart& media) { add_media_part(media); }

  void add_media_part(const MediaPart& media) {
    std::string one;
    JsonWriter json(one);
    this->write_media(media, json);
    if (one.empty()) return;
    if (!parts_.empty()) parts_ += ',';
    parts_ += one;
  }

  void write_media(const MediaPart& media, JsonWriter& json) {
    using Source = MediaPart::Source;
    if (media.source == Source::file_id && request_.format != kFormat) {
      return refuse("file_id", "a file id belongs to one provider");
    }
    json.begin_object();
    if (media.source == Source::text) {
      json.member("text", media.data);
    } else if (media.source == Source::base64) {
      json.key("inlineData").begin_object();
      json.member("mimeType", media.mime_type.empty() ? default_mime(media.kind) : media.mime_type);
      json.member("data", media.data).end_object();
    } else {
      json.key("fileData").begin_object();
      json.member("mimeType", media.mime_type.empty() ? mime_of_url(media) : media.mime_type);
      json.member("fileUri", media.data).end_object();
    }
    json.end_object();
  }

  static Text default_mime(MediaKind kind) {
    switch (kind) {
      case MediaKind::image:
        return Text::plain("image/png");
      case MediaKind::audio:
        return Text::plain("audio/wav");
      case MediaKind::video:
        return Text::plain("video/mp4");
      case MediaKind::document:
        break;
    }
    return Text::plain("application/pdf");
  }

  static Text mime_of_url(const MediaPart& media) {
    static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kEndings{
        {{".jpg", "image/jpeg"},
         {".jpeg", "image/jpeg"},
         {".png", "image/png"},
         {".gif", "image/gif"},
         {".webp", "image/webp"},
         {".pdf", "application/pdf"}}};
    std::string_view url = media.data.bytes();
    url = url.substr(0, url.find('?'));
    for (const auto& [ending, mime] : kEndings) {
      if (url.size() > ending.size() && url.substr(url.size() - ending.size()) == ending)
        return Text::plain(mime);
    }
    return media.kind == MediaKind::image ? Text::plain("image/jpeg") : default_mime(media.kind);
  }

  void write_part(const Message&, const RawPart& raw) {
    if (raw.owner == kFormat) {
      if (!parts_.empty()) parts_ += ',';
      parts_ += raw.json;
      return;
    }
    lose(translation_, Loss::Class::degrade, "server tool items", raw.type);
  }

  // --- tools and settings

  void write_tools() {
    bool any = false;
    for (const Tool& tool : request_.tools) {
      if (tool.kind == Tool::Kind::server && may_be_left_out(request_, tool)) {
        lose(translation_, Loss::Class::degrade, "server tool", tool.type);
        continue;
      }
      if (tool.kind == Tool::Kind::server) {
        refuse("tools", "a tool that another provider runs has no equal here");
        continue;
      }
      if (!is_offered(tool)) continue;
      const bool custom = tool.kind == Tool::Kind::custom;
      if (!any) {
        json_.key("tools").begin_array().begin_object().key("functionDeclarations").begin_array();
      }
      any = true;
      json_.begin_object();
      json_.member("name",
                   std::string_view(tool_name(tool.name, tool.tool_namespace,
                                              custom ? CallKind::custom : CallKind::function)));
      json_.optional("description", tool.description);
      json_.optional_raw("parametersJsonSchema",
                         custom ? JsonSlice(kWrappedInputSchema) : useful_schema(tool.schema));
      json_.end_object();
    }
    if (!any) return;
    json_.end_array().end_object().end_array();
    if (request_.tool_choice) write_tool_choice(*request_.tool_choice);
    if (request_.parallel_tool_calls == false) {
      lose(translation_, Loss::Class::degrade, "parallel_tool_calls");
    }
  }

  // Gemini refuses an object type without properties; a function without arguments leaves its
  // schema out.
  static JsonSlice useful_schema(JsonSlice schema) {
    if (schema.empty()) return {};
    const JsonSlice properties = member(schema, "properties");
    std::string compact;
    if (!properties.empty()) compact_to(properties, compact);
    const bool bare = compact.empty() || compact == "{}";
    const bool more = !member(schema, "anyOf").empty() || !member(schema, "oneOf").empty() ||
                      !member(schema, "allOf").empty() || !member(schema, "$ref").empty();
    return bare && !more ? JsonSlice() : schema;
  }

  void write_tool_choice(const ToolChoice& choice) {
    using Mode = ToolChoice::Mode;
    std::string_view mode = "AUTO";
    if (choice.mode == Mode::none) mode = "NONE";
    if (choice.mode == Mode::required || choice.mode == Mode::one) mode = "ANY";
    if (choice.mode == Mode::subset) mode = choice.subset_required ? "ANY" : "VALIDATED";
    json_.key("toolConfig").begin_object().key("functionCallingConfig").begin_object();
    json_.member("mode", mode);
    if (choice.mode == Mode::one || choice.mode == Mode::subset) {
      json_.key("allowedFunctionNames").begin_array();
      for (const Text& name : choice.names) {
        CallKind kind = CallKind::function;
        for (const Tool& tool : request_.tools) {
          if (tool.name == name.decode() && tool.kind == Tool::Kind::custom)
            kind = CallKind::custom;
        }
        json_.string(std::string_view(tool_name(name, {}, kind)));
      }
      json_.end_array();
    }
    json_.end_object().end_object();
  }

  void write_settings() {
    const Sampling& s = request_.sampling;
    std::string config;
    JsonWriter json(config);
    json.begin_object();
    json.optional_raw("temperature", s.temperature)
        .optional_raw("topP", s.top_p)
        .optional_raw("topK", s.top_k);
    if (s.n) json.member("candidateCount", *s.n);
    if (s.max_output_tokens) json.member("maxOutputTokens", *s.max_output_tokens);
    if (!s.stop.empty()) {
      json.key("stopSequences").begin_array();
      for (const Text& stop : s.stop) json.string(stop);
      json.end_array();
    }
    json.optional_raw("seed", s.seed);
    json.optional_raw("presencePenalty", s.presence_penalty)
        .optional_raw("frequencyPenalty", s.frequency_penalty);
    if (s.logprobs == "true")
      json.member_bool("responseLogprobs", true).optional_raw("logprobs", s.top_logprobs);
    if (request_.output && request_.output->kind != OutputFormat::Kind::text) {
      json.member("responseMimeType", "application/json");
      json.optional_raw("responseJsonSchema", request_.output->schema);
    }
    write_thinking(json);
    json.end_object();
    if (config != "{}") json_.member_raw("generationConfig", config);
    if (!s.logit_bias.empty()) lose(translation_, Loss::Class::drop, "logit_bias");
    if (!request_.verbosity.empty()) lose(translation_, Loss::Class::drop, "verbosity");
    if (!request_.user.empty()) lose(translation_, Loss::Class::drop, "user");
  }

  void write_thinking(JsonWriter& json) {
    const Reasoning& reasoning = request_.reasoning;
    const auto effort = effort_of(reasoning);
    const bool thinks = effort && *effort != Reasoning::Effort::none;
    // Chat has no switch for visible thoughts: whoever asks for an effort gets them.
    const bool visible =
        reasoning.visible.value_or(thinks && request_.format != WireFormat::openai_responses);
    if (!effort && !visible) return;
    json.key("thinkingConfig").begin_object();
    if (visible && (!effort || thinks)) json.member_bool("includeThoughts", true);
    if (effort && modern_) {
      static constexpr std::array<std::string_view, 7> kLevels{
          "MINIMAL", "MINIMAL", "LOW", "MEDIUM", "HIGH", "HIGH", "HIGH"};
      json.member("thinkingLevel", kLevels[static_cast<std::size_t>(*effort)]);
    } else if (effort) {
      constexpr std::int64_t kMost = 24576;  // what every model that thinks takes
      const std::int64_t budget = reasoning.budget_tokens ? *reasoning.budget_tokens
                                  : thinks                ? budget_of(*effort)
                                                          : 0;
      json.member("thinkingBudget", std::min(budget, kMost));
    }
    json.end_object();
  }

  const Request& request_;
  Translation& translation_;
  JsonWriter json_;
  const bool modern_;  // Gemini 3: signatures demanded, levels for budgets, media inside results
  std::optional<Error> refused_;

  bool turn_open_ = false, turn_is_model_ = false, signed_ = false;
  std::size_t index_ = 0, current_turn_ = 0;
  std::string parts_;  // of the open turn, comma separated
  std::vector<std::pair<std::ptrdiff_t, std::string>>
      results_;                               // of the open turn, with their call's place
  std::vector<std::string> calls_;            // ids of the last model turn, in order
  std::map<std::string, std::string> names_;  // by call id
  Text signature_;                            // waits for the part that carries it
};

}  // namespace

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

}  // namespace llm_proxy::gemini_generate
