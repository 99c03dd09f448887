// OpenAI Responses: writes the canonical request for an upstream.

#include <algorithm>

#include "formats/openai_responses/wire.h"
#include "formats/shared/arguments.h"
#include "formats/shared/ids.h"
#include "formats/shared/losses.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/same_format.h"
#include "formats/shared/seals.h"
#include "formats/shared/tool_names.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy::openai_responses {

namespace {

// Writes one request for a Responses upstream.
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
    if (auto lost = lose_rest(request_, translation_); !lost) return lost;
    name_tools();
    json_.begin_object();
    json_.member("model", model_);
    const std::size_t first = write_system();
    json_.key("input").begin_array();
    for (std::size_t i = first; i < request_.messages.size(); ++i)
      write_message(request_.messages[i]);
    json_.end_array();
    write_tools();
    write_output_format();
    write_reasoning();
    write_settings();
    json_.member_bool("store", false);
    if (request_.stream) json_.member_bool("stream", true);
    json_.end_object();
    if (refused_) return *std::move(refused_);
    return {};
  }

 private:
  void write_again() {
    write_same_format(
        request_, "input", holds_foreign(request_, kFormat), json_,
        [this](JsonWriter& json) { json.member("model", model_); },
        [this](JsonSlice) {
          json_.begin_array();
          for (const Message& message : request_.messages) {
            if (!message.source.empty() && !is_foreign(message, kFormat)) json_.raw(message.source);
          }
          json_.end_array();
        });
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
  std::size_t write_system() {
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

  void write_message(const Message& message) {
    for (const Part& part : message.parts) {
      std::visit([&](const auto& value) { this->write_part(message, value); }, part);
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

  void write_part(const Message& message, const TextPart& text) {
    if (text.text.empty()) return;
    open_message(message);
    const bool said = message.role == Role::assistant;
    json_.begin_object()
        .member("type", said ? "output_text" : "input_text")
        .member("text", text.text);
    json_.end_object();
  }

  void write_part(const Message& message, const RefusalPart& refusal) {
    open_message(message);
    json_.begin_object().member("type", "refusal").member("refusal", refusal.text).end_object();
  }

  void write_part(const Message& message, const MediaPart& media) {
    if (message.role == Role::assistant) {
      lose(translation_, Loss::Class::degrade, "assistant media");
      return;
    }
    open_message(message);
    this->write_media(media);
  }

  void write_media(const MediaPart& media) {
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

  void write_part(const Message&, const ThinkingPart& thinking) {
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

  void write_part(const Message&, const ToolCallPart& call) {
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

  void write_part(const Message&, const ToolResultPart& result) {
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
          write_media(*picture);
        }
      }
      json_.end_array();
    }
    json_.end_object();
    if (result.is_error) lose(translation_, Loss::Class::drop, "is_error");
  }

  void write_part(const Message&, const RawPart& raw) {
    lose(translation_, Loss::Class::degrade, "server tool items", raw.type);
  }

  void write_tools() {
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
    if (request_.tool_choice) write_tool_choice(*request_.tool_choice);
    if (request_.parallel_tool_calls) {
      json_.member_bool("parallel_tool_calls", *request_.parallel_tool_calls);
    }
  }

  void write_tool_choice(const ToolChoice& choice) {
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

  void write_output_format() {
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

  void write_reasoning() {
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

  void write_settings() {
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
  const Text model_;
  std::vector<std::string> names_;
  std::optional<Error> refused_;
  bool message_open_ = false;
};

}  // namespace

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

}  // namespace llm_proxy::openai_responses
