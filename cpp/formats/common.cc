#include "formats/common.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "base/duration_text.h"
#include "json/reader.h"

namespace llm_proxy {
namespace {

std::uint64_t hash_of(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
  return hash;
}

std::uint64_t split_mix(std::uint64_t& state) {
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

void append_base62(std::uint64_t state, std::size_t count, std::string& out) {
  constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  while (count > 0) {
    std::uint64_t bits = split_mix(state);
    for (int i = 0; i < 10 && count > 0; ++i, --count, bits /= 62) out += kDigits[bits % 62];
  }
}

bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_word(char c) {
  return is_alphanumeric(c) || c == '_' || c == '-';
}
bool all_word(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_word);
}

}  // namespace

// ------------------------------------------------------------------------------------------- ids

std::string made_id(std::string_view prefix, std::string_view seed, std::uint64_t position) {
  std::string id(prefix);
  append_base62(hash_of(seed, position * 0x9e3779b97f4a7c15u), 24, id);
  return id;
}

std::string mapped_id(Text id, const IdRule& rule) {
  std::string plain = id.decode();
  const bool fits =
      !plain.empty() && plain.size() <= rule.max_length && (!rule.word_only || all_word(plain)) &&
      (!rule.nine_alphanumeric ||
       (plain.size() == 9 && std::all_of(plain.begin(), plain.end(), is_alphanumeric)));
  if (fits) return plain;
  std::string mapped(rule.nine_alphanumeric ? std::string_view() : rule.prefix);
  append_base62(hash_of(plain, 0), rule.nine_alphanumeric ? 9 : 24, mapped);
  return mapped;
}

// ------------------------------------------------------------------------------------ tool names

std::string upstream_tool_name(Translation& translation, Text name, Text tool_namespace,
                               CallKind kind, std::size_t max_length) {
  const std::string plain = name.decode();
  const std::string space = tool_namespace.decode();
  for (const Translation::ToolAlias& alias : translation.aliases) {
    if (alias.name == plain && alias.tool_namespace == space && alias.kind == kind) {
      return alias.upstream_name;
    }
  }
  std::string upstream = space.empty() ? plain : space + "__" + plain;
  if (!all_word(upstream) || upstream.size() > max_length) {
    const std::uint64_t hash = hash_of(upstream, 0);
    std::replace_if(
        upstream.begin(), upstream.end(), [](char c) { return !is_word(c); }, '_');
    upstream.resize(std::min(upstream.size(), max_length - 9));
    upstream += '_';
    append_base62(hash, 8, upstream);
  }
  if (upstream != plain || kind == CallKind::custom) {
    translation.aliases.push_back({upstream, plain, space, kind});
  }
  return upstream;
}

const Translation::ToolAlias* find_alias(const Translation* translation, Text upstream_name) {
  if (translation == nullptr) return nullptr;
  for (const Translation::ToolAlias& alias : translation->aliases) {
    if (upstream_name == alias.upstream_name) return &alias;
  }
  return nullptr;
}

// ------------------------------------------------------------------------------------- arguments

namespace {

// The value of the only member, a string, of `object` when its key is `key`.
std::optional<Text> only_string_member(JsonSlice object, std::string_view key) {
  JsonReader json(object);
  std::string_view name;
  Text text;
  int members = 0;
  bool found = false;
  if (!json.begin_object()) return std::nullopt;
  while (json.next_key(name)) {
    ++members;
    if (name == key && json.kind() == JsonKind::string) found = json.string(text);
  }
  if (!json.finish() || members != 1 || !found) return std::nullopt;
  return text;
}

}  // namespace

void write_arguments_object(const ToolCallPart& call, JsonWriter& json) {
  if (call.kind == CallKind::custom) {
    json.begin_object().member("input", call.arguments_text).end_object();
    return;
  }
  std::string compact;
  if (!call.arguments_object.empty()) {
    compact_to(call.arguments_object, compact);
    json.raw(compact);
    return;
  }
  const std::string text = call.arguments_text.decode();
  if (is_json_object(text)) {
    compact_to(text, compact);
    json.raw(compact);
  } else if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
    json.raw("{}");
  } else {
    json.begin_object().member(kRawArgumentsKey, std::string_view(text)).end_object();
  }
}

void append_arguments_text(const ToolCallPart& call, std::string& escaped) {
  if (call.kind == CallKind::custom) {
    std::string wrapped;
    JsonWriter(wrapped).begin_object().member("input", call.arguments_text).end_object();
    Text::plain(wrapped).escape_to(escaped);
  } else if (call.arguments_object.empty()) {
    call.arguments_text.escape_to(escaped);
  } else if (const auto raw = only_string_member(call.arguments_object, kRawArgumentsKey)) {
    raw->escape_to(escaped);
  } else {
    std::string compact;
    compact_to(call.arguments_object, compact);
    Text::plain(compact).escape_to(escaped);
  }
}

std::string unwrapped_input(std::string_view arguments) {
  const auto input = only_string_member(arguments, "input");
  return input ? input->decode() : std::string(arguments);
}

std::string response_text(JsonSlice response) {
  for (const std::string_view key : {"output", "result", "error", "content"}) {
    if (const auto text = only_string_member(response, key)) {
      std::string escaped;
      text->escape_to(escaped);
      return escaped;
    }
  }
  std::string compact, escaped;
  compact_to(response, compact);
  Text::plain(compact).escape_to(escaped);
  return escaped;
}

std::string result_text(const Part& part) {
  std::string text;
  if (const auto* said = std::get_if<TextPart>(&part)) {
    said->text.escape_to(text);
  } else if (const auto* media = std::get_if<MediaPart>(&part)) {
    if (media->source == MediaPart::Source::text) media->data.escape_to(text);
  } else if (const auto* raw = std::get_if<RawPart>(&part);
             raw != nullptr && raw->type == "search_result") {
    const auto line = [&](Text piece) {
      if (piece.empty()) return;
      if (!text.empty()) text += "\\n";
      piece.escape_to(text);
    };
    line(string_member(raw->json, "title"));
    line(string_member(raw->json, "source"));
    JsonReader json(member(raw->json, "content"));
    if (json.kind() != JsonKind::array) return text;
    json.begin_array();
    while (json.next_item()) {
      JsonSlice block;
      if (!json.object(block)) break;
      line(string_member(block, "text"));
    }
  }
  return text;
}

bool is_offered(const Tool& tool) {
  return !tool.deferred || !(tool.name == "DeferredToolPlaceholder");
}

bool is_system(Role role) {
  return role == Role::system || role == Role::developer;
}

bool may_be_left_out(const Request& request, const Tool& server_tool) {
  // Responses says web_search, Anthropic web_search_20250305: what coding agents offer unasked.
  constexpr std::string_view kOffered = "web_search";
  if (server_tool.type.substr(0, kOffered.size()) != kOffered) return false;
  if (request.tool_choice && request.tool_choice->mode == ToolChoice::Mode::one) {
    const std::string name = server_tool.name.decode();
    const auto& names = request.tool_choice->names;
    if (std::any_of(names.begin(), names.end(),
                    [&](Text each) { return each == name || each == server_tool.type; })) {
      return false;
    }
  }
  return std::any_of(request.tools.begin(), request.tools.end(), [](const Tool& tool) {
    return tool.kind != Tool::Kind::server && is_offered(tool);
  });
}

// ----------------------------------------------------------------------------------------- media

std::optional<DataUrl> split_data_url(Text url) {
  const std::string_view bytes = url.bytes();
  if (bytes.substr(0, 5) != "data:") return std::nullopt;
  const std::size_t comma = bytes.find(',');
  if (comma == std::string_view::npos) return std::nullopt;
  const auto same_spelling = [&](std::string_view piece) {
    return url.is_escaped() ? Text::escaped(piece) : Text::plain(piece);
  };
  const std::string_view head = bytes.substr(5, comma - 5);
  DataUrl parts;
  parts.base64 = head.size() >= 7 && head.substr(head.size() - 7) == ";base64";
  parts.mime_type = same_spelling(head.substr(0, head.find(';')));
  parts.data = same_spelling(bytes.substr(comma + 1));
  return parts;
}

std::optional<std::string> decode_base64(std::string_view digits) {
  std::string out;
  out.reserve(digits.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : digits) {
    std::uint32_t value;
    if (c >= 'A' && c <= 'Z') {
      value = static_cast<std::uint32_t>(c - 'A');
    } else if (c >= 'a' && c <= 'z') {
      value = static_cast<std::uint32_t>(c - 'a' + 26);
    } else if (c >= '0' && c <= '9') {
      value = static_cast<std::uint32_t>(c - '0' + 52);
    } else if (c == '+' || c == '-') {
      value = 62;
    } else if (c == '/' || c == '_') {
      value = 63;
    } else if (c == '=' || c == '\n' || c == '\r') {
      continue;
    } else {
      return std::nullopt;
    }
    bits = bits << 6 | value;
    if ((count += 6) >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xFF);
    }
  }
  return out;
}

// ------------------------------------------------------------------------------------- reasoning

namespace {

struct EffortRow {
  Reasoning::Effort effort;
  std::string_view word;
  std::int64_t budget;
  std::int64_t up_to;  // budgets up to this read as the effort
};

constexpr std::array kEfforts{
    EffortRow{Reasoning::Effort::none, "none", 0, 0},
    EffortRow{Reasoning::Effort::minimal, "minimal", 1024, 1024},
    EffortRow{Reasoning::Effort::low, "low", 2048, 4096},
    EffortRow{Reasoning::Effort::medium, "medium", 8192, 12'000},
    EffortRow{Reasoning::Effort::high, "high", 24'576, 25'000},
    EffortRow{Reasoning::Effort::xhigh, "xhigh", 32'000, 40'000},
    EffortRow{Reasoning::Effort::max, "max", 48'000, INT64_MAX},
};

}  // namespace

std::string_view word(Reasoning::Effort effort) {
  return kEfforts[static_cast<std::size_t>(effort)].word;
}

std::optional<Reasoning::Effort> effort_named(Text named) {
  for (const EffortRow& row : kEfforts) {
    if (named == row.word) return row.effort;
  }
  return std::nullopt;
}

std::int64_t budget_of(Reasoning::Effort effort) {
  return kEfforts[static_cast<std::size_t>(effort)].budget;
}

Reasoning::Effort effort_of_budget(std::int64_t tokens) {
  if (tokens < 0) return Reasoning::Effort::medium;
  for (const EffortRow& row : kEfforts) {
    if (tokens <= row.up_to) return row.effort;
  }
  return Reasoning::Effort::max;
}

std::optional<Reasoning::Effort> effort_of(const Reasoning& reasoning) {
  if (reasoning.effort) return reasoning.effort;
  if (reasoning.budget_tokens) return effort_of_budget(*reasoning.budget_tokens);
  if (reasoning.adaptive.value_or(false)) return Reasoning::Effort::medium;
  return std::nullopt;
}

// ----------------------------------------------------------------------------------------- seals

namespace {

struct SealRow {
  WireFormat maker;
  bool redacted;
  std::string_view marker;
};

constexpr std::array kSealMarkers{
    SealRow{WireFormat::openai_chat, false, "c1:"},
    SealRow{WireFormat::openai_responses, false, "r1:"},
    SealRow{WireFormat::anthropic_messages, false, "a1:"},
    SealRow{WireFormat::anthropic_messages, true, "a1r:"},
    SealRow{WireFormat::gemini_generate, false, "g1:"},
};

}  // namespace

std::string carried_seal(const Seal& seal, bool redacted) {
  std::string carried;
  for (const SealRow& row : kSealMarkers) {
    if (row.maker != seal.maker) continue;
    if (row.redacted && !redacted) continue;
    carried = row.marker;
  }
  if (seal.maker == WireFormat::openai_responses) {
    seal.item_id.decode_to(carried);
    carried += ':';
  }
  seal.token.decode_to(carried);
  return carried;
}

bool is_foreign(const Message& message, WireFormat own) {
  return std::any_of(message.parts.begin(), message.parts.end(), [own](const Part& part) {
    const auto* thinking = std::get_if<ThinkingPart>(&part);
    return thinking != nullptr && !thinking->seal.empty() && thinking->seal.maker != own;
  });
}

OpenedSeal opened_seal(Text token, WireFormat field_format) {
  OpenedSeal opened;
  opened.seal.maker = field_format;
  opened.seal.token = token;
  std::string_view bytes = token.bytes();
  const auto same_spelling = [&](std::string_view piece) {
    return token.is_escaped() ? Text::escaped(piece) : Text::plain(piece);
  };
  for (const SealRow& row : kSealMarkers) {
    if (bytes.substr(0, row.marker.size()) != row.marker) continue;
    bytes.remove_prefix(row.marker.size());
    opened.carried = true;
    opened.redacted = row.redacted;
    opened.seal.maker = row.maker;
    if (row.maker == WireFormat::openai_responses) {
      const std::size_t colon = std::min(bytes.find(':'), bytes.size());
      opened.seal.item_id = same_spelling(bytes.substr(0, colon));
      bytes.remove_prefix(std::min(colon + 1, bytes.size()));
    }
    opened.seal.token = same_spelling(bytes);
    break;
  }
  return opened;
}

bool carries_seals(WireFormat format, std::string_view body) {
  struct FieldRow {
    WireFormat format;
    std::string_view key;
  };
  static constexpr std::array kFields{
      FieldRow{WireFormat::openai_responses, "\"encrypted_content\""},
      FieldRow{WireFormat::anthropic_messages, "\"signature\""},
      FieldRow{WireFormat::anthropic_messages, "\"data\""},
      FieldRow{WireFormat::gemini_generate, "\"thoughtSignature\""},
      FieldRow{WireFormat::gemini_generate, "\"thought_signature\""},
  };
  // The markers as they stand there; Gemini's field holds base64.
  static constexpr std::array<std::string_view, 5> kPlain{"c1:", "r1:", "a1:", "a1r:", "g1:"};
  static constexpr std::array<std::string_view, 5> kBase64{"YzE6", "cjE6", "YTE6", "YTFyO", "ZzE6"};
  const auto& markers = format == WireFormat::gemini_generate ? kBase64 : kPlain;
  for (const FieldRow& row : kFields) {
    if (row.format != format) continue;
    std::size_t at = 0;
    while (const void* found =
               memmem(body.data() + at, body.size() - at, row.key.data(), row.key.size())) {
      at = static_cast<std::size_t>(static_cast<const char*>(found) - body.data()) + row.key.size();
      const std::size_t quote = body.find_first_not_of(" \t\r\n:", at);
      if (quote == std::string_view::npos || body[quote] != '"') continue;
      const std::string_view value = body.substr(quote + 1);
      for (const std::string_view marker : markers) {
        if (value.substr(0, marker.size()) == marker) return true;
      }
    }
  }
  return false;
}

// ---------------------------------------------------------------------------------------- losses

namespace {

struct LossRow {
  WireFormat from;
  std::string_view field;
  Loss::Class what;
};

// Top-level keys without a place in the canonical model. What is not listed is a key nobody told us
// of: degrade.
constexpr std::array kLossRows{
    LossRow{WireFormat::openai_chat, "audio", Loss::Class::degrade},
    LossRow{WireFormat::openai_chat, "web_search_options", Loss::Class::refuse},
    LossRow{WireFormat::openai_chat, "plugins", Loss::Class::refuse},
    LossRow{WireFormat::openai_chat, "modalities", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prediction", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "store", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "metadata", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "service_tier", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prompt_cache_key", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prompt_cache_options", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "prompt_cache_retention", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "moderation", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "usage", Loss::Class::drop},
    LossRow{WireFormat::openai_chat, "provider", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "background", Loss::Class::refuse},
    LossRow{WireFormat::openai_responses, "prompt", Loss::Class::refuse},
    LossRow{WireFormat::openai_responses, "store", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "include", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "metadata", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "client_metadata", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "service_tier", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "stream_options", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "prompt_cache_key", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "prompt_cache_options", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "prompt_cache_retention", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "moderation", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "access_programs", Loss::Class::drop},
    LossRow{WireFormat::openai_responses, "provider", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "cachedContent", Loss::Class::refuse},
    LossRow{WireFormat::gemini_generate, "responseModalities", Loss::Class::degrade},
    LossRow{WireFormat::gemini_generate, "speechConfig", Loss::Class::degrade},
    LossRow{WireFormat::gemini_generate, "safetySettings", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "modelArmorConfig", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "labels", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "serviceTier", Loss::Class::drop},
    LossRow{WireFormat::gemini_generate, "store", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "container", Loss::Class::refuse},
    LossRow{WireFormat::anthropic_messages, "mcp_servers", Loss::Class::refuse},
    LossRow{WireFormat::anthropic_messages, "thread", Loss::Class::refuse},
    LossRow{WireFormat::anthropic_messages, "metadata", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "service_tier", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "cache_control", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "safeguards", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "inference_geo", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "billing_policy", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "diagnostics", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "speed", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "fallbacks", Loss::Class::drop},
    LossRow{WireFormat::anthropic_messages, "betas", Loss::Class::drop},
};

}  // namespace

void lose(Translation& translation, Loss::Class what, std::string_view field,
          std::string_view note) {
  for (const Loss& loss : translation.losses) {
    if (loss.field == field && loss.note == note) return;
  }
  translation.losses.push_back({what, std::string(field), std::string(note)});
}

Result<void> lose_rest(const Request& request, Translation& translation) {
  if (!request.conversation.empty() && !translation.view) {
    Error error{ErrorKind::not_found, "Conversation with id '" + request.conversation.decode() +
                                          "' not found: it was not made here, or is forgotten"};
    error.param = "conversation";
    return error;
  }
  if (!request.previous_response_id.empty() && !translation.view) {
    Error error = refusal_of("previous_response_id", "needs a store this backend does not have");
    error.code = "previous_response_not_found";
    return error;
  }
  for (const auto& [key, value] : request.rest) {
    Loss::Class what = Loss::Class::degrade;
    for (const LossRow& row : kLossRows) {
      if (row.from == request.format && row.field == key) what = row.what;
    }
    if (what == Loss::Class::refuse && value != "null" && value != "[]" && !translation.view) {
      return refusal_of(key, "has no counterpart in the upstream's format");
    }
    lose(translation, what, key);
  }
  return {};
}

Error refusal_of(std::string_view field, std::string_view why) {
  Error error;
  error.kind = ErrorKind::unsupported;
  error.param = field;
  error.message = "'";
  error.message += field;
  error.message += "' ";
  error.message += why;
  error.message += "; leave it out or choose another backend.";
  return error;
}

// ---------------------------------------------------------------------------------------- errors

namespace {

struct WordRow {
  std::string_view word;
  ErrorKind kind;
};

// What servers call their errors, in `type`, `code` or `status`.
constexpr std::array kErrorWords{
    WordRow{"overloaded_error", ErrorKind::overloaded},
    WordRow{"rate_limit_error", ErrorKind::rate_limited},
    WordRow{"rate_limit_exceeded", ErrorKind::rate_limited},
    WordRow{"RESOURCE_EXHAUSTED", ErrorKind::rate_limited},
    WordRow{"insufficient_quota", ErrorKind::rate_limited},
    WordRow{"billing_error", ErrorKind::payment_required},
    WordRow{"authentication_error", ErrorKind::unauthenticated},
    WordRow{"invalid_api_key", ErrorKind::unauthenticated},
    WordRow{"UNAUTHENTICATED", ErrorKind::unauthenticated},
    WordRow{"permission_error", ErrorKind::forbidden},
    WordRow{"PERMISSION_DENIED", ErrorKind::forbidden},
    WordRow{"model_not_found", ErrorKind::unknown_model},
    WordRow{"not_found_error", ErrorKind::not_found},
    WordRow{"NOT_FOUND", ErrorKind::not_found},
    WordRow{"request_too_large", ErrorKind::body_too_large},
    WordRow{"invalid_request_error", ErrorKind::malformed_request},
    WordRow{"invalid_prompt", ErrorKind::malformed_request},
    WordRow{"tool_use_failed", ErrorKind::malformed_request},
    WordRow{"INVALID_ARGUMENT", ErrorKind::malformed_request},
    WordRow{"FAILED_PRECONDITION", ErrorKind::malformed_request},
    WordRow{"timeout_error", ErrorKind::upstream_timeout},
    WordRow{"DEADLINE_EXCEEDED", ErrorKind::upstream_timeout},
    WordRow{"UNAVAILABLE", ErrorKind::unavailable},
    WordRow{"api_error", ErrorKind::internal},
    WordRow{"server_error", ErrorKind::internal},
    WordRow{"INTERNAL", ErrorKind::internal},
};

std::optional<ErrorKind> kind_of_word(std::string_view word) {
  for (const WordRow& row : kErrorWords) {
    if (row.word == word) return row.kind;
  }
  return std::nullopt;
}

// A string's text, a number's digits; anything else as it stands, shortened.
std::string plain_of(JsonSlice value) {
  if (value.empty() || value == "null") return {};
  if (value.front() == '"') return Text::escaped(value.substr(1, value.size() - 2)).decode();
  return std::string(value.substr(0, 500));
}

std::string cut_text(std::string_view text) {
  std::size_t size = std::min<std::size_t>(text.size(), 500);
  while (size > 0 && size < text.size() && (text[size] & 0xC0) == 0x80) --size;
  return std::string(text.substr(0, size));
}

// What bodies say about the time to wait, where the head says nothing.
constexpr std::array<std::string_view, 5> kWaitWords{"\"retryDelay\"", "\"quotaResetDelay\"",
                                                     "reset after ", "try again in ", "retry in "};

std::optional<std::chrono::milliseconds> retry_delay(std::string_view body) {
  for (const auto words : kWaitWords) {
    const std::size_t at = body.find(words);
    if (at == std::string_view::npos) continue;
    const std::size_t digits = body.find_first_of("0123456789", at + words.size());
    if (digits == std::string_view::npos || digits - at > words.size() + 4) continue;
    if (const auto time = parse_duration_text(body.substr(digits))) return time;
  }
  return std::nullopt;
}

// Fills message, type, code and param from the usual places (section 9.1). False when there is no
// message.
bool read_error_object(JsonSlice object, Error& error, int& code_number) {
  JsonReader json(object);
  std::string_view key;
  JsonSlice inner, message, type, code, param, status, detail;
  if (!json.begin_object()) return false;
  while (json.next_key(key)) {
    if (key == "error" || key == "response") {
      json.value(inner);
    } else if (key == "message") {
      json.value(message);
    } else if (key == "type") {
      json.value(type);
    } else if (key == "code") {
      json.value(code);
    } else if (key == "param") {
      json.value(param);
    } else if (key == "status") {
      json.value(status);
    } else if (key == "detail") {
      json.value(detail);
    }
  }
  if (!json.finish()) return false;
  if (!code.empty()) {
    if (code.front() == '"') {
      error.code = plain_of(code);
    } else {
      std::from_chars(code.data(), code.data() + code.size(), code_number);
    }
  }
  if (!inner.empty() && inner.front() == '{') return read_error_object(inner, error, code_number);
  if (!inner.empty() && inner.front() == '"') message = inner;
  if (message.empty() || message == "null") message = detail;
  if (const std::string word = plain_of(type); word != "error") error.type = word;
  if (error.type.empty() || !kind_of_word(error.type)) {
    if (!status.empty() && status.front() == '"') error.type = plain_of(status);
  }
  error.param = plain_of(param);
  error.message = plain_of(message);
  return !error.message.empty() || !error.type.empty() || !error.code.empty();
}

}  // namespace

Error malformed(std::string message, std::string param) {
  return Error{.kind = ErrorKind::malformed_request,
               .message = std::move(message),
               .param = std::move(param)};
}

Error garbled(std::string_view what) {
  return Error{.kind = ErrorKind::upstream_garbled, .message = std::string(what)};
}

Error garbled(std::string_view wanted, std::string_view why) {
  std::string message("The upstream's answer is not ");
  message.append(wanted).append(" (").append(why).append(").");
  return garbled(message);
}

Error cut_short() {
  return Error{.kind = ErrorKind::upstream_cut,
               .message = "The upstream's stream ended before it was complete."};
}

Error decode_any_error(int status, std::string_view body) {
  Error error;
  int code_number = 0;
  // Gemini's array form: [{"error": …}].
  std::string_view object = body;
  const std::size_t first = object.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && object[first] == '[') {
    JsonReader json(object);
    JsonSlice item;
    if (json.begin_array() && json.next_item() && json.value(item)) object = item;
  }
  if (!valid_utf8(object) || !read_error_object(object, error, code_number)) {
    error.message = valid_utf8(body) ? cut_text(body) : std::string();
  }
  error.status = status;
  error.kind = kind_of_status(status);
  if (status == 400 && body.find("API_KEY_INVALID") != std::string_view::npos) {
    error.kind = ErrorKind::unauthenticated;
    error.status = 401;
  }
  if (error.code == "model_not_found" && (status == 400 || status == 404)) {
    error.kind = ErrorKind::unknown_model;
  }
  if (error.type == "overloaded_error" && status >= 500) error.kind = ErrorKind::overloaded;
  if (status == 429 || status >= 500) error.retry_after = retry_delay(body);
  error.message = masked(error.message);
  if (error.message.empty()) {
    error.message = "The upstream answered with status " + std::to_string(status) + ".";
  }
  return error;
}

Error decode_stream_error(JsonSlice json) {
  Error error;
  int code_number = 0;
  if (!read_error_object(json, error, code_number)) error.message = cut_text(json);
  error.kind = ErrorKind::internal;
  if (code_number >= 400 && code_number < 600) {
    error.status = code_number;
    error.kind = kind_of_status(code_number);
  }
  if (const auto by_type = kind_of_word(error.type)) error.kind = *by_type;
  if (const auto by_code = kind_of_word(error.code)) error.kind = *by_code;
  error.retry_after = retry_delay(json);
  error.message = masked(error.message);
  if (error.message.empty()) error.message = "The upstream reported an error without a message.";
  return error;
}

int status_for(WireFormat format, const Error& error) {
  const int status = error.http_status();
  return status == 529 && format != WireFormat::anthropic_messages ? 503 : status;
}

std::string masked(std::string_view text) {
  constexpr std::array<std::string_view, 6> kKeyStarts{"sk-",  "Bearer ", "AIza",
                                                       "gsk_", "xai-",    "key="};
  constexpr std::size_t kShortestSecret = 16;
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    for (const std::string_view start : kKeyStarts) {
      if (text.compare(at, start.size(), start) != 0) continue;
      end = at + start.size();
      while (end < text.size() && (is_word(text[end]) || text[end] == '.')) ++end;
      if (end - at - start.size() < kShortestSecret) {
        end = at;
        continue;
      }
      out += start;
      out += "***";
      break;
    }
    if (end == at)
      out += text[at++];
    else
      at = end;
  }
  return out;
}

}  // namespace llm_proxy
