// Gemini generateContent: reads a client's request into the canonical model.

#include <algorithm>

#include "formats/gemini_generate/wire.h"
#include "formats/shared/ids.h"
#include "formats/shared/media.h"
#include "formats/shared/provider_errors.h"
#include "formats/shared/reasoning.h"
#include "formats/shared/seals.h"
#include "json/reader.h"

namespace llm_proxy::gemini_generate {

namespace {

// Reads one body. Lives for one decode_request(); every function takes the value that comes next.
class RequestDecoder {
 public:
  explicit RequestDecoder(std::string_view body) : json_(body) { request_.format = kFormat; }

  Result<Request> run(std::string_view model, bool stream) {
    request_.model = request_.own(std::string(model));
    request_.stream = stream;
    request_.include_usage = true;
    std::string_view key;
    if (json_.begin_object()) {
      while (json_.next_key(key)) {
        const std::string_view raw_name = request_.owned.emplace_back(key);
        Camel camel;
        const std::string_view name = camel(raw_name);
        const std::size_t start = json_.position();
        if (json_.kind() == JsonKind::null) {
          json_.null();
          continue;
        }
        if (!read_setting(name)) {
          json_.skip();
          request_.rest.emplace_back(
              name == raw_name ? raw_name : request_.owned.emplace_back(name), json_.since(start));
        }
        request_.members.emplace_back(raw_name, json_.since(start));
      }
    }
    if (!json_.finish()) return json_.error(ErrorKind::malformed_request);
    if (system_.has_value())
      request_.messages.insert(request_.messages.begin(), std::move(*system_));
    return std::move(request_);
  }

 private:
  struct OpenCall {
    Text id, name;
    bool answered = false;
  };

  bool read_setting(std::string_view name) {
    if (name == "contents") return read_each([&] { read_message(); }), true;
    if (name == "systemInstruction") return read_system(), true;
    if (name == "tools") return read_each([&] { read_tools(); }), true;
    if (name == "toolConfig") return read_tool_config(), true;
    if (name == "generationConfig") return read_settings(), true;
    if (name == "model") {
      Text model;
      json_.maybe_string(model);
      if (request_.model.empty()) request_.model = model;
      return true;
    }
    return false;
  }

  // A list, or one thing without its brackets.
  template <typename Read>
  void read_each(Read read) {
    if (json_.kind() != JsonKind::array) return read();
    json_.begin_array();
    while (json_.next_item()) read();
  }

  void read_system() {
    Message& message = system_.emplace();
    message.role = Role::system;
    if (json_.kind() == JsonKind::string) {
      Text text;
      json_.string(text);
      message.parts.push_back(TextPart{.text = text});
      return;
    }
    read_content(message);
  }

  void read_message() {
    if (json_.kind() == JsonKind::string) {
      Message message;
      Text text;
      json_.string(text);
      message.parts.push_back(TextPart{.text = text});
      request_.messages.push_back(std::move(message));
      return;
    }
    const std::size_t start = json_.position();
    Message message;
    read_content(message);
    message.source = json_.since(start);
    request_.messages.push_back(std::move(message));
  }

  void read_content(Message& message) {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "role") {
        Text role;
        json_.maybe_string(role);
        if (message.role != Role::system)
          message.role = role == "model" ? Role::assistant : Role::user;
      } else if (key == "parts") {
        read_each([&] { read_part(message.parts); });
      }
    }
  }

  struct RawPartFields {
    Text text, signature, type;
    bool has_text = false, thought = false;
    JsonSlice call, response, inline_data, file_data, other;
    std::string_view other_key;
  };

  void read_part(std::vector<Part>& out) {
    if (json_.kind() == JsonKind::string) {
      Text text;
      json_.string(text);
      out.push_back(TextPart{.text = text});
      return;
    }
    const std::size_t start = json_.position();
    RawPartFields fields;
    std::string_view key;
    Camel camel;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      const std::string_view name = camel(key);
      if (json_.kind() == JsonKind::null) {
        json_.null();
      } else if (name == "text") {
        fields.has_text = json_.string(fields.text);
      } else if (name == "thought") {
        if (json_.kind() == JsonKind::boolean) json_.boolean(fields.thought);
      } else if (name == "thoughtSignature") {
        json_.maybe_string(fields.signature);
      } else if (name == "functionCall") {
        json_.object(fields.call);
      } else if (name == "functionResponse") {
        json_.object(fields.response);
      } else if (name == "inlineData") {
        json_.object(fields.inline_data);
      } else if (name == "fileData") {
        json_.object(fields.file_data);
      } else if (name != "videoMetadata" && name != "mediaResolution" && name != "partMetadata") {
        fields.other_key = name == "executableCode"        ? "executableCode"
                           : name == "codeExecutionResult" ? "codeExecutionResult"
                           : name == "toolCall"            ? "toolCall"
                           : name == "toolResponse"        ? "toolResponse"
                                                           : "part";
        json_.value(fields.other);
      }
    }
    if (json_.failed()) return;
    add_part(fields, json_.since(start), out);
  }

  void add_part(RawPartFields& fields, JsonSlice source, std::vector<Part>& out) {
    Seal own = take_seal(fields, out);
    if (!fields.call.empty()) {
      out.push_back(call_part(fields.call, own));
    } else if (!fields.response.empty()) {
      out.push_back(result_part(fields.response));
    } else if (!fields.inline_data.empty()) {
      out.push_back(inline_part(fields.inline_data));
    } else if (!fields.file_data.empty()) {
      out.push_back(file_part(fields.file_data));
    } else if (!fields.other.empty()) {
      out.push_back(RawPart{kFormat, fields.other_key, source});
    } else if (fields.thought) {
      if (!fields.text.empty() || !own.empty())
        out.push_back(ThinkingPart{.text = fields.text, .seal = own});
    } else if (fields.has_text || !own.empty()) {
      if (!fields.text.empty() || !own.empty())
        out.push_back(TextPart{.text = fields.text, .seal = own});
    }
  }

  // Gemini's own signature; another maker's goes to the thinking it belongs to.
  Seal take_seal(RawPartFields& fields, std::vector<Part>& out) {
    if (fields.signature.empty() || fields.signature == kNoSignature ||
        fields.signature == kNoSignatureBytes) {
      return {};
    }
    const auto decoded = carried_token(fields.signature);
    if (!decoded) return Seal{kFormat, fields.signature, {}};
    const OpenedSeal opened = opened_seal(request_.own(*decoded), kFormat);
    if (!opened.carried) return Seal{kFormat, fields.signature, {}};
    if (fields.thought && !opened.redacted) {
      out.push_back(ThinkingPart{.text = fields.text, .seal = opened.seal});
      fields.text = {};
      // Streamed text and its seal come in two parts.
      if (out.size() > 1) {
        auto* before = std::get_if<ThinkingPart>(&out[out.size() - 2]);
        auto* now = std::get_if<ThinkingPart>(&out.back());
        if (before != nullptr && before->seal.empty() && now->text.empty()) {
          before->seal = now->seal;
          out.pop_back();
        }
      }
      return {};
    }
    if (!opened.redacted) {
      for (auto part = out.rbegin(); part != out.rend(); ++part) {
        if (std::holds_alternative<ToolCallPart>(*part)) break;
        auto* thinking = std::get_if<ThinkingPart>(&*part);
        if (thinking == nullptr) continue;
        if (thinking->seal.empty() && !thinking->redacted) {
          thinking->seal = opened.seal;
          return {};
        }
        break;
      }
    }
    // Its text did not come back; it stands first in the turn, where Anthropic wants it, or before
    // what carries it.
    ThinkingPart thinking{.seal = opened.seal, .redacted = opened.redacted};
    if (fields.thought) thinking.text = fields.text;
    fields.text = fields.thought ? Text() : fields.text;
    const bool first = opened.seal.maker == WireFormat::anthropic_messages &&
                       std::none_of(out.begin(), out.end(), [](const Part& part) {
                         return std::holds_alternative<ThinkingPart>(part);
                       });
    out.insert(first ? out.begin() : out.end(), thinking);
    return {};
  }

  // The marker and the token, when the signature is one of ours.
  static std::optional<std::string> carried_token(Text signature) {
    // Markers begin "x1:" or "x1r"; only what may be one is decoded whole.
    const std::string_view bytes = signature.bytes();
    if (bytes.size() < 8) return std::nullopt;
    const auto head = decode_base64(bytes.substr(0, 4));
    if (!head || head->size() != 3 || (*head)[1] != '1' ||
        ((*head)[2] != ':' && (*head)[2] != 'r')) {
      return std::nullopt;
    }
    return decode_base64(signature.has_escapes() ? signature.decode() : std::string(bytes));
  }

  Part call_part(JsonSlice source, const Seal& seal) {
    ToolCallPart call{.seal = seal};
    JsonReader json(source);
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == "name") json.maybe_string(call.name);
      if (key == "id") json.maybe_string(call.id);
      if (key == "args" && json.kind() == JsonKind::object) json.object(call.arguments_object);
    }
    if (call.arguments_object.empty()) call.arguments_object = "{}";
    if (call.id.empty()) {
      call.id = request_.own(made_id("call_", "in the conversation", calls_.size()));
      call.id_made_up = true;
    }
    calls_.push_back({request_.unescaped(call.id), request_.unescaped(call.name)});
    return call;
  }

  Part result_part(JsonSlice source) {
    ToolResultPart result;
    Text id;
    std::vector<Part> media;
    JsonReader json(source);
    std::string_view key;
    Camel camel;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == "name") json.maybe_string(result.name);
      if (key == "id") json.maybe_string(id);
      if (key == "response" && json.kind() == JsonKind::object) json.object(result.response_object);
      if (key == "parts" && json.kind() == JsonKind::array) {
        json.begin_array();
        while (json.next_item()) {
          JsonSlice piece;
          if (!json.object(piece)) break;
          JsonSlice data = llm_proxy::member(piece, "inlineData");
          if (data.empty()) data = llm_proxy::member(piece, "inline_data");
          if (!data.empty()) media.push_back(inline_part(data));
          JsonSlice file = llm_proxy::member(piece, "fileData");
          if (file.empty()) file = llm_proxy::member(piece, "file_data");
          if (!file.empty()) media.push_back(file_part(file));
        }
      }
    }
    result.call_id = answered_name(request_.unescaped(id), request_.unescaped(result.name));
    add_result_text(result);
    for (Part& part : media) result.content.push_back(std::move(part));
    return result;
  }

  // The call a result answers: by id, else the first unanswered one of that name, else the first
  // unanswered.
  Text answered_name(Text id, Text name) {
    const auto take = [&](auto matches) -> OpenCall* {
      for (OpenCall& call : calls_) {
        if (!call.answered && matches(call)) {
          call.answered = true;
          return &call;
        }
      }
      return nullptr;
    };
    OpenCall* call =
        id.empty() ? nullptr : take([&](const OpenCall& c) { return c.id.bytes() == id.bytes(); });
    if (call == nullptr)
      call = take([&](const OpenCall& c) { return c.name.bytes() == name.bytes(); });
    if (call == nullptr && name.empty()) call = take([](const OpenCall&) { return true; });
    if (call != nullptr) return call->id;
    return id.empty() ? request_.own(made_id("call_", "unasked", calls_.size())) : id;
  }

  // The text of a result: what stands under the one key everybody uses, else the whole object.
  void add_result_text(ToolResultPart& result) {
    const JsonSlice object = result.response_object;
    if (object.empty()) return;
    JsonReader json(object);
    std::string_view key;
    int members = 0;
    std::optional<Text> text;
    JsonSlice value;
    bool error = false;
    json.begin_object();
    while (json.next_key(key)) {
      ++members;
      const bool usual = key == "output" || key == "result" || key == "content" || key == "error";
      if (key == "error") error = true;
      if (usual && json.kind() == JsonKind::string) {
        Text found;
        json.string(found);
        text = found;
      } else if (usual) {
        json.value(value);
      }
    }
    result.is_error = error;
    if (members == 0) return;
    if (members == 1 && text) {
      result.content.push_back(TextPart{.text = *text});
      return;
    }
    std::string compact;
    compact_to(members == 1 && !value.empty() ? value : object, compact);
    result.content.push_back(TextPart{.text = request_.own(std::move(compact))});
  }

  // Google's own libraries write the alphabet of URLs, which no other provider takes.
  Text plain_base64(Text digits) {
    if (digits.bytes().find_first_of("-_") == std::string_view::npos) return digits;
    std::string plain = digits.decode();
    std::replace(plain.begin(), plain.end(), '-', '+');
    std::replace(plain.begin(), plain.end(), '_', '/');
    return request_.own(std::move(plain));
  }

  Part inline_part(JsonSlice source) {
    MediaPart media;
    media.mime_type = request_.unescaped(camel_member(source, "mimeType", "mime_type"));
    media.data = plain_base64(string_member(source, "data"));
    media.filename = camel_member(source, "displayName", "display_name");
    media.kind = media_kind_of(media.mime_type);
    return media;
  }

  Part file_part(JsonSlice source) {
    MediaPart media{.source = MediaPart::Source::url};
    media.mime_type = request_.unescaped(camel_member(source, "mimeType", "mime_type"));
    media.data = request_.unescaped(camel_member(source, "fileUri", "file_uri"));
    media.kind = media_kind_of(media.mime_type);
    // Files of the Files API and of buckets are known to this provider alone.
    const std::string_view uri = media.data.bytes();
    if (uri.find("generativelanguage.googleapis.com") != std::string_view::npos ||
        uri.substr(0, 5) == "gs://" || uri.substr(0, 6) == "files/") {
      media.source = MediaPart::Source::file_id;
    }
    return media;
  }

  static MediaKind media_kind_of(Text mime_type) {
    const std::string_view mime = mime_type.bytes().substr(0, 5);
    return mime == "image"   ? MediaKind::image
           : mime == "audio" ? MediaKind::audio
           : mime == "video" ? MediaKind::video
                             : MediaKind::document;
  }

  // --- tools and settings

  void read_tools() {
    std::string_view key;
    Camel camel;
    if (json_.kind() != JsonKind::object) {
      json_.skip();
      return;
    }
    json_.begin_object();
    while (json_.next_key(key)) {
      const std::string_view name = camel(key);
      if (name == "functionDeclarations") {
        read_each([&] { read_function(); });
        continue;
      }
      Tool tool{.kind = Tool::Kind::server};
      tool.owner = kFormat;
      tool.type = request_.owned.emplace_back(name);
      tool.name = Text::plain(tool.type);
      const std::size_t start = json_.position();
      json_.skip();
      tool.source = json_.since(start);
      if (tool.source != "null") request_.tools.push_back(tool);
    }
  }

  void read_function() {
    Tool tool;
    tool.owner = kFormat;
    std::string_view key;
    Camel camel;
    const std::size_t start = json_.position();
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      const std::string_view name = camel(key);
      if (name == "name") json_.maybe_string(tool.name);
      if (name == "description") json_.maybe_string(tool.description);
      if ((name == "parameters" || name == "parametersJsonSchema") &&
          json_.kind() == JsonKind::object) {
        JsonSlice schema;
        if (json_.object(schema)) tool.schema = json_schema(schema, request_);
      }
    }
    tool.source = json_.since(start);
    request_.tools.push_back(tool);
  }

  void read_tool_config() {
    std::string_view key;
    Camel camel;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (camel(key) == "functionCallingConfig" && json_.kind() == JsonKind::object)
        read_tool_choice();
    }
  }

  void read_tool_choice() {
    ToolChoice choice;
    std::string mode;
    std::string_view key;
    Camel camel;
    json_.begin_object();
    while (json_.next_key(key)) {
      const std::string_view name = camel(key);
      Text word;
      if (name == "mode" && json_.maybe_string(word)) {
        mode = word.decode();
        for (char& c : mode) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
      }
      if (name == "allowedFunctionNames" && json_.kind() == JsonKind::array) {
        json_.begin_array();
        while (json_.next_item()) {
          if (json_.maybe_string(word)) choice.names.push_back(word);
        }
      }
    }
    using Mode = ToolChoice::Mode;
    if (mode.empty() && choice.names.empty()) return;
    const bool any = mode == "ANY";
    if (mode == "NONE") {
      choice.mode = Mode::none;
    } else if (any && choice.names.size() == 1) {
      choice.mode = Mode::one;
    } else if (!choice.names.empty()) {
      choice.mode = Mode::subset;
      choice.subset_required = any;
    } else {
      choice.mode = any ? Mode::required : Mode::automatic;
    }
    request_.tool_choice = choice;
  }

  void read_settings() {
    Sampling& s = request_.sampling;
    OutputFormat format;
    bool json_asked = false;
    std::string_view key;
    Camel camel;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      const std::string name(camel(key));
      const JsonKind kind = json_.kind();
      JsonSlice value;
      if (kind == JsonKind::null) {
        json_.null();
      } else if (kind == JsonKind::number) {
        const struct {
          std::string_view name;
          JsonSlice* out;
        } rows[] = {{"temperature", &s.temperature},
                    {"topP", &s.top_p},
                    {"topK", &s.top_k},
                    {"seed", &s.seed},
                    {"presencePenalty", &s.presence_penalty},
                    {"frequencyPenalty", &s.frequency_penalty},
                    {"logprobs", &s.top_logprobs}};
        for (const auto& row : rows) {
          if (row.name == name) json_.number(*row.out);
        }
        if (name == "maxOutputTokens") json_.integer(s.max_output_tokens.emplace());
        if (name == "candidateCount") json_.integer(s.n.emplace());
      } else if (name == "responseLogprobs" && kind == JsonKind::boolean) {
        json_.value(s.logprobs);
      } else if (name == "stopSequences" && kind == JsonKind::array) {
        json_.begin_array();
        while (json_.next_item()) {
          Text word;
          if (json_.maybe_string(word)) s.stop.push_back(word);
        }
      } else if (name == "responseMimeType" && kind == JsonKind::string) {
        Text mime;
        json_.string(mime);
        json_asked = mime == "application/json";
      } else if ((name == "responseSchema" || name == "responseJsonSchema") &&
                 kind == JsonKind::object) {
        json_.object(value);
        format.schema = json_schema(value, request_);
        format.name = string_member(value, "title");
      } else if (name == "thinkingConfig" && kind == JsonKind::object) {
        read_thinking();
      } else {
        json_.value(value);
        const bool text_only = name == "responseModalities" &&
                               value.find("TEXT") != std::string_view::npos &&
                               value.find(',') == std::string_view::npos;
        if (!text_only) request_.rest.emplace_back(request_.owned.emplace_back(name), value);
      }
    }
    if (!format.schema.empty()) {
      format.kind = OutputFormat::Kind::json_schema;
      request_.output = format;
    } else if (json_asked) {
      format.kind = OutputFormat::Kind::json;
      request_.output = format;
    }
  }

  void read_thinking() {
    std::string_view key;
    Camel camel;
    json_.begin_object();
    while (json_.next_key(key)) {
      const std::string_view name = camel(key);
      if (name == "includeThoughts" && json_.kind() == JsonKind::boolean) {
        json_.boolean(request_.reasoning.visible.emplace());
      } else if (name == "thinkingBudget" && json_.kind() == JsonKind::number) {
        json_.integer(request_.reasoning.budget_tokens.emplace());
      } else if (name == "thinkingLevel" && json_.kind() == JsonKind::string) {
        Text word;
        json_.string(word);
        std::string level = word.decode();
        for (char& c : level) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
        request_.reasoning.effort = effort_named(Text::plain(level));
      }
    }
  }

  JsonReader json_;
  Request request_;
  std::optional<Message> system_;
  std::vector<OpenCall> calls_;
};

}  // namespace

Result<Request> decode_request(std::string_view body, std::string_view path_model,
                               bool path_stream) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run(path_model, path_stream);
}

}  // namespace llm_proxy::gemini_generate
