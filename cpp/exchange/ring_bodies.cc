#include "exchange/ring_bodies.h"

#include <utility>
#include <vector>

#include "json/graft.h"
#include "json/reader.h"
#include "json/text.h"
#include "json/writer.h"

namespace llm_proxy {
namespace {

Result<std::string> request_as(const Format& client, std::string_view chat_body) {
  auto decoded = format_of(kRingFormat).decode_request(chat_body, {}, false);
  if (!decoded) return std::move(decoded).error();
  Translation translation;
  std::string out;
  if (auto encoded = client.encode_request(*decoded, translation, out); !encoded) {
    return std::move(encoded).error();
  }
  return out;
}

Result<std::string> reply_as(const Format& client, const EncodeContext& context,
                             std::string_view chat_body) {
  const Translation translation;
  const auto decoder = format_of(kRingFormat).reply_decoder(translation);
  const auto encoder = client.whole_encoder(context);
  if (auto decoded = decoder->on_whole(chat_body, *encoder); !decoded) {
    return std::move(decoded).error();
  }
  return std::move(encoder->out());
}

}  // namespace

Result<std::string> chat_view(const Request& request, std::string_view model) {
  Translation translation;
  translation.upstream_model = model;
  translation.view = true;
  std::string out;
  auto encoded = format_of(kRingFormat).encode_request(request, translation, out);
  if (!encoded) return std::move(encoded).error();
  return out;
}

std::optional<std::string> edited_request(const Format& client, std::string_view body,
                                          std::string_view view, std::string_view edited) {
  const auto before = request_as(client, view);
  const auto after = request_as(client, edited);
  if (!before || !after) return std::nullopt;
  return graft(body, *before, *after);
}

void keep_streaming(std::string& body) {
  JsonReader json(body);
  if (!json.begin_object()) return;
  const auto begin = json.position();
  bool alone = true;
  for (std::string_view key; json.next_key(key); alone = false) {
    if (key == "stream" || !json.skip()) return;
  }
  if (json.failed()) return;
  body.insert(begin, alone ? R"("stream":true)" : R"("stream":true,)");
}

void hide_rest(const Placeholders& placeholders, std::string& body) {
  constexpr std::size_t kShort = 8;
  for (const auto& [placeholder, value] : placeholders) {
    if (value.size() < kShort) continue;
    std::string hidden, shown;
    Text::plain(placeholder).escape_to(hidden);
    Text::plain(value).escape_to(shown);
    for (auto at = body.find(shown); at != std::string::npos; at = body.find(shown, at)) {
      body.replace(at, shown.size(), hidden);
      at += hidden.size();
    }
  }
}

Result<std::string> edited_reply(const Format& client, const EncodeContext& context,
                                 std::string_view body, std::string_view view,
                                 std::string_view edited) {
  auto after = reply_as(client, context, edited);
  const auto before = reply_as(client, context, view);
  if (!after || !before) return after;
  if (auto grafted = graft(body, *before, *after)) return *std::move(grafted);
  return after;
}

// ---- embeddings and legacy completions

namespace {

// The texts of a request, in the order of their messages in its view.
struct Prompts {
  std::vector<Text> texts;  // of the member, then of `suffix`
  bool listed = false;      // the member is a list
  bool has_member = false, has_suffix = false;
  bool has_messages = false;  // it is a conversation after all
};

std::optional<Prompts> prompts_of(std::string_view body, std::string_view member) {
  Prompts out;
  Text text, suffix;
  JsonReader json(body);
  json.begin_object();
  for (std::string_view key; json.next_key(key);) {
    if (key == member) {
      if (std::exchange(out.has_member, true)) return std::nullopt;
      if (json.kind() == JsonKind::string) {
        json.string(text);
        out.texts.push_back(text);
        continue;
      }
      if (json.kind() != JsonKind::array) return std::nullopt;
      out.listed = true;
      json.begin_array();
      while (json.next_item()) {
        if (json.kind() != JsonKind::string) return std::nullopt;
        json.string(text);
        out.texts.push_back(text);
      }
    } else if (key == "suffix" && !json.null()) {
      if (std::exchange(out.has_suffix, true) || json.kind() != JsonKind::string) {
        return std::nullopt;
      }
      json.string(suffix);
    } else if (key == "messages") {
      out.has_messages = true;
    }
  }
  if (!json.finish()) return std::nullopt;
  if (out.has_messages && (out.has_member || out.has_suffix)) return std::nullopt;
  if (out.has_suffix) out.texts.push_back(suffix);
  return out;
}

// The texts of a view's messages; nothing unless they are all of users.
std::optional<std::vector<Text>> user_texts(JsonReader& json) {
  std::vector<Text> out;
  if (json.kind() != JsonKind::array) return std::nullopt;
  json.begin_array();
  while (json.next_item()) {
    Text role, content;
    if (json.kind() != JsonKind::object) return std::nullopt;
    bool said = false;
    json.begin_object();
    for (std::string_view key; json.next_key(key);) {
      if (key == "role") json.maybe_string(role);
      if (key == "content") said = json.maybe_string(content);
    }
    if (!said || !(role == "user")) return std::nullopt;
    out.push_back(content);
  }
  return out;
}

}  // namespace

std::string_view prompts_member(std::string_view upstream_path) {
  return upstream_path == "/embeddings" ? "input" : "prompt";
}

std::optional<std::string> prompts_view(std::string_view body, std::string_view member) {
  const auto prompts = prompts_of(body, member);
  if (!prompts) return std::nullopt;
  if (prompts->has_messages) return std::string(body);
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  JsonReader reader(body);
  reader.begin_object();
  for (std::string_view key; reader.next_key(key);) {
    if (key == member || key == "suffix") continue;
    const std::string name(key);
    JsonSlice value;
    if (reader.value(value)) json.key(Text::plain(name)).raw(value);
  }
  json.key("messages").begin_array();
  for (const Text& text : prompts->texts) {
    json.begin_object().member("role", "user").member("content", text).end_object();
  }
  json.end_array().end_object();
  return out;
}

Result<std::string> prompts_body(std::string_view body, std::string_view member,
                                 std::string_view edited) {
  const auto prompts = prompts_of(body, member);
  if (prompts && prompts->has_messages) return std::string(edited);
  std::optional<std::vector<Text>> texts;
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  JsonReader reader(edited);
  reader.begin_object();
  for (std::string_view key; reader.next_key(key);) {
    if (key == "messages") {
      texts = user_texts(reader);
      if (!texts) break;
      continue;
    }
    const std::string name(key);
    JsonSlice value;
    if (reader.value(value)) json.key(Text::plain(name)).raw(value);
  }
  if (!prompts || !texts || texts->size() != prompts->texts.size()) {
    return Error{ErrorKind::unsupported,
                 "a ring plugin of this proxy has added to the messages of the request, and this "
                 "endpoint has no place for that: ask at /v1/chat/completions"};
  }
  if (prompts->has_suffix) {
    json.member("suffix", texts->back());
    texts->pop_back();
  }
  if (prompts->has_member && !prompts->listed) {
    json.key(Text::plain(member)).string(texts->front());
  } else if (prompts->has_member) {
    json.key(Text::plain(member)).begin_array();
    for (const Text& text : *texts) json.string(text);
    json.end_array();
  }
  json.end_object();
  return out;
}

namespace {

// Copies a reply whose choices' member `from` becomes what `put` writes.
template <typename Put>
bool copy_choices(std::string_view body, std::string_view from, std::string& out, Put put) {
  JsonWriter json(out);
  JsonReader reader(body);
  std::size_t index = 0;
  bool found = false;
  if (!reader.begin_object()) return false;
  json.begin_object();
  for (std::string_view key; reader.next_key(key);) {
    const std::string name(key);
    json.key(Text::plain(name));
    if (name != "choices" || reader.kind() != JsonKind::array) {
      JsonSlice value;
      if (reader.value(value)) json.raw(value);
      continue;
    }
    found = true;
    json.begin_array();
    reader.begin_array();
    while (reader.next_item()) {
      json.begin_object();
      if (!reader.begin_object()) return false;
      for (std::string_view inner; reader.next_key(inner);) {
        const std::string held(inner);
        JsonSlice value;
        if (!reader.value(value)) return false;
        if (held == from) {
          if (!put(json, index, value)) return false;
        } else {
          json.key(Text::plain(held)).raw(value);
        }
      }
      json.end_object();
      ++index;
    }
    json.end_array();
  }
  json.end_object();
  return reader.finish() && found;
}

}  // namespace

std::optional<std::string> completion_view(std::string_view body) {
  std::string out;
  const auto put = [](JsonWriter& json, std::size_t, JsonSlice text) {
    if (!text.starts_with('"') && text != "null") return false;
    json.key("message").begin_object().member("role", "assistant").member_raw("content", text);
    json.end_object();
    return true;
  };
  if (!copy_choices(body, "text", out, put)) return std::nullopt;
  return out;
}

Result<std::string> edited_completion(std::string_view body, std::string_view edited) {
  std::vector<std::string> texts;
  std::string ignored, out;
  const auto take = [&texts](JsonWriter& json, std::size_t, JsonSlice message) {
    const auto content = member(message, "content");
    if (!content.starts_with('"') && content != "null") return false;
    texts.emplace_back(content);
    json.member_null("message");
    return true;
  };
  const auto put = [&texts](JsonWriter& json, std::size_t index, JsonSlice) {
    if (index >= texts.size()) return false;
    json.member_raw("text", texts[index]);
    return true;
  };
  if (!copy_choices(edited, "message", ignored, take) || !copy_choices(body, "text", out, put)) {
    return Error{ErrorKind::internal, "a ring plugin's reply is no chat completion"};
  }
  return out;
}

}  // namespace llm_proxy
