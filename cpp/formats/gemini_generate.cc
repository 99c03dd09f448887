#include "formats/gemini_generate.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <deque>
#include <map>

#include "formats/common.h"
#include "json/reader.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

constexpr WireFormat kFormat = WireFormat::gemini_generate;
// What Google documents for histories whose signatures were made elsewhere; base64 of it, as the
// field holds bytes.
constexpr std::string_view kNoSignature = "skip_thought_signature_validator";
constexpr std::string_view kNoSignatureBytes = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

// A key in camelCase, whichever of the two spellings it came in. The view is valid until the next
// call.
class Camel {
 public:
  std::string_view operator()(std::string_view key) {
    if (key.find('_') == std::string_view::npos) return key;
    text_.clear();
    bool upper = false;
    for (const char c : key) {
      if (c == '_' && !text_.empty()) {
        upper = true;
      } else {
        text_ += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
        upper = false;
      }
    }
    return text_;
  }

 private:
  std::string text_;
};

Text camel_member(JsonSlice object, std::string_view camel, std::string_view snake) {
  const Text text = string_member(object, camel);
  return text.empty() ? string_member(object, snake) : text;
}

// ---------------------------------------------------------------------------------------- schemas

// Gemini's Schema in JSON Schema words: types in lower case, `nullable` as a type, counts as
// numbers.
class SchemaWriter {
 public:
  explicit SchemaWriter(std::string& out) : json_(out) {}

  void schema(JsonReader& in, int depth = 0) {
    if (in.kind() != JsonKind::object || depth > kMaxDepth) return copy(in);
    JsonSlice whole;
    if (!in.object(whole)) return;
    const bool nullable = member(whole, "nullable") == "true";
    JsonReader fields(whole);
    std::string_view key;
    Camel camel;
    fields.begin_object();
    json_.begin_object();
    while (fields.next_key(key)) {
      const std::string_view name = camel(key);
      if (name == "nullable" || name == "propertyOrdering") continue;
      if (name == "type") {
        json_.key("type");
        type(fields, nullable);
      } else if (name == "properties" || name == "$defs" || name == "definitions") {
        json_.key(Text::plain(key));
        map(fields, depth);
      } else if (name == "items" || name == "additionalProperties") {
        json_.key(name);
        schema(fields, depth + 1);
      } else if (name == "anyOf" || name == "oneOf" || name == "allOf" || name == "prefixItems") {
        json_.key(name);
        list(fields, depth);
      } else if (is_count(name) && fields.kind() == JsonKind::string) {
        count(name, fields);
      } else {
        json_.key(Text::plain(is_word(name) ? name : key));
        copy(fields);
      }
    }
    json_.end_object();
  }

 private:
  static constexpr int kMaxDepth = 24;

  static bool is_count(std::string_view name) {
    return name == "minItems" || name == "maxItems" || name == "minLength" || name == "maxLength" ||
           name == "minProperties" || name == "maxProperties";
  }
  static bool is_word(std::string_view name) { return is_count(name); }

  void copy(JsonReader& in) {
    JsonSlice value;
    if (in.value(value)) json_.raw(value);
  }

  // Protobuf writes 64-bit numbers as strings; what is none stays one.
  void count(std::string_view name, JsonReader& in) {
    Text text;
    in.string(text);
    const std::string digits = text.decode();
    std::int64_t number = 0;
    const auto end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, number);
    if (read.ec == std::errc() && read.ptr == end) {
      json_.member(name, number);
    } else {
      json_.member(name, text);
    }
  }

  void lower(Text word) {
    std::string name = word.decode();
    for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    json_.string(std::string_view(name));
  }

  void type(JsonReader& in, bool nullable) {
    if (in.kind() != JsonKind::string) return copy(in);
    Text word;
    in.string(word);
    if (!nullable) return lower(word);
    json_.begin_array();
    lower(word);
    json_.string("null").end_array();
  }

  void map(JsonReader& in, int depth) {
    if (in.kind() != JsonKind::object) return copy(in);
    std::string_view key;
    in.begin_object();
    json_.begin_object();
    while (in.next_key(key)) {
      json_.key(Text::plain(key));
      schema(in, depth + 2);
    }
    json_.end_object();
  }

  void list(JsonReader& in, int depth) {
    if (in.kind() != JsonKind::array) return copy(in);
    in.begin_array();
    json_.begin_array();
    while (in.next_item()) schema(in, depth + 2);
    json_.end_array();
  }

  JsonWriter json_;
};

bool is_gemini_dialect(JsonSlice schema) {
  static constexpr std::array<std::string_view, 12> kSigns{
      "\\u",  // any of these, perhaps
      "\"STRING\"", "\"OBJECT\"",        "\"ARRAY\"",         "\"INTEGER\"",
      "\"NUMBER\"", "\"BOOLEAN\"",       "\"NULL\"",          "\"nullable\"",
      "\"any_of\"", "ropertyOrdering\"", "roperty_ordering\""};
  return std::any_of(kSigns.begin(), kSigns.end(), [&](std::string_view sign) {
    return schema.find(sign) != std::string_view::npos;
  });
}

JsonSlice json_schema(JsonSlice schema, Request& request) {
  if (!is_gemini_dialect(schema)) return schema;
  std::string& out = request.owned.emplace_back();
  JsonReader in(schema);
  SchemaWriter(out).schema(in);
  return out;
}

// ------------------------------------------------------------------------------------ requests in

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
        if (!member(name)) {
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

  bool member(std::string_view name) {
    if (name == "contents") return each([&] { content(); }), true;
    if (name == "systemInstruction") return system(), true;
    if (name == "tools") return each([&] { tool(); }), true;
    if (name == "toolConfig") return tool_config(), true;
    if (name == "generationConfig") return generation_config(), true;
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
  void each(Read read) {
    if (json_.kind() != JsonKind::array) return read();
    json_.begin_array();
    while (json_.next_item()) read();
  }

  void system() {
    Message& message = system_.emplace();
    message.role = Role::system;
    if (json_.kind() == JsonKind::string) {
      Text text;
      json_.string(text);
      message.parts.push_back(TextPart{.text = text});
      return;
    }
    body_of(message);
  }

  void content() {
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
    body_of(message);
    message.source = json_.since(start);
    request_.messages.push_back(std::move(message));
  }

  void body_of(Message& message) {
    std::string_view key;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (key == "role") {
        Text role;
        json_.maybe_string(role);
        if (message.role != Role::system)
          message.role = role == "model" ? Role::assistant : Role::user;
      } else if (key == "parts") {
        each([&] { part(message.parts); });
      }
    }
  }

  struct RawPartFields {
    Text text, signature, type;
    bool has_text = false, thought = false;
    JsonSlice call, response, inline_data, file_data, other;
    std::string_view other_key;
  };

  void part(std::vector<Part>& out) {
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
    place(fields, json_.since(start), out);
  }

  void place(RawPartFields& fields, JsonSlice source, std::vector<Part>& out) {
    Seal own = seal(fields, out);
    if (!fields.call.empty()) {
      out.push_back(call(fields.call, own));
    } else if (!fields.response.empty()) {
      out.push_back(result(fields.response));
    } else if (!fields.inline_data.empty()) {
      out.push_back(inline_data(fields.inline_data));
    } else if (!fields.file_data.empty()) {
      out.push_back(file_data(fields.file_data));
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
  Seal seal(RawPartFields& fields, std::vector<Part>& out) {
    if (fields.signature.empty() || fields.signature == kNoSignature ||
        fields.signature == kNoSignatureBytes) {
      return {};
    }
    const auto decoded = carried(fields.signature);
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
  static std::optional<std::string> carried(Text signature) {
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

  Part call(JsonSlice source, const Seal& seal) {
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

  Part result(JsonSlice source) {
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
          if (!data.empty()) media.push_back(inline_data(data));
          JsonSlice file = llm_proxy::member(piece, "fileData");
          if (file.empty()) file = llm_proxy::member(piece, "file_data");
          if (!file.empty()) media.push_back(file_data(file));
        }
      }
    }
    result.call_id = answered(request_.unescaped(id), request_.unescaped(result.name));
    say(result);
    for (Part& part : media) result.content.push_back(std::move(part));
    return result;
  }

  // The call a result answers: by id, else the first unanswered one of that name, else the first
  // unanswered.
  Text answered(Text id, Text name) {
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
  void say(ToolResultPart& result) {
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

  Part inline_data(JsonSlice source) {
    MediaPart media;
    media.mime_type = request_.unescaped(camel_member(source, "mimeType", "mime_type"));
    media.data = plain_base64(string_member(source, "data"));
    media.filename = camel_member(source, "displayName", "display_name");
    media.kind = media_kind(media.mime_type);
    return media;
  }

  Part file_data(JsonSlice source) {
    MediaPart media{.source = MediaPart::Source::url};
    media.mime_type = request_.unescaped(camel_member(source, "mimeType", "mime_type"));
    media.data = request_.unescaped(camel_member(source, "fileUri", "file_uri"));
    media.kind = media_kind(media.mime_type);
    // Files of the Files API and of buckets are known to this provider alone.
    const std::string_view uri = media.data.bytes();
    if (uri.find("generativelanguage.googleapis.com") != std::string_view::npos ||
        uri.substr(0, 5) == "gs://" || uri.substr(0, 6) == "files/") {
      media.source = MediaPart::Source::file_id;
    }
    return media;
  }

  static MediaKind media_kind(Text mime_type) {
    const std::string_view mime = mime_type.bytes().substr(0, 5);
    return mime == "image"   ? MediaKind::image
           : mime == "audio" ? MediaKind::audio
           : mime == "video" ? MediaKind::video
                             : MediaKind::document;
  }

  // --- tools and settings

  void tool() {
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
        each([&] { declaration(); });
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

  void declaration() {
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

  void tool_config() {
    std::string_view key;
    Camel camel;
    if (!json_.begin_object()) return;
    while (json_.next_key(key)) {
      if (camel(key) == "functionCallingConfig" && json_.kind() == JsonKind::object)
        calling_config();
    }
  }

  void calling_config() {
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

  void generation_config() {
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
        thinking_config();
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

  void thinking_config() {
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

Result<Request> decode_request(std::string_view body, std::string_view path_model,
                               bool path_stream) {
  if (!valid_utf8(body)) return malformed("The body is not valid UTF-8.");
  return RequestDecoder(body).run(path_model, path_stream);
}

// ----------------------------------------------------------------------------------- requests out

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
    if (request_.format == kFormat) return same_format();
    if (auto lost = lose_rest(request_, translation_); !lost) return lost;
    json_.begin_object();
    const std::size_t first = system();
    contents(first);
    tools();
    generation_config();
    json_.end_object();
    if (refused_) return *std::move(refused_);
    return {};
  }

 private:
  Result<void> same_format() {
    bool foreign = false;
    for (const Message& message : request_.messages)
      foreign = foreign || is_foreign(message, kFormat);
    json_.begin_object();
    Camel camel;
    for (const auto& [key, value] : request_.members) {
      const std::string_view name = camel(key);
      if (name == "model") continue;
      if (name == "contents" && foreign) {
        std::size_t first = 0;
        while (first < request_.messages.size() && is_system(request_.messages[first].role))
          ++first;
        contents(first);
      } else {
        json_.key(Text::plain(key)).raw(value);
      }
    }
    json_.end_object();
    if (refused_) return *std::move(refused_);
    return {};
  }

  void refuse(std::string_view field, std::string_view why) {
    if (!refused_) refused_ = refusal_of(field, why);
  }

  std::string tool_name(Text name, Text tool_namespace, CallKind kind) {
    return upstream_tool_name(translation_, name, tool_namespace, kind, 64);
  }

  std::size_t system() {
    std::size_t end = 0;
    bool any = false;
    while (end < request_.messages.size() && is_system(request_.messages[end].role)) {
      for (const Part& part : request_.messages[end].parts) {
        const auto* text = std::get_if<TextPart>(&part);
        if (text == nullptr || text->text.empty()) continue;
        if (!any) json_.key("systemInstruction").begin_object().key("parts").begin_array();
        any = true;
        json_.begin_object().member("text", text->text).end_object();
      }
      ++end;
    }
    if (any) json_.end_array().end_object();
    return end;
  }

  void contents(std::size_t first) {
    // The current turn begins at the last message that a user wrote; only its calls need
    // signatures.
    current_turn_ = request_.messages.size();
    while (current_turn_ > first && !is_users(request_.messages[current_turn_ - 1]))
      --current_turn_;
    json_.key("contents").begin_array();
    for (std::size_t i = first; i < request_.messages.size(); ++i) message(i);
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

  void message(std::size_t index) {
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
      std::visit([&](const auto& value) { this->part(message, value); }, part);
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
  void add(Build build) {
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
    add([&](JsonWriter& json) { json.member("text", "").member("thoughtSignature", signature); });
  }

  void part(const Message& message, const TextPart& text) {
    const Text own = text.seal.maker == kFormat ? text.seal.token : Text();
    if (text.text.empty() && own.empty()) return;
    if (is_system(message.role)) {
      add([&](JsonWriter& json) {
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
    add([&](JsonWriter& json) {
      json.member("text", text.text).optional("thoughtSignature", own);
    });
  }

  void part(const Message&, const RefusalPart& refusal) {
    add([&](JsonWriter& json) { json.member("text", refusal.text); });
  }

  // Gemini's own thoughts go back; their signature stands on the call that follows, or on a last
  // empty text.
  void part(const Message&, const ThinkingPart& thinking) {
    if (thinking.seal.empty() || thinking.seal.maker != kFormat) return;
    flush_signature();
    if (!thinking.text.empty()) {
      add([&](JsonWriter& json) {
        json.member("text", thinking.text).member_bool("thought", true);
      });
    }
    signature_ = thinking.seal.token;
  }

  void part(const Message&, const ToolCallPart& call) {
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
    add([&](JsonWriter& json) {
      json.key("functionCall").begin_object();
      json.optional("id", call.id);
      json.member("name", std::string_view(names_[calls_.back()])).key("args");
      write_arguments_object(call, json);
      json.end_object();
      json.optional("thoughtSignature", signature);
    });
  }

  void part(const Message&, const ToolResultPart& result) {
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
      for (const MediaPart* picture : media) this->media(*picture, json);
      json.end_array();
    }
    json.end_object().end_object();
    const auto place = std::find(calls_.begin(), calls_.end(), id);
    results_.emplace_back(place - calls_.begin(), std::move(one));
    if (!modern_) {
      for (const MediaPart* picture : media) add_media(*picture);
    }
  }

  void part(const Message&, const MediaPart& media) { add_media(media); }

  void add_media(const MediaPart& media) {
    std::string one;
    JsonWriter json(one);
    this->media(media, json);
    if (one.empty()) return;
    if (!parts_.empty()) parts_ += ',';
    parts_ += one;
  }

  void media(const MediaPart& media, JsonWriter& json) {
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

  void part(const Message&, const RawPart& raw) {
    if (raw.owner == kFormat) {
      if (!parts_.empty()) parts_ += ',';
      parts_ += raw.json;
      return;
    }
    lose(translation_, Loss::Class::degrade, "server tool items", raw.type);
  }

  // --- tools and settings

  void tools() {
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
                         custom ? JsonSlice(kWrappedInputSchema) : useful(tool.schema));
      json_.end_object();
    }
    if (!any) return;
    json_.end_array().end_object().end_array();
    if (request_.tool_choice) tool_choice(*request_.tool_choice);
    if (request_.parallel_tool_calls == false) {
      lose(translation_, Loss::Class::degrade, "parallel_tool_calls");
    }
  }

  // Gemini refuses an object type without properties; a function without arguments leaves its
  // schema out.
  static JsonSlice useful(JsonSlice schema) {
    if (schema.empty()) return {};
    const JsonSlice properties = member(schema, "properties");
    std::string compact;
    if (!properties.empty()) compact_to(properties, compact);
    const bool bare = compact.empty() || compact == "{}";
    const bool more = !member(schema, "anyOf").empty() || !member(schema, "oneOf").empty() ||
                      !member(schema, "allOf").empty() || !member(schema, "$ref").empty();
    return bare && !more ? JsonSlice() : schema;
  }

  void tool_choice(const ToolChoice& choice) {
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

  void generation_config() {
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
    thinking_config(json);
    json.end_object();
    if (config != "{}") json_.member_raw("generationConfig", config);
    if (!s.logit_bias.empty()) lose(translation_, Loss::Class::drop, "logit_bias");
    if (!request_.verbosity.empty()) lose(translation_, Loss::Class::drop, "verbosity");
    if (!request_.user.empty()) lose(translation_, Loss::Class::drop, "user");
  }

  void thinking_config(JsonWriter& json) {
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

Result<void> encode_request(const Request& request, Translation& translation, std::string& out) {
  return RequestEncoder(request, translation, out).run();
}

// -------------------------------------------------------------------------------------- replies in

Usage read_usage(JsonSlice object) {
  std::optional<std::int64_t> prompt, tool_prompt, candidates, thoughts;
  Usage usage;
  JsonReader json(object);
  if (json.kind() != JsonKind::object) return usage;
  const struct {
    std::string_view key;
    std::optional<std::int64_t>* out;
  } rows[] = {{"promptTokenCount", &prompt},
              {"toolUsePromptTokenCount", &tool_prompt},
              {"candidatesTokenCount", &candidates},
              {"thoughtsTokenCount", &thoughts},
              {"cachedContentTokenCount", &usage.cached}};
  std::string_view key;
  json.begin_object();
  while (json.next_key(key)) {
    for (const auto& row : rows) {
      if (row.key == key && json.kind() == JsonKind::number) {
        json.integer(row.out->emplace());
        break;
      }
    }
  }
  if (prompt || tool_prompt) usage.input = prompt.value_or(0) + tool_prompt.value_or(0);
  if (candidates || thoughts) usage.output = candidates.value_or(0) + thoughts.value_or(0);
  usage.reasoning = thoughts;
  return usage;
}

struct FinishRow {
  std::string_view word;
  int number;  // of old Vertex
  FinishReason reason;
};
constexpr std::array kFinishRows{
    FinishRow{"STOP", 1, FinishReason::stop},
    FinishRow{"MAX_TOKENS", 2, FinishReason::length},
    FinishRow{"SAFETY", 3, FinishReason::content_filter},
    FinishRow{"RECITATION", 4, FinishReason::content_filter},
    FinishRow{"OTHER", 5, FinishReason::other},
    FinishRow{"BLOCKLIST", 6, FinishReason::content_filter},
    FinishRow{"PROHIBITED_CONTENT", 7, FinishReason::content_filter},
    FinishRow{"SPII", 8, FinishReason::content_filter},
    FinishRow{"MALFORMED_FUNCTION_CALL", 9, FinishReason::bad_call},
    FinishRow{"LANGUAGE", -1, FinishReason::content_filter},
    FinishRow{"MODEL_ARMOR", -1, FinishReason::content_filter},
    FinishRow{"IMAGE_SAFETY", -1, FinishReason::content_filter},
    FinishRow{"IMAGE_PROHIBITED_CONTENT", -1, FinishReason::content_filter},
    FinishRow{"IMAGE_RECITATION", -1, FinishReason::content_filter},
    FinishRow{"UNEXPECTED_TOOL_CALL", -1, FinishReason::bad_call},
    FinishRow{"TOO_MANY_TOOL_CALLS", -1, FinishReason::bad_call},
    FinishRow{"MISSING_THOUGHT_SIGNATURE", -1, FinishReason::bad_call},
    FinishRow{"MALFORMED_RESPONSE", -1, FinishReason::bad_call},
};

FinishReason finish_reason(std::string_view word) {
  for (const FinishRow& row : kFinishRows) {
    if (row.word == word || (row.number > 0 && std::to_string(row.number) == word))
      return row.reason;
  }
  return FinishReason::other;
}

// A value built from "set this path to that" (Vertex' streamed arguments), in the order of first
// mention.
class PathTree {
 public:
  // `append`: more of the string that stands at `path`.
  void set(std::string_view path, JsonSlice value, bool append) {
    Node* node = &root_;
    if (!path.empty() && path.front() == '$') path.remove_prefix(1);
    int depth = 0;
    while (!path.empty() && ++depth <= kMaxDepth) {
      if (path.front() == '.') {
        const std::size_t end = std::min(path.find_first_of(".[", 1), path.size());
        node = child(*node, path.substr(1, end - 1));
        path.remove_prefix(end);
      } else if (path.substr(0, 2) == "['" || path.substr(0, 2) == "[\"") {
        const char quote = path[1];
        const std::size_t end = path.find(std::string{quote, ']'}, 2);
        if (end == std::string_view::npos) return;
        node = child(*node, path.substr(2, end - 2));
        path.remove_prefix(end + 2);
      } else if (path.front() == '[') {
        std::size_t index = 0;
        std::size_t at = 1;
        while (at < path.size() && path[at] >= '0' && path[at] <= '9' && index < kMaxIndex) {
          index = index * 10 + static_cast<std::size_t>(path[at++] - '0');
        }
        if (at == path.size() || path[at] != ']' || index >= kMaxIndex) return;
        node->is_array = true;
        while (node->children.size() <= index) node->children.emplace_back();
        node = &node->children[index].second;
        path.remove_prefix(at + 1);
      } else {
        return;
      }
    }
    const bool both_strings =
        append && node->value.size() >= 2 && node->value.front() == '"' && value.front() == '"';
    if (both_strings) {
      node->value.pop_back();
      node->value += value.substr(1);
    } else {
      node->value = value;
    }
  }

  void write(std::string& out) const { write(root_, out, true); }

 private:
  static constexpr int kMaxDepth = 64;
  static constexpr std::size_t kMaxIndex = 10'000;

  struct Node {
    std::string value;  // JSON of a leaf
    bool is_array = false;
    std::deque<std::pair<std::string, Node>> children;
  };

  static Node* child(Node& node, std::string_view key) {
    for (auto& [name, value] : node.children) {
      if (name == key) return &value;
    }
    return &node.children.emplace_back(std::string(key), Node()).second;
  }

  static void write(const Node& node, std::string& out, bool root) {
    if (node.children.empty()) {
      out += !node.value.empty() ? node.value : node.is_array ? "[]" : root ? "{}" : "null";
      return;
    }
    out += node.is_array ? '[' : '{';
    bool first = true;
    for (const auto& [key, value] : node.children) {
      if (!first) out += ',';
      first = false;
      if (!node.is_array) {
        out += '"';
        Text::plain(key).escape_to(out);
        out += "\":";
      }
      write(value, out, false);
    }
    out += node.is_array ? ']' : '}';
  }

  Node root_;
};

Error stream_error(JsonSlice json);

// Gemini → events. A thinking part stays open until the next part shows whether it carries the
// thoughts' signature.
class Decoder final : public ReplyDecoder {
 public:
  Result<void> on_whole(std::string_view body, EventSink& sink) override {
    sink_ = &sink;
    whole_ = true;
    if (!valid_utf8(body)) return garbled("The upstream's answer is not valid UTF-8.");
    JsonReader json(body);
    if (json.kind() == JsonKind::array) {
      json.begin_array();
      while (json.next_item()) {
        JsonSlice element;
        if (!json.object(element)) break;
        if (auto taken = chunk(element); !taken) return taken;
        if (failed_) return {};
      }
      if (!json.finish()) return garbled("The upstream's answer is not valid JSON.");
    } else if (auto taken = chunk(body); !taken || failed_) {
      return taken;
    }
    if (!started_) return garbled("The upstream's answer is no generateContent response.");
    finish();
    return {};
  }

  Result<void> on_stream_event(std::string_view, std::string_view data, EventSink& sink) override {
    sink_ = &sink;
    if (failed_ || data == "[DONE]") return {};
    if (!valid_utf8(data)) return garbled("The upstream sent a chunk that is not UTF-8.");
    return chunk(data);
  }

  Result<void> on_stream_end(EventSink& sink) override {
    sink_ = &sink;
    if (failed_) return {};
    if (word_.empty()) return cut_short();
    finish();
    return {};
  }

 private:
  Result<void> chunk(std::string_view source) {
    JsonReader json(source);
    if (json.kind() != JsonKind::object)
      return garbled("The upstream sent a chunk that is no JSON object.");
    Text id, model;
    JsonSlice candidates, feedback, usage;
    bool known = false, error = false;
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == "candidates" && json.kind() == JsonKind::array) {
        known = true;
        if (started_) {
          read_candidates(json);
        } else {
          json.value(candidates);
        }
      } else if (key == "usageMetadata" && json.kind() == JsonKind::object) {
        known = true;
        json.value(usage);
      } else if (key == "promptFeedback" && json.kind() == JsonKind::object) {
        known = true;
        json.value(feedback);
      } else if (key == "modelVersion") {
        known = true;
        json.maybe_string(model);
      } else if (key == "responseId") {
        json.maybe_string(id);
      } else if (key == "error" && json.kind() != JsonKind::null) {
        error = true;
      }
    }
    if (!json.finish()) return garbled("The upstream sent a chunk that is not valid JSON.");
    if (error) {
      failed_ = true;
      sink_->on_event(stream_error(source));
      return {};
    }
    if (!known)
      return whole_ ? garbled("The upstream's answer is no generateContent response.")
                    : Result<void>();
    if (!started_) {
      started_ = true;
      seed_ = id.decode();
      sink_->on_event(ReplyStart{id, model, 0});
      JsonReader first(candidates);
      if (!candidates.empty()) read_candidates(first);
    }
    if (!usage.empty()) sink_->on_event(UsageUpdate{read_usage(usage)});
    if (!feedback.empty()) {
      const Text reason = string_member(feedback, "blockReason");
      if (!reason.empty()) {
        word_ = reason.decode();
        blocked_ = true;
      }
    }
    return {};
  }

  void read_candidates(JsonReader& json) {
    json.begin_array();
    bool first = true;
    while (json.next_item()) {
      if (!first || json.kind() != JsonKind::object) {
        json.skip();
        continue;
      }
      first = false;
      candidate(json);
    }
  }

  void candidate(JsonReader& json) {
    // Candidates that are not the first come in chunks of their own, too: `index` may stand behind
    // the content.
    JsonSlice source;
    if (!json.object(source)) return;
    const JsonSlice index = member(source, "index");
    if (!index.empty() && index != "0") return;
    JsonReader fields(source);
    std::string_view key;
    fields.begin_object();
    while (fields.next_key(key)) {
      if (key == "content" && fields.kind() == JsonKind::object) {
        content(fields);
      } else if (key == "finishReason") {
        Text word;
        JsonSlice number;
        if (fields.kind() == JsonKind::string && fields.string(word)) {
          word_ = word.decode();
        } else if (fields.kind() == JsonKind::number && fields.number(number)) {
          word_ = number;
        }
      }
    }
  }

  void content(JsonReader& json) {
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key != "parts" || json.kind() != JsonKind::array) continue;
      json.begin_array();
      while (json.next_item()) {
        const std::size_t start = json.position();
        PartFields part;
        if (!read(json, part)) break;
        part.source = json.since(start);
        take(part);
      }
    }
  }

  struct PartFields {
    Text text, signature;
    bool has_text = false, thought = false;
    JsonSlice call, source;
    std::string_view other;
  };

  static bool read(JsonReader& json, PartFields& part) {
    std::string_view key;
    if (!json.begin_object()) return false;
    while (json.next_key(key)) {
      if (key == "text" && json.kind() == JsonKind::string) {
        part.has_text = json.string(part.text);
      } else if (key == "thought" && json.kind() == JsonKind::boolean) {
        json.boolean(part.thought);
      } else if (key == "thoughtSignature") {
        json.maybe_string(part.signature);
      } else if (key == "functionCall" && json.kind() == JsonKind::object) {
        json.object(part.call);
      } else if (key != "videoMetadata" && key != "mediaResolution" && key != "partMetadata") {
        part.other = key == "inlineData"            ? "inlineData"
                     : key == "executableCode"      ? "executableCode"
                     : key == "codeExecutionResult" ? "codeExecutionResult"
                                                    : "part";
      }
    }
    return !json.failed();
  }

  void take(const PartFields& part) {
    if (!part.call.empty()) return call(part);
    if (!part.other.empty()) {
      close();
      open(PartStart{
          .kind = PartKind::raw, .owner = kFormat, .raw_type = part.other, .raw = part.source});
      close();
      return;
    }
    if (part.thought) {
      if (!part.text.empty()) {
        if (!open_ || kind_ != PartKind::thinking) open(PartStart{.kind = PartKind::thinking});
        sink_->on_event(PartDelta{index_, part.text});
      }
      if (!part.signature.empty()) seal(part.signature);
      return;
    }
    if (open_ && kind_ == PartKind::thinking) {
      if (!part.signature.empty()) {
        seal(part.signature);
        if (!part.text.empty()) text(part.text);
        return;
      }
      if (part.text.empty()) return;
      close();
    }
    if (!part.text.empty()) text(part.text);
    if (!part.signature.empty()) seal(part.signature);
  }

  void text(Text text) {
    if (!open_ || kind_ != PartKind::text) open(PartStart{.kind = PartKind::text});
    sink_->on_event(PartDelta{index_, text});
  }

  // The signature goes to the open thoughts, or stands alone where it came.
  void seal(Text signature) {
    if (!open_ || kind_ != PartKind::thinking) open(PartStart{.kind = PartKind::thinking});
    sink_->on_event(PartSeal{index_, Seal{kFormat, signature, {}}});
    close();
  }

  void call(const PartFields& part) {
    Text name, id;
    JsonSlice args, partial;
    bool more = false;
    JsonReader json(part.call);
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      if (key == "name") json.maybe_string(name);
      if (key == "id") json.maybe_string(id);
      if (key == "args" && json.kind() == JsonKind::object) json.object(args);
      if (key == "partialArgs" && json.kind() == JsonKind::array) json.value(partial);
      if (key == "willContinue" && json.kind() == JsonKind::boolean) json.boolean(more);
    }
    if (!assembling_) {
      if (!part.signature.empty()) seal(part.signature);
      const std::string made = id.empty() ? made_id("call_", seed_, calls_) : std::string();
      open(PartStart{.kind = PartKind::tool_call,
                     .call_id = id.empty() ? Text::plain(made) : id,
                     .name = name});
      ++calls_;
      if (more || !partial.empty()) assembling_.emplace();
    }
    if (!assembling_) {
      arguments(args);
      return;
    }
    pieces(partial);
    if (!more) assembled();
  }

  void arguments(JsonSlice args) {
    std::string compact;
    if (args.empty()) {
      compact = "{}";
    } else {
      compact_to(args, compact);
    }
    sink_->on_event(PartDelta{index_, Text::plain(compact)});
    close();
  }

  void pieces(JsonSlice partial) {
    if (partial.empty()) return;
    JsonReader json(partial);
    json.begin_array();
    while (json.next_item()) {
      Text path;
      JsonSlice value;
      bool more = false;
      std::string_view key;
      if (!json.begin_object()) return;
      while (json.next_key(key)) {
        if (key == "jsonPath") {
          json.maybe_string(path);
        } else if (key == "willContinue" && json.kind() == JsonKind::boolean) {
          json.boolean(more);
        } else if (key == "nullValue") {
          json.skip();
          value = "null";
        } else if (key == "stringValue" || key == "numberValue" || key == "boolValue") {
          json.value(value);
        }
      }
      const std::string at = path.decode();
      if (!value.empty()) assembling_->set(at, value, at == unfinished_path_);
      unfinished_path_ = more ? at : std::string();
    }
  }

  void assembled() {
    if (!assembling_) return;
    std::string args;
    assembling_->write(args);
    assembling_.reset();
    unfinished_path_.clear();
    sink_->on_event(PartDelta{index_, Text::plain(args)});
    close();
  }

  void open(PartStart part) {
    assembled();
    close();
    part.index = index_ = next_++;
    kind_ = part.kind;
    open_ = true;
    sink_->on_event(part);
  }

  void close() {
    if (!open_) return;
    open_ = false;
    sink_->on_event(PartEnd{index_});
  }

  void finish() {
    assembled();
    close();
    Finish finish;
    finish.reason = word_.empty() ? FinishReason::stop : finish_reason(word_);
    if (blocked_) finish.reason = FinishReason::content_filter;
    const bool natural =
        finish.reason == FinishReason::stop || finish.reason == FinishReason::other;
    if (natural && calls_ > 0) finish.reason = FinishReason::tool_calls;
    finish.word = word_;
    sink_->on_event(finish);
  }

  EventSink* sink_ = nullptr;
  bool started_ = false, failed_ = false, whole_ = false, blocked_ = false;
  std::string seed_;  // the response's id
  std::string word_;  // the finish reason; empty: not seen
  bool open_ = false;
  PartKind kind_ = PartKind::text;
  std::uint32_t index_ = 0, next_ = 0;
  std::uint64_t calls_ = 0;
  std::optional<PathTree> assembling_;
  std::string unfinished_path_;  // its string goes on in the next piece
};

// ------------------------------------------------------------------------------------- replies out

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t left = bytes.size() - i;
    const auto byte = [&](std::size_t k) -> std::uint32_t {
      return k < left ? static_cast<unsigned char>(bytes[i + k]) : 0;
    };
    const std::uint32_t three = byte(0) << 16 | byte(1) << 8 | byte(2);
    out += kDigits[three >> 18];
    out += kDigits[three >> 12 & 63];
    out += left > 1 ? kDigits[three >> 6 & 63] : '=';
    out += left > 2 ? kDigits[three & 63] : '=';
  }
  return out;
}

enum class Form : std::uint8_t { whole, events, array };

// Events → chunks, or one whole answer. Calls go out whole, at their end; usage and finish in the
// last chunk.
class Encoder final : public ReplyEncoder {
 public:
  Encoder(const EncodeContext& context, Form form) : context_(context), form_(form) {}

  void on_event(const Event& event) override {
    if (ended_) return;
    std::visit([this](const auto& value) { on(value); }, event);
  }

  // An empty line: it is no event, and no client takes it for a broken chunk as some do a comment.
  void keep_alive() override {
    if (ended_ || form_ == Form::whole || (form_ == Form::array && !begun_)) return;
    out_ += "\r\n";
  }

 private:
  void on(const ReplyStart& start) {
    id_.clear();
    model_.clear();
    if (start.id.empty()) {
      id_ = made_id("", context_.reply_seed, 0);
    } else {
      start.id.escape_to(id_);
    }
    if (!start.model.empty()) {
      start.model.escape_to(model_);
    } else if (context_.request != nullptr) {
      context_.request->model.escape_to(model_);
    }
  }

  // A refusal is text here, and half of one looks like half an answer: it is told when the reply
  // goes on behind it or ends well.
  void tell_refusal() {
    if (refusal_.empty()) return;
    add_text(Text::escaped(refusal_), false);
    refusal_.clear();
  }

  void on(const PartStart& part) {
    tell_call();
    tell_refusal();
    kind_ = part.kind;
    redacted_ = part.redacted;
    arguments_.clear();
    if (part.kind == PartKind::tool_call) {
      const auto* alias = find_alias(context_.translation, part.name);
      name_.clear();
      if (alias != nullptr) {
        Text::plain(alias->name).escape_to(name_);
      } else {
        part.name.escape_to(name_);
      }
      custom_ = part.call_kind == CallKind::custom;
      call_id_.clear();
      part.call_id.escape_to(call_id_);
    } else if (part.kind == PartKind::raw && part.owner == kFormat) {
      std::string json;
      compact_to(part.raw, json);
      add(json);
    }
  }

  void on(const PartDelta& delta) {
    if (delta.text.empty()) return;
    switch (kind_) {
      case PartKind::text:
        return add_text(delta.text, false);
      case PartKind::refusal:
        return delta.text.escape_to(refusal_);
      case PartKind::thinking:
        return add_text(delta.text, true);
      case PartKind::tool_call:
        delta.text.decode_to(arguments_);
        return;
      case PartKind::raw:
        return;
    }
  }

  // Held for the call that follows; only that part is sure to come back.
  void on(const PartSeal& seal) {
    if (kind_ != PartKind::thinking && kind_ != PartKind::text) return;
    if (!signature_.empty()) add_signature(true);
    signature_.clear();
    signed_item_.clear();
    if (seal.seal.maker == kFormat) {
      seal.seal.token.escape_to(signature_);
    } else {
      signature_ = base64(carried_seal(seal.seal, redacted_));
      signed_item_ = seal.seal.item_id.decode();
      signed_redacted_ = redacted_;
    }
  }

  void on(const PartAnnotation&) {}

  void on(const PartEnd&) {
    if (kind_ != PartKind::tool_call) return;
    call_ = "{\"functionCall\":{";
    if (!call_id_.empty()) call_ += "\"id\":\"" + call_id_ + "\",";
    call_ += "\"name\":\"" + name_ + "\",\"args\":";
    JsonWriter json(call_);
    ToolCallPart call{.arguments_text = Text::plain(arguments_)};
    if (custom_) call.kind = CallKind::custom;
    write_arguments_object(call, json);
    call_ += '}';
    kind_ = PartKind::raw;
    // The end of the stream may seal anew what this call carries.
    if (signature_.empty() || signed_item_.empty()) tell_call();
  }

  void tell_call() {
    if (call_.empty()) return;
    if (!signature_.empty()) call_ += ",\"thoughtSignature\":\"" + signature_ + '"';
    signature_.clear();
    call_ += '}';
    add(call_);
    call_.clear();
  }

  void on(const UsageUpdate& update) { usage_ = update.usage; }

  void on(const Finish& finish) {
    for (const Seal& seal : finish.seals) {
      if (!signature_.empty() && seal.item_id == signed_item_) {
        signature_ = base64(carried_seal(seal, signed_redacted_));
      }
    }
    tell_call();
    tell_refusal();
    if (!signature_.empty()) add_signature(false);
    std::string_view word = "STOP";
    switch (finish.reason) {
      case FinishReason::length:
      case FinishReason::context_full:
        word = "MAX_TOKENS";
        break;
      case FinishReason::content_filter:
      case FinishReason::refusal:
        word = "SAFETY";
        break;
      case FinishReason::bad_call:
        word = "MALFORMED_FUNCTION_CALL";
        break;
      default:
        break;
    }
    if (parts_.empty()) parts_ = R"({"text":""})";
    chunk(word);
    if (form_ == Form::array) out_ += "]";
    ended_ = true;
  }

  void on(const Error& error) {
    tell_call();
    ended_ = true;
    if (form_ == Form::whole) out_.clear();
    open_chunk();
    kGeminiGenerate.encode_error(error, out_);
    close_chunk();
    if (form_ == Form::array) out_ += "]";
  }

  // --- parts

  void add(std::string_view part) {
    if (!parts_.empty()) parts_ += ',';
    parts_ += part;
    if (form_ != Form::whole) chunk({});
  }

  void add_text(Text text, bool thought) {
    if (form_ == Form::whole) {
      // One part for all of a part's text.
      const std::string_view tail = thought ? "\",\"thought\":true}" : "\"}";
      if (part_is_open_ == kind_ && parts_.size() >= tail.size() &&
          std::string_view(parts_).substr(parts_.size() - tail.size()) == tail) {
        parts_.resize(parts_.size() - tail.size());
      } else {
        if (!parts_.empty()) parts_ += ',';
        parts_ += "{\"text\":\"";
      }
      part_is_open_ = kind_;
      text.escape_to(parts_);
      parts_ += tail;
      return;
    }
    parts_ += "{\"text\":\"";
    text.escape_to(parts_);
    parts_ += thought ? "\",\"thought\":true}" : "\"}";
    chunk({});
  }

  void add_signature(bool thought) {
    std::string part = thought ? R"({"text":"","thought":true,"thoughtSignature":")"
                               : R"({"text":"","thoughtSignature":")";
    part += signature_;
    part += "\"}";
    signature_.clear();
    if (form_ == Form::whole || !thought) {
      if (!parts_.empty()) parts_ += ',';
      parts_ += part;
      part_is_open_ = PartKind::raw;
      return;
    }
    add(part);
  }

  // --- chunks

  void open_chunk() {
    if (form_ == Form::events) out_ += "data: ";
    if (form_ == Form::array) out_ += begun_ ? ",\r\n" : "[";
    begun_ = true;
  }

  void close_chunk() {
    if (form_ == Form::events) out_ += "\r\n\r\n";
  }

  void chunk(std::string_view finish_word) {
    open_chunk();
    out_ += R"({"candidates":[{"content":{"parts":[)";
    out_ += parts_;
    out_ += R"(],"role":"model"})";
    parts_.clear();
    if (!finish_word.empty()) {
      out_ += R"(,"finishReason":")";
      out_ += finish_word;
      out_ += '"';
    }
    out_ += R"(,"index":0}])";
    if (!finish_word.empty()) usage();
    out_ += R"(,"modelVersion":")";
    out_ += model_;
    out_ += R"(","responseId":")";
    out_ += id_;
    out_ += "\"}";
    close_chunk();
  }

  void usage() {
    if (usage_.empty()) return;
    const std::int64_t in = usage_.input.value_or(0), out = usage_.output.value_or(0);
    const std::int64_t thoughts = std::min(usage_.reasoning.value_or(0), out);
    out_ += ",\"usageMetadata\":";
    JsonWriter json(out_);
    json.begin_object()
        .member("promptTokenCount", in)
        .member("candidatesTokenCount", out - thoughts);
    json.member("totalTokenCount", in + out);
    if (usage_.cached.value_or(0) > 0) json.member("cachedContentTokenCount", *usage_.cached);
    if (thoughts > 0) json.member("thoughtsTokenCount", thoughts);
    json.end_object();
  }

  const EncodeContext context_;
  const Form form_;
  bool begun_ = false, ended_ = false;
  std::string id_, model_;  // escaped
  Usage usage_;
  PartKind kind_ = PartKind::raw;          // of the open part
  PartKind part_is_open_ = PartKind::raw;  // whole: of the last text written
  bool redacted_ = false, custom_ = false;
  std::string name_, call_id_;  // escaped
  std::string arguments_;       // plain
  std::string signature_;       // escaped; waits for the part that carries it
  std::string signed_item_;     // what it was made for; empty: Gemini's own
  bool signed_redacted_ = false;
  std::string call_;     // JSON, not closed; waits for its last signature
  std::string refusal_;  // escaped; not told yet
  std::string parts_;    // JSON, comma separated
};

// ------------------------------------------------------------------------------------ the observer

// Reads what a relayed reply says about itself; whoever shows it chunks shows each once.
class Observer final : public ReplyObserver {
 public:
  void on_stream_event(std::string_view, std::string_view data) override { chunk(data); }

  void on_whole(std::string_view body) override {
    JsonReader json(body);
    if (json.kind() == JsonKind::array) {
      json.begin_array();
      while (json.next_item()) {
        JsonSlice element;
        if (!json.object(element)) break;
        chunk(element);
      }
    } else {
      chunk(body);
      terminated_ = true;
    }
  }

 private:
  void chunk(std::string_view source) {
    JsonReader json(source);
    if (json.kind() != JsonKind::object) return;
    std::string_view key;
    json.begin_object();
    while (json.next_key(key)) {
      JsonSlice value;
      if (key == "usageMetadata" && json.kind() == JsonKind::object) {
        json.value(value);
        usage_ = read_usage(value);
      } else if (key == "candidates" && json.kind() == JsonKind::array) {
        candidates(json);
      } else if (key == "promptFeedback" && json.kind() == JsonKind::object) {
        json.value(value);
        const Text reason = string_member(value, "blockReason");
        if (!reason.empty()) finished(reason.decode());
      } else if (key == "error" && json.kind() == JsonKind::object) {
        json.skip();
        error_ = stream_error(source);
      }
    }
  }

  void candidates(JsonReader& json) {
    json.begin_array();
    while (json.next_item()) {
      if (json.kind() != JsonKind::object) {
        json.skip();
        continue;
      }
      std::string_view key;
      json.begin_object();
      while (json.next_key(key)) {
        JsonSlice value;
        Text word;
        if (key == "content" && json.value(value)) {
          if (!member(value, "parts").empty()) meaningful_ = true;
        } else if (key == "finishReason") {
          if (json.kind() == JsonKind::string && json.string(word)) {
            finished(word.decode());
          } else if (json.kind() == JsonKind::number && json.number(value)) {
            finished(std::string(value));
          }
        }
      }
    }
  }

  void finished(std::string word) {
    finish_word_ = std::move(word);
    terminated_ = true;
  }
};

// ----------------------------------------------------------------------------------------- errors

struct StatusRow {
  int status;
  std::string_view word;
};
constexpr std::array kStatusWords{
    StatusRow{400, "INVALID_ARGUMENT"},
    StatusRow{401, "UNAUTHENTICATED"},
    StatusRow{402, "RESOURCE_EXHAUSTED"},
    StatusRow{403, "PERMISSION_DENIED"},
    StatusRow{404, "NOT_FOUND"},
    StatusRow{408, "DEADLINE_EXCEEDED"},
    StatusRow{409, "ABORTED"},
    StatusRow{413, "INVALID_ARGUMENT"},
    StatusRow{422, "INVALID_ARGUMENT"},
    StatusRow{429, "RESOURCE_EXHAUSTED"},
    StatusRow{499, "CANCELLED"},
    StatusRow{500, "INTERNAL"},
    StatusRow{502, "INTERNAL"},
    StatusRow{503, "UNAVAILABLE"},
    StatusRow{504, "DEADLINE_EXCEEDED"},
    StatusRow{529, "UNAVAILABLE"},
};

void encode_error(const Error& error, std::string& out) {
  const int status = error.http_status() == 529 ? 503 : error.http_status();
  std::string_view word = status >= 500 ? "INTERNAL" : "INVALID_ARGUMENT";
  for (const StatusRow& row : kStatusWords) {
    if (row.status == status) word = row.word;
  }
  JsonWriter json(out);
  json.begin_object().key("error").begin_object().member("code", std::int64_t{status});
  json.member("message", std::string_view(error.message)).member("status", word);
  const bool details = error.retry_after || !error.code.empty();
  if (details) json.key("details").begin_array();
  if (!error.code.empty()) {
    json.begin_object().member("@type", "type.googleapis.com/google.rpc.ErrorInfo");
    json.member("reason", std::string_view(error.code)).end_object();
  }
  if (error.retry_after) {
    const std::string delay = std::to_string((error.retry_after->count() + 999) / 1000) + "s";
    json.begin_object().member("@type", "type.googleapis.com/google.rpc.RetryInfo");
    json.member("retryDelay", std::string_view(delay)).end_object();
  }
  if (details) json.end_array();
  json.end_object().end_object();
}

void encode_stream_error(const Error& error, std::string& out) {
  out += "data: ";
  encode_error(error, out);
  out += "\r\n\r\n";
}

// A bad key is a 400 here and a 401 everywhere else.
Error with_bad_key(Error error, std::string_view body) {
  if (error.http_status() == 400 && (body.find("API_KEY_INVALID") != std::string_view::npos ||
                                     body.find("API key not valid") != std::string_view::npos)) {
    error.kind = ErrorKind::unauthenticated;
    error.status = 401;
  }
  return error;
}

Error decode_error(int status, std::string_view body) {
  return with_bad_key(decode_any_error(status, body), body);
}

Error stream_error(JsonSlice json) {
  return with_bad_key(decode_stream_error(json), json);
}

std::unique_ptr<ReplyDecoder> reply_decoder(const Translation&) {
  return std::make_unique<Decoder>();
}
std::unique_ptr<ReplyEncoder> stream_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, context.json_array ? Form::array : Form::events);
}
std::unique_ptr<ReplyEncoder> whole_encoder(const EncodeContext& context) {
  return std::make_unique<Encoder>(context, Form::whole);
}
std::unique_ptr<ReplyObserver> observer() {
  return std::make_unique<Observer>();
}

}  // namespace

const Codec kGeminiGenerate{
    kFormat,       decode_request, encode_request, reply_decoder,       stream_encoder,
    whole_encoder, observer,       encode_error,   encode_stream_error, decode_error,
};

}  // namespace llm_proxy
